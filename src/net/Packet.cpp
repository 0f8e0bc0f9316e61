// SPDX-License-Identifier: MIT
#include "net/Packet.h"

#include <algorithm>
#include <cstring>
#include <netinet/in.h>

namespace btblock::net {

namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr int max_extension_headers = 16;

std::uint16_t be16(Bytes b, std::size_t at) {
    return static_cast<std::uint16_t>(b[at] << 8 | b[at + 1]);
}

std::uint32_t be32(Bytes b, std::size_t at) {
    return static_cast<std::uint32_t>(be16(b, at)) << 16 | be16(b, at + 2);
}

bt_addr v4_address(const std::uint8_t* four) {
    bt_addr a{};
    a.b[10] = a.b[11] = 0xff;
    std::memcpy(a.b + 12, four, 4);
    return a;
}

// AH (RFC 4302) ends in clear text, so it is skipped like an extension header. False: cut.
bool skip_ah(Bytes b, IpLayer& ip) {
    if (b.size() < ip.payload_offset + 2)
        return false;
    const std::size_t length = (b[ip.payload_offset + 1] + 2u) * 4u;
    ip.protocol = b[ip.payload_offset];
    ip.payload_offset += length;
    return ip.payload_offset <= b.size();
}

std::optional<IpLayer> parse_v4(Bytes b, std::size_t wire_length) {
    if (b.size() < 20)
        return std::nullopt;
    IpLayer ip;
    ip.payload_offset = (b[0] & 15u) * 4u;
    if (ip.payload_offset < 20 || ip.payload_offset > b.size())
        return std::nullopt;
    const std::size_t total = be16(b, 2);
    if (total != 0 && total < ip.payload_offset)
        return std::nullopt;
    ip.length = total == 0 ? wire_length : std::min(total, wire_length); // 0: captured before segmentation offload
    ip.later_fragment = (be16(b, 6) & 0x1fff) != 0;
    ip.protocol = b[9];
    ip.src = v4_address(&b[12]);
    ip.dst = v4_address(&b[16]);
    for (int i = 0; ip.protocol == IPPROTO_AH && !ip.later_fragment; ++i)
        if (i == max_extension_headers || !skip_ah(b, ip))
            return std::nullopt;
    return ip;
}

std::optional<IpLayer> parse_v6(Bytes b, std::size_t wire_length) {
    if (b.size() < 40)
        return std::nullopt;
    IpLayer ip;
    ip.payload_offset = 40;
    const std::size_t length = be16(b, 4);
    ip.length = length == 0 ? wire_length : std::min(length + 40, wire_length); // 0: jumbogram or offload
    ip.protocol = b[6];
    std::memcpy(ip.src.b, &b[8], 16);
    std::memcpy(ip.dst.b, &b[24], 16);
    for (int i = 0; i <= max_extension_headers; ++i) {
        switch (ip.protocol) {
        case IPPROTO_HOPOPTS:
        case IPPROTO_ROUTING:
        case IPPROTO_DSTOPTS:
        case IPPROTO_MH:
        case 139: // HIP
        case 140: // Shim6
            if (b.size() < ip.payload_offset + 2)
                return std::nullopt;
            ip.protocol = b[ip.payload_offset];
            ip.payload_offset += (b[ip.payload_offset + 1] + 1u) * 8u;
            if (ip.payload_offset > b.size())
                return std::nullopt;
            break;
        case IPPROTO_AH:
            if (!skip_ah(b, ip))
                return std::nullopt;
            break;
        case IPPROTO_FRAGMENT:
            if (b.size() < ip.payload_offset + 8)
                return std::nullopt;
            ip.protocol = b[ip.payload_offset];
            ip.later_fragment = (be16(b, ip.payload_offset + 2) & 0xfff8) != 0;
            ip.payload_offset += 8;
            if (ip.later_fragment)
                return ip; // what follows is the middle of a packet
            break;
        default: return ip;
        }
    }
    return std::nullopt;
}

} // namespace

std::optional<IpLayer> parse_ip(Bytes bytes, std::size_t wire_length) noexcept {
    if (bytes.empty())
        return std::nullopt;
    wire_length = std::max(wire_length, bytes.size());
    switch (bytes[0] >> 4) {
    case 4: return parse_v4(bytes, wire_length);
    case 6: return parse_v6(bytes, wire_length);
    default: return std::nullopt;
    }
}

std::optional<ParsedPacket> parse_packet(Bytes bytes, std::size_t wire_length) noexcept {
    const auto ip = parse_ip(bytes, wire_length);
    if (!ip || (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP))
        return std::nullopt;

    ParsedPacket p;
    p.tuple.src = ip->src;
    p.tuple.dst = ip->dst;
    p.tuple.proto = ip->protocol;
    p.later_fragment = ip->later_fragment;
    bytes = bytes.first(std::min(bytes.size(), ip->length));
    const std::size_t at = ip->payload_offset;
    p.payload_offset = static_cast<std::uint32_t>(at);
    if (p.later_fragment)
        return p;
    if (bytes.size() < at + 4)
        return std::nullopt;
    p.tuple.sport = be16(bytes, at);
    p.tuple.dport = be16(bytes, at + 2);

    std::size_t header = 8;
    std::size_t end = ip->length;
    if (ip->protocol == IPPROTO_TCP) {
        if (bytes.size() < at + 20)
            return p;
        p.seq = be32(bytes, at + 4);
        p.ack = be32(bytes, at + 8);
        p.tcp_flags = bytes[at + 13];
        header = (bytes[at + 12] >> 4) * 4u;
        if (header < 20)
            return p;
    } else {
        if (bytes.size() < at + 8)
            return p;
        const std::size_t length = be16(bytes, at + 4);
        if (length != 0) // 0: jumbogram or offload
            end = std::min(end, at + length);
    }
    p.payload_offset = static_cast<std::uint32_t>(at + header);
    if (end <= at + header)
        return p;
    p.payload_length = static_cast<std::uint32_t>(end - at - header);
    if (bytes.size() > at + header)
        p.payload = bytes.subspan(at + header, std::min(bytes.size() - at - header, end - at - header));
    return p;
}

} // namespace btblock::net
