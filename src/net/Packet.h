// SPDX-License-Identifier: MIT
// A careful reader of IP packets as they appear in captures: any bytes, any truncation.
#pragma once

#include "btblock/abi.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace btblock::net {

// Where things are in one IP packet. All offsets and lengths are bytes from the start of the IP header.
struct IpLayer {
    bt_addr src{}, dst{};
    std::uint8_t protocol = 0;      // upper-layer protocol, after IPv6 extension headers and AH
    std::size_t payload_offset = 0; // where that protocol starts; at most the captured length
    std::size_t length = 0;         // the packet on the wire, without link-layer padding; may exceed the captured bytes
    bool later_fragment = false;    // not the first fragment: the payload is not the start of `protocol`
};

// Reads the IPv4 or IPv6 header at the start of `bytes` (the captured part) and IPv6 extension headers.
// wire_length: how long the packet was from here on the wire (>= bytes.size()).
// Nothing when it is not IP, is malformed, or is cut before the upper-layer protocol is known.
std::optional<IpLayer> parse_ip(std::span<const std::uint8_t> bytes, std::size_t wire_length) noexcept;

// A TCP or UDP packet. The span refers to the bytes handed to parse_packet().
struct ParsedPacket {
    bt_tuple tuple{};                      // ports are 0 for a later fragment
    std::uint32_t payload_offset = 0;      // from the IP header
    std::uint32_t payload_length = 0;      // on the wire; may exceed payload.size()
    std::span<const std::uint8_t> payload; // the captured part of it
    std::uint32_t seq = 0, ack = 0;        // TCP only, host order
    std::uint8_t tcp_flags = 0;            // TCP only, FIN = 1 ... CWR = 128
    bool later_fragment = false;
};

// Nothing unless this is TCP or UDP with at least its ports captured (or a later fragment of such a packet).
// A transport header that is cut or malformed after the ports leaves the payload empty.
std::optional<ParsedPacket> parse_packet(std::span<const std::uint8_t> ip, std::size_t wire_length) noexcept;

} // namespace btblock::net
