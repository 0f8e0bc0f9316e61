// SPDX-License-Identifier: MIT
// For targets whose input is a script of packets: reads the script, and puts payloads into IP packets.
#pragma once

#include "detect/Bytes.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace btblock::fuzz {

class Script {
public:
    Script(const std::uint8_t* data, std::size_t size) : at_(data), left_(size) {}
    [[nodiscard]] bool done() const { return left_ == 0; }
    std::uint8_t byte() {
        if (left_ == 0)
            return 0;
        --left_;
        return *at_++;
    }
    unsigned two() {
        const unsigned high = byte();
        return high << 8 | byte();
    }
    // Fewer when the script ends.
    detect::Bytes bytes(std::size_t n) {
        const detect::Bytes taken(at_, std::min(n, left_));
        at_ += taken.size();
        left_ -= taken.size();
        return taken;
    }

private:
    const std::uint8_t* at_;
    std::size_t left_;
};

struct Endpoint {
    std::uint8_t host; // last byte of the address
    std::uint16_t port;
    bool inside; // 10.0.0.HOST or fd00::HOST, otherwise 203.0.113.HOST or 2001:db8::HOST
};

struct Segment {
    std::uint32_t seq = 0;
    std::uint8_t flags = 0x18;
};

// A packet exactly as long as it says. Without a segment it is UDP.
inline std::vector<std::uint8_t> ip_packet(bool v6, Endpoint from, Endpoint to, const Segment* tcp,
                                           detect::Bytes payload) {
    std::vector<std::uint8_t> p;
    const auto put = [&p](std::uint64_t value, int width) {
        for (int shift = 8 * (width - 1); shift >= 0; shift -= 8)
            p.push_back(static_cast<std::uint8_t>(value >> shift));
    };
    const std::size_t rest = (tcp ? 20u : 8u) + payload.size();
    if (v6) {
        put(0x60000000, 4);
        put(rest, 2);
        put(tcp ? 6 : 17, 1);
        put(64, 1);
        for (const Endpoint& e : {from, to}) {
            put(e.inside ? 0xfd00000000000000u : 0x20010db800000000u, 8);
            put(e.host, 8);
        }
    } else {
        put(0x45000000 | ((20 + rest) & 0xffff), 4);
        put(0, 4);
        put(0x40000000u | (tcp ? 6u : 17u) << 16, 4);
        for (const Endpoint& e : {from, to})
            put((e.inside ? 0x0a000000u : 0xcb007100u) | e.host, 4);
    }
    put(from.port, 2);
    put(to.port, 2);
    if (tcp) {
        put(tcp->seq, 4);
        put(0, 4);
        put(0x50, 1);
        put(tcp->flags, 1);
        put(0xffff0000u, 4);
        put(0, 2);
    } else {
        put(rest & 0xffff, 2);
        put(0, 2);
    }
    p.insert(p.end(), payload.begin(), payload.end());
    p.shrink_to_fit(); // the sanitizer sees the first byte read too far
    return p;
}

} // namespace btblock::fuzz
