// SPDX-License-Identifier: MIT
// From a captured frame to the IP packet that carries TCP or UDP.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace btblock::net {

struct IpPacket {
    std::span<const std::uint8_t> bytes; // captured part, from the IP header, without link-layer padding
    std::size_t wire_length = 0;         // length on the wire from the IP header; >= bytes.size()
};

// True for the link types (libpcap DLT_ numbers) that decapsulate() reads.
bool link_type_supported(int link_type) noexcept;

// Follows link-layer headers, VLAN tags (802.1Q, 802.1ad, stacked), MPLS, PPP and PPPoE, IP in IP, 6in4 and GRE, up to
// a fixed depth, to the first IPv4 or IPv6 packet that carries TCP or UDP (a later fragment of one included). Tunnels
// inside UDP (Teredo, GTP, VXLAN) are not opened. Nothing when there is no such packet or the capture cut it.
// The result refers to the bytes of `frame`. wire_length: the frame's length on the wire.
std::optional<IpPacket> decapsulate(int link_type, std::span<const std::uint8_t> frame,
                                    std::size_t wire_length) noexcept;

} // namespace btblock::net
