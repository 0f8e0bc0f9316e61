// SPDX-License-Identifier: MIT
#include "event/DetectionLog.h"

#include "core/Evidence.h"

#include <algorithm>
#include <iterator>
#include <span>

#include <spdlog/fmt/fmt.h>

namespace btblock::event {
namespace {

constexpr std::size_t row = 16;

bool is_printable(std::uint8_t byte) noexcept {
    return byte >= 0x20 && byte <= 0x7e;
}

std::string end_of(const std::optional<net::Address>& address, std::uint16_t port) {
    return fmt::format("{}:{}", address ? address->to_string() : "", port); // no brackets around IPv6
}

void hex_dump(std::string& out, std::span<const std::uint8_t> bytes) {
    for (std::size_t at = 0; at < bytes.size(); at += row) {
        const auto part = bytes.subspan(at, std::min(row, bytes.size() - at));
        fmt::format_to(std::back_inserter(out), "{:08x}  ", at);
        for (std::size_t i = 0; i < row; ++i) {
            if (i < part.size())
                fmt::format_to(std::back_inserter(out), "{:02x} ", part[i]);
            else
                out += "   ";
            if (i == row / 2 - 1)
                out += ' ';
        }
        out += " |";
        for (const std::uint8_t byte : part)
            out += is_printable(byte) ? static_cast<char>(byte) : '.';
        out += "|\n";
    }
}

void text_dump(std::string& out, std::span<const std::uint8_t> bytes) {
    for (const std::uint8_t byte : bytes)
        out += is_printable(byte) || byte == '\n' || byte == '\r' || byte == '\t' ? static_cast<char>(byte) : '.';
}

} // namespace

std::string detection_block(const Event& event, const PacketStart& packet) {
    const std::span bytes(packet.bytes.data(), std::min(packet.bytes.size(), PacketStart::most));
    std::string block(80, '=');
    const auto line = [&block](std::string_view label, std::string_view value) {
        fmt::format_to(std::back_inserter(block), "\n{:<14}{}", label, value);
    };
    line("Timestamp:", log_time(event.time_ns));
    line("Interface:", event.in_iface);
    line("Protocol:", proto_name(event.proto));
    line("Source:", end_of(event.src, event.src_port));
    line("Destination:", end_of(event.dst, event.dst_port));
    line("Detection:", evidence_string(event.evidence));
    line("Payload Size:", fmt::format("{} bytes", packet.size));
    if (packet.size > bytes.size() && !bytes.empty())
        fmt::format_to(std::back_inserter(block), " (showing first {} bytes)", bytes.size());
    block += "\n\nHex Dump:\n";
    if (bytes.empty())
        block += "(empty)";
    hex_dump(block, bytes);
    block += "\n\nASCII (printable only):\n";
    if (bytes.empty())
        block += "(empty)";
    text_dump(block, bytes);
    return block + "\n\n";
}

Result<std::unique_ptr<DetectionLog>> DetectionLog::open(std::string path) {
    auto file = AppendFile::open(std::move(path), {.what = "detection log", .secret = true});
    if (!file)
        return file.error();
    return std::unique_ptr<DetectionLog>(new DetectionLog(std::move(*file)));
}

void DetectionLog::write_packet(const Event& event, const PacketStart& packet) {
    file_.append(detection_block(event, packet));
}

} // namespace btblock::event
