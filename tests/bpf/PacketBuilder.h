// SPDX-License-Identifier: MIT
// Packet: builds frames for the tests of the packet path. Lengths are right unless a test sets them otherwise;
// checksums are zero, nothing under test reads them.
#pragma once

#include "net/Address.h"

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace btblock::test {

inline std::string be(std::uint64_t value, int width) {
    std::string s;
    for (int shift = (width - 1) * 8; shift >= 0; shift -= 8)
        s += static_cast<char>(value >> shift & 0xff);
    return s;
}

inline bt_addr address(std::string_view text) {
    const auto parsed = net::Address::parse(text);
    if (!parsed)
        throw std::invalid_argument("not an address: " + std::string(text));
    return parsed->raw();
}

enum TcpFlag : unsigned { fin = 1, syn = 2, rst = 4, psh = 8, ack = 16 };

class Packet {
public:
    static Packet udp(std::string_view from, std::uint16_t sport, std::string_view to, std::uint16_t dport) {
        return {17, from, sport, to, dport};
    }
    static Packet tcp(std::string_view from, std::uint16_t sport, std::string_view to, std::uint16_t dport) {
        return {6, from, sport, to, dport};
    }

    // The same connection in the other direction; everything else stays.
    [[nodiscard]] Packet reply() const {
        Packet p = *this;
        std::swap(p.src_, p.dst_);
        std::swap(p.sport_, p.dport_);
        return p;
    }
    // A tag outside those already there: 0x8100 802.1Q, 0x88a8 802.1ad.
    Packet& vlan(unsigned id, unsigned type = 0x8100) {
        tags_.insert(tags_.begin(), {type, id});
        return *this;
    }
    Packet& qinq(unsigned outer, unsigned inner) { return vlan(inner).vlan(outer, 0x88a8); }
    // IPv4: `words` times four bytes of no-operation.
    Packet& ip_options(unsigned words) {
        ip_option_words_ = words;
        return *this;
    }
    // offset in units of 8 bytes. IPv6 gets a fragment header.
    Packet& fragment(unsigned offset, bool more) {
        fragmented_ = true;
        fragment_ = offset << 3 | (more ? 1u : 0u);
        return *this;
    }
    // IPv6: one more extension header. 0 hop-by-hop, 43 routing, 60 destination options: size is a multiple of 8;
    // 51 AH: a multiple of 4, at least 12.
    Packet& extension(unsigned type, unsigned size = 8) {
        extensions_.emplace_back(type, size);
        return *this;
    }
    Packet& tcp_options(unsigned words) {
        tcp_option_words_ = words;
        return *this;
    }
    Packet& acknowledges(std::uint32_t value) {
        ack_ = value;
        return *this;
    }
    Packet& seq(std::uint32_t value) {
        seq_ = value;
        return *this;
    }
    Packet& flags(unsigned value) {
        flags_ = value;
        return *this;
    }
    Packet& payload(std::string value) {
        payload_ = std::move(value);
        return *this;
    }
    // What the IP header claims instead of the truth.
    Packet& ip_length(unsigned value) {
        ip_length_ = static_cast<int>(value);
        return *this;
    }
    Packet& endpoints(const bt_addr& from, const bt_addr& to) {
        src_ = from;
        dst_ = to;
        return *this;
    }

    [[nodiscard]] bool is_v4() const { return net::Address(src_).is_v4(); }
    [[nodiscard]] bool is_tcp() const { return proto_ == 6; }
    [[nodiscard]] const std::string& payload() const { return payload_; }
    [[nodiscard]] bt_tuple tuple() const { return {src_, dst_, sport_, dport_, static_cast<bt_u8>(proto_), {}}; }
    // From the IP header on.
    [[nodiscard]] std::string ip() const { return is_v4() ? v4() : v6(); }
    // From the Ethernet header on.
    [[nodiscard]] std::string frame() const {
        std::string f = "\x02\x02\x02\x02\x02\x02\x02\x01\x01\x01\x01\x01";
        for (const auto& [type, id] : tags_)
            f += be(type, 2) + be(id, 2);
        return f + be(is_v4() ? 0x0800 : 0x86dd, 2) + ip();
    }
    // Bytes of the frame before the payload.
    [[nodiscard]] std::size_t header_size() const { return frame().size() - payload_.size(); }

private:
    Packet(unsigned proto, std::string_view from, std::uint16_t sport, std::string_view to, std::uint16_t dport)
        : proto_(proto), src_(address(from)), dst_(address(to)), sport_(sport), dport_(dport) {}

    [[nodiscard]] std::string transport() const {
        if (proto_ == 17)
            return be(sport_, 2) + be(dport_, 2) + be(8 + payload_.size(), 2) + be(0, 2) + payload_;
        return be(sport_, 2) + be(dport_, 2) + be(seq_, 4) + be(ack_, 4) + be((5 + tcp_option_words_) << 4, 1) +
               be(flags_, 1) + be(65535, 2) + be(0, 4) + std::string(4 * tcp_option_words_, '\x01') + payload_;
    }
    [[nodiscard]] std::string v4() const {
        const std::string rest = std::string(4 * ip_option_words_, '\x01') + transport();
        return be(0x40 | (5 + ip_option_words_), 1) + be(0, 1) +
               be(ip_length_ < 0 ? 20 + rest.size() : static_cast<unsigned>(ip_length_), 2) + be(7, 2) +
               be((fragment_ & 1) << 13 | fragment_ >> 3, 2) + be(64, 1) + be(proto_, 1) + be(0, 2) + four(src_) +
               four(dst_) + rest;
    }
    [[nodiscard]] std::string v6() const {
        std::vector<std::pair<unsigned, unsigned>> chain = extensions_;
        if (fragmented_)
            chain.emplace_back(44u, 8u);
        std::string rest;
        for (std::size_t i = 0; i < chain.size(); ++i) {
            const auto [type, size] = chain[i];
            const unsigned next = i + 1 < chain.size() ? chain[i + 1].first : proto_;
            const unsigned length = type == 44 ? 0 : type == 51 ? size / 4 - 2 : size / 8 - 1;
            rest +=
                be(next, 1) + be(length, 1) + (type == 44 ? be(fragment_, 2) + be(7, 4) : std::string(size - 2, '\0'));
        }
        rest += transport();
        return be(0x60000000, 4) + be(ip_length_ < 0 ? rest.size() : static_cast<unsigned>(ip_length_), 2) +
               be(chain.empty() ? proto_ : chain[0].first, 1) + be(64, 1) + sixteen(src_) + sixteen(dst_) + rest;
    }
    static std::string sixteen(const bt_addr& a) { return {reinterpret_cast<const char*>(a.b), 16}; }
    static std::string four(const bt_addr& a) { return {reinterpret_cast<const char*>(a.b) + 12, 4}; }

    unsigned proto_;
    bt_addr src_, dst_;
    std::uint16_t sport_, dport_;
    std::vector<std::pair<unsigned, unsigned>> tags_; // outermost first
    std::vector<std::pair<unsigned, unsigned>> extensions_;
    unsigned ip_option_words_ = 0, tcp_option_words_ = 0, fragment_ = 0;
    bool fragmented_ = false;
    int ip_length_ = -1;
    std::uint32_t seq_ = 1000, ack_ = 1;
    unsigned flags_ = ack | psh;
    std::string payload_;
};

} // namespace btblock::test
