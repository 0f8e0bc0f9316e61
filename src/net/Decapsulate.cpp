// SPDX-License-Identifier: MIT
#include "net/Decapsulate.h"

#include "net/Packet.h"

#include <algorithm>
#include <cstring>
#include <netinet/in.h>
#include <pcap/dlt.h>

namespace btblock::net {

namespace {

constexpr int max_layers = 24;

// What the bytes at the cursor are.
enum class Layer {
    ethernet,
    ether_type, // the type or length is already known, in Cursor::type
    ip,
    ppp, // with or without address and control bytes
    pppoe,
    mpls,
    gre,
    llc,
    chdlc, // Cisco HDLC: address, control, EtherType
    frame_relay,
    cooked,   // Linux "any" device, version 1
    cooked_2, // version 2
    loopback, // BSD: an address family
    enc,      // OpenBSD IPsec: an address family and more
    pflog,
    nflog,
    pktap, // macOS: names the link type that follows
    firewire,
    unknown,
};

struct LinkType {
    int number;
    Layer layer;
    std::size_t prefix = 0; // bytes before it
};

constexpr LinkType link_types[] = {
    {DLT_EN10MB, Layer::ethernet},
    {DLT_NETANALYZER, Layer::ethernet, 4},
    {12, Layer::ip}, // "raw IP" has had three numbers on different systems
    {14, Layer::ip},
    {101, Layer::ip},
    {DLT_IPV4, Layer::ip},
    {DLT_IPV6, Layer::ip},
    {DLT_LINUX_SLL, Layer::cooked},
    {DLT_LINUX_SLL2, Layer::cooked_2},
    {DLT_NULL, Layer::loopback},
    {DLT_LOOP, Layer::loopback},
    {DLT_ENC, Layer::enc},
    {DLT_PFLOG, Layer::pflog},
    {DLT_NFLOG, Layer::nflog},
    {DLT_PPP, Layer::ppp},
    {DLT_PPP_SERIAL, Layer::ppp},
    {DLT_PPP_PPPD, Layer::ppp, 1}, // after the direction
    {DLT_PPP_WITH_DIR, Layer::ppp, 1},
    {DLT_PPP_ETHER, Layer::pppoe},
    {DLT_C_HDLC, Layer::chdlc},
    {DLT_C_HDLC_WITH_DIR, Layer::chdlc, 1},
    {DLT_FRELAY, Layer::frame_relay},
    {DLT_FRELAY_WITH_DIR, Layer::frame_relay, 1},
    {DLT_ATM_RFC1483, Layer::llc},
    {DLT_MPLS, Layer::mpls},
    {DLT_APPLE_IP_OVER_IEEE1394, Layer::firewire},
    {DLT_PKTAP, Layer::pktap},
};

const LinkType* find_link_type(int number) noexcept {
    const auto* found = std::ranges::find(link_types, number, &LinkType::number);
    return found == std::end(link_types) ? nullptr : found;
}

struct Cursor {
    std::span<const std::uint8_t> bytes; // what is left of the captured part
    std::size_t wire;                    // what is left on the wire
    Layer layer = Layer::unknown;
    std::uint16_t type = 0;

    [[nodiscard]] bool has(std::size_t n) const { return bytes.size() >= n; }
    [[nodiscard]] std::uint16_t be16(std::size_t at) const {
        return static_cast<std::uint16_t>(bytes[at] << 8 | bytes[at + 1]);
    }
    [[nodiscard]] std::uint32_t be32(std::size_t at) const {
        return static_cast<std::uint32_t>(be16(at)) << 16 | be16(at + 2);
    }
    // Cursor n bytes on (n must be captured), looking at `next`.
    bool step(std::size_t n, Layer next, std::uint16_t next_type = 0) {
        if (!has(n))
            return false;
        bytes = bytes.subspan(n);
        wire -= std::min(wire, n);
        layer = next;
        type = next_type;
        return true;
    }
};

// Address family numbers of the systems that write such captures (IPv6 differs everywhere), in either byte order;
// some writers put an EtherType there.
bool is_ip_family(std::uint32_t value) {
    for (const std::uint32_t family : {value, __builtin_bswap32(value)})
        if (family == 2 || family == 10 || family == 24 || family == 28 || family == 30 ||
            (family & 0xffff) == 0x0800 || (family & 0xffff) == 0x86dd)
            return true;
    return false;
}

bool by_ether_type(Cursor& c) {
    switch (c.type) {
    case 0x0800:
    case 0x86dd: return c.step(0, Layer::ip);
    case 0x8100: // 802.1Q
    case 0x88a8: // 802.1ad
    case 0x9100: // older QinQ
    case 0x9200:
    case 0x9300: return c.has(4) && c.step(4, Layer::ether_type, c.be16(2));
    case 0x8847:
    case 0x8848: return c.step(0, Layer::mpls);
    case 0x8864: return c.step(0, Layer::pppoe);
    case 0x880b: return c.step(0, Layer::ppp);
    case 0x6558: return c.step(0, Layer::ethernet);          // transparent Ethernet bridging
    default: return c.type <= 1500 && c.step(0, Layer::llc); // a length (802.3), or "802.2" in a cooked header
    }
}

bool skip_llc(Cursor& c) {
    if (c.has(8) && c.be16(0) == 0xaaaa && c.bytes[2] == 3) { // SNAP
        const std::uint32_t oui = c.be32(2) & 0xffffff;
        // the plain one, and the one of 802.1H bridge tunnels
        return (oui == 0 || oui == 0x0000f8) && c.be16(6) > 1500 && c.step(8, Layer::ether_type, c.be16(6));
    }
    if (c.has(3) && c.be16(0) == 0x0606 && c.bytes[2] == 3) // IP with an LLC SAP of its own
        return c.step(3, Layer::ip);
    return false;
}

bool by_ppp_protocol(Cursor& c, std::size_t header, std::uint16_t protocol) {
    switch (protocol) {
    case 0x0021:
    case 0x0057: return c.step(header, Layer::ip);
    case 0x0281:
    case 0x0283: return c.step(header, Layer::mpls);
    default: return false;
    }
}

bool skip_ppp(Cursor& c) {
    std::size_t at = 0;
    if (c.has(4) && (c.bytes[0] == 0x0f || c.bytes[0] == 0x8f) && c.bytes[1] == 0)
        return c.step(0, Layer::chdlc); // the PPP serial link type holds either
    if (c.has(2) && c.bytes[0] == 0xff && c.bytes[1] == 0x03)
        at = 2;
    if (!c.has(at + 2))
        return false;
    if (c.bytes[at] & 1) // protocol field compressed to one byte
        return by_ppp_protocol(c, at + 1, c.bytes[at]);
    return by_ppp_protocol(c, at + 2, c.be16(at));
}

bool skip_pppoe(Cursor& c) {
    // version and type 1, code 0: session data
    return c.has(6) && c.bytes[0] == 0x11 && c.bytes[1] == 0 && c.step(6, Layer::ppp);
}

bool skip_mpls(Cursor& c) {
    for (int labels = 0; labels < max_layers && c.has(4); ++labels) {
        const bool bottom = c.bytes[2] & 1;
        c.step(4, Layer::unknown);
        if (!bottom)
            continue;
        if (!c.has(1))
            return false;
        const int nibble = c.bytes[0] >> 4;
        if (nibble == 4 || nibble == 6)
            return c.step(0, Layer::ip);
        return nibble == 0 && c.step(4, Layer::ethernet); // pseudowire with a control word
    }
    return false;
}

bool skip_gre(Cursor& c) {
    if (!c.has(4))
        return false;
    const std::uint16_t flags = c.be16(0);
    const std::uint16_t protocol = c.be16(2);
    std::size_t header = 4;
    if ((flags & 7) == 1) { // PPTP (RFC 2637): the key is always there
        header += 4u + (flags & 0x1000 ? 4 : 0) + (flags & 0x0080 ? 4 : 0);
        return protocol == 0x880b && c.step(header, Layer::ppp);
    }
    if ((flags & 7) != 0)
        return false;
    if (flags & 0xc000) // checksum and offset share one word
        header += 4;
    header += (flags & 0x2000 ? 4u : 0u) + (flags & 0x1000 ? 4u : 0u);
    if (flags & 0x4000) { // source routes, ended by an empty one
        for (int i = 0;; ++i) {
            if (i == max_layers || !c.has(header + 4))
                return false;
            const std::size_t length = c.bytes[header + 3];
            const bool last = length == 0 && c.be16(header) == 0;
            header += 4 + length;
            if (last)
                break;
        }
    }
    if (protocol == 0x88be) // ERSPAN: type II (with a sequence number) has a header of 8
        return c.step(header + (flags & 0x1000 ? 8 : 0), Layer::ethernet);
    if (protocol == 0x883e) { // WCCP: a redirect header of 4, or none
        if (!c.step(header, Layer::ip) || !c.has(1))
            return false;
        return c.bytes[0] >> 4 == 4 || c.step(4, Layer::ip);
    }
    return protocol > 1500 && c.step(header, Layer::ether_type, protocol);
}

bool skip_frame_relay(Cursor& c) {
    // two address bytes, UI, then the NLPID: IPv4, IPv6 or SNAP
    if (!c.has(4) || (c.bytes[0] & 1) || !(c.bytes[1] & 1) || c.bytes[2] != 3)
        return false;
    switch (c.bytes[3]) {
    case 0xcc:
    case 0x8e: return c.step(4, Layer::ip);
    case 0xcf: return c.step(4, Layer::ppp);
    case 0x00: // padding before SNAP
        return c.has(10) && c.bytes[4] == 0x80 && (c.be32(4) & 0xffffff) == 0 &&
               c.step(10, Layer::ether_type, c.be16(8));
    default: return false;
    }
}

// NFLOG: attributes in host byte order (libpcap swaps them); number 9 holds the packet.
bool skip_nflog(Cursor& c) {
    if (!c.has(4))
        return false;
    c.step(4, Layer::unknown);
    while (c.has(4)) {
        std::uint16_t length, type;
        std::memcpy(&length, &c.bytes[0], 2);
        std::memcpy(&type, &c.bytes[2], 2);
        if (length < 4)
            return false;
        if ((type & 0x3fff) == 9)
            return c.step(4, Layer::ip);
        if (!c.step((length + 3u) & ~3u, Layer::unknown))
            return false;
    }
    return false;
}

// PKTAP: little-endian header length at 0, link type of what follows at 8.
bool skip_pktap(Cursor& c) {
    if (!c.has(12))
        return false;
    const std::uint32_t length = __builtin_bswap32(c.be32(0));
    const LinkType* inner = find_link_type(static_cast<int>(__builtin_bswap32(c.be32(8))));
    return length >= 12 && inner && inner->layer != Layer::pktap && c.step(length, Layer::unknown) &&
           c.step(inner->prefix, inner->layer);
}

// One header on. False: nothing that can carry IP, or cut.
bool advance(Cursor& c) {
    switch (c.layer) {
    case Layer::ethernet: return c.has(14) && c.step(14, Layer::ether_type, c.be16(12));
    case Layer::ether_type: return by_ether_type(c);
    case Layer::ppp: return skip_ppp(c);
    case Layer::pppoe: return skip_pppoe(c);
    case Layer::mpls: return skip_mpls(c);
    case Layer::gre: return skip_gre(c);
    case Layer::llc: return skip_llc(c);
    case Layer::chdlc: return c.has(4) && c.step(4, Layer::ether_type, c.be16(2));
    case Layer::frame_relay: return skip_frame_relay(c);
    case Layer::cooked: return c.has(16) && c.step(16, Layer::ether_type, c.be16(14));
    case Layer::cooked_2: return c.has(20) && c.step(20, Layer::ether_type, c.be16(0));
    case Layer::loopback: return c.has(4) && is_ip_family(c.be32(0)) && c.step(4, Layer::ip);
    case Layer::enc: return c.has(12) && is_ip_family(c.be32(0)) && c.step(12, Layer::ip);
    case Layer::pflog: // its own length (to be rounded up to 4), then the address family
        return c.has(2) && is_ip_family(c.bytes[1]) && c.step((c.bytes[0] + 3u) & ~3u, Layer::ip);
    case Layer::nflog: return skip_nflog(c);
    case Layer::pktap: return skip_pktap(c);
    case Layer::firewire: return c.has(18) && c.step(18, Layer::ether_type, c.be16(16));
    case Layer::ip:
    case Layer::unknown: break;
    }
    return false;
}

// What a tunnel's IP header leads to.
Layer inner_layer(std::uint8_t protocol) {
    switch (protocol) {
    case IPPROTO_IPIP:
    case IPPROTO_IPV6: return Layer::ip;
    case IPPROTO_GRE: return Layer::gre;
    case IPPROTO_MPLS: return Layer::mpls;
    default: return Layer::unknown;
    }
}

} // namespace

bool link_type_supported(int link_type) noexcept {
    return find_link_type(link_type) != nullptr;
}

std::optional<IpPacket> decapsulate(int link_type, std::span<const std::uint8_t> frame,
                                    std::size_t wire_length) noexcept {
    const LinkType* type = find_link_type(link_type);
    Cursor c{frame, std::max(wire_length, frame.size())};
    if (!type || !c.step(type->prefix, type->layer))
        return std::nullopt;
    for (int layers = 0; layers < max_layers; ++layers) {
        if (c.layer != Layer::ip) {
            if (!advance(c))
                return std::nullopt;
            continue;
        }
        const auto ip = parse_ip(c.bytes, c.wire);
        if (!ip)
            return std::nullopt;
        const IpPacket packet{c.bytes.first(std::min(c.bytes.size(), ip->length)), ip->length};
        if (ip->protocol == IPPROTO_TCP || ip->protocol == IPPROTO_UDP)
            return packet;
        const Layer inner = inner_layer(ip->protocol);
        if (inner == Layer::unknown || ip->later_fragment)
            return std::nullopt;
        c = Cursor{packet.bytes, packet.wire_length};
        if (!c.step(ip->payload_offset, inner))
            return std::nullopt;
    }
    return std::nullopt;
}

} // namespace btblock::net
