// SPDX-License-Identifier: MIT
// Reads pcap and pcapng files, one packet after the other.
#pragma once

#include "core/Result.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace btblock::net {

struct CapturedPacket {
    std::uint64_t number = 0;            // 1-based within the file
    std::uint64_t time_ns = 0;           // since the epoch
    std::span<const std::uint8_t> bytes; // the captured part; valid until next(), see next_keeps()
    std::size_t wire_length = 0;         // >= bytes.size()
};

class CaptureReader {
public:
    // `path` is a regular file, or "-" for standard input. Refuses directories, devices, FIFOs, files that are not a
    // pcap or pcapng capture and link types that decapsulate() does not read; every error names the file.
    static Result<CaptureReader> open(const std::string& path);

    CaptureReader(CaptureReader&&) noexcept;
    CaptureReader& operator=(CaptureReader&&) noexcept;
    ~CaptureReader();

    // The libpcap DLT_ number, and its name ("EN10MB").
    [[nodiscard]] int link_type() const noexcept;
    [[nodiscard]] std::string link_type_name() const;

    // True: `packet` holds the next packet. False: the end. An error (a file cut short or damaged, an interface that
    // libpcap refuses) names the file and the packet; the packets before it have been delivered and no more will be.
    Result<bool> next(CapturedPacket& packet);
    // Whether next() would deliver a packet without taking the bytes of those before it.
    [[nodiscard]] bool next_keeps() const noexcept;

private:
    struct State;
    explicit CaptureReader(std::unique_ptr<State> state) noexcept;
    std::unique_ptr<State> state_;
};

} // namespace btblock::net
