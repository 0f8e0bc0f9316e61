// SPDX-License-Identifier: MIT
// Builds packets as the BEPs and RFCs describe them, for the tests of src/detect.
#pragma once

#include "detect/Inspector.h"

#include <cstdint>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace btblock::detect::build {

inline Bytes bytes(std::string_view s) {
    return {reinterpret_cast<const std::uint8_t*>(s.data()), s.size()};
}

inline std::string be(std::uint64_t value, int width) {
    std::string s;
    for (int shift = (width - 1) * 8; shift >= 0; shift -= 8)
        s += static_cast<char>(value >> shift & 0xff);
    return s;
}
inline std::string u8(unsigned v) {
    return be(v, 1);
}
inline std::string u16(unsigned v) {
    return be(v, 2);
}
inline std::string u32(std::uint32_t v) {
    return be(v, 4);
}
inline std::string u64(std::uint64_t v) {
    return be(v, 8);
}

// Bencoded string.
inline std::string str(std::string_view s) {
    return std::to_string(s.size()) + ":" + std::string(s);
}

inline std::string random_bytes(std::mt19937_64& rng, std::size_t n) {
    std::string s(n, '\0');
    for (std::size_t i = 0; i < n; i += 8) {
        const std::uint64_t word = rng();
        for (std::size_t k = 0; k < 8 && i + k < n; ++k)
            s[i + k] = static_cast<char>(word >> (8 * k));
    }
    return s;
}

// 20 bytes that look like a hash.
inline std::string hash(unsigned seed) {
    std::mt19937_64 rng(seed);
    return random_bytes(rng, 20);
}
inline const std::string peer_id = "-qB4520-zR7~k!q9Lw2.";

inline std::string escape(std::string_view s, bool upper = true) {
    const char* digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    std::string out;
    for (const char c : s) {
        const auto b = static_cast<std::uint8_t>(c);
        if (is_alnum(b) || c == '-' || c == '.' || c == '_' || c == '~')
            out += c;
        else {
            out += '%';
            out += digits[b >> 4];
            out += digits[b & 15];
        }
    }
    return out;
}

inline std::string compact(unsigned a, unsigned b, unsigned c, unsigned d, unsigned port) {
    return u8(a) + u8(b) + u8(c) + u8(d) + u16(port);
}

inline std::string handshake(std::string_view id = peer_id) {
    return "\x13" + std::string("BitTorrent protocol") + std::string("\0\0\0\0\0\x10\0\x05", 8) + hash(7) +
           std::string(id);
}

inline std::string message(unsigned id, std::string_view body = {}) {
    return u32(static_cast<std::uint32_t>(body.size() + 1)) + u8(id) + std::string(body);
}
inline std::string request(std::uint32_t index, std::uint32_t begin, std::uint32_t length = 16384) {
    return message(6, u32(index) + u32(begin) + u32(length));
}
inline std::string extended(unsigned sub, std::string_view payload) {
    return message(20, u8(sub) + std::string(payload));
}
inline const std::string extension_dict = "d1:ei0e1:md11:ut_metadatai2e6:ut_pexi1ee13:metadata_sizei31235e1:pi51413e"
                                          "4:reqqi512e1:v17:Transmission 3.00e";
inline std::string pex() {
    return "d5:added" + str(compact(198, 51, 100, 7, 6881) + compact(203, 0, 113, 9, 51413)) + "7:added.f" +
           str(std::string("\x01\x12")) + "6:added60:8:added6.f0:7:dropped0:e";
}

inline std::string udp_connect(std::uint32_t tid) {
    return u64(0x41727101980ull) + u32(0) + u32(tid);
}
inline std::string udp_announce(std::uint32_t tid, std::string_view id = peer_id) {
    return u64(0x8f3a60175b12c4d9ull) + u32(1) + u32(tid) + hash(3) + std::string(id) + u64(0) + u64(734003200) +
           u64(0) + u32(2) + u32(0) + u32(0x6b8b4567) + u32(0xffffffff) + u16(51413);
}

inline const std::string dht_ping = "d1:ad2:id20:" + hash(1) + "e1:q4:ping1:t2:aa1:y1:qe";
inline std::string dht_get_peers() {
    return "d1:ad2:id20:" + hash(1) + "9:info_hash20:" + hash(2) + "e1:q9:get_peers1:t2:gp1:v4:LT\x01\x02" + "1:y1:qe";
}
inline std::string dht_reply() {
    return "d2:ip6:" + compact(198, 51, 100, 1, 40000) + "1:rd2:id20:" + hash(4) + "5:nodes52:" + hash(5) +
           compact(203, 0, 113, 4, 6881) + hash(6) + compact(203, 0, 113, 5, 6882) + "5:token4:tokn" + "6:valuesl" +
           str(compact(198, 51, 100, 8, 7000)) + str(compact(198, 51, 100, 9, 7001)) + "ee1:t2:gp1:y1:re";
}

inline std::string announce_request(bool upper = true) {
    return "GET /announce?info_hash=" + escape(hash(9), upper) + "&peer_id=" + escape(peer_id, upper) +
           "&port=51413&uploaded=0&downloaded=0&left=734003200&compact=1&event=started HTTP/1.1\r\n"
           "Host: tracker.example.org:6969\r\nAccept: */*\r\n\r\n";
}

inline bt_addr v4(unsigned a, unsigned b, unsigned c, unsigned d) {
    bt_addr x{};
    x.b[10] = x.b[11] = 0xff;
    const unsigned parts[] = {a, b, c, d};
    for (int i = 0; i < 4; ++i)
        x.b[12 + i] = static_cast<bt_u8>(parts[i]);
    return x;
}

// A client inside and a server outside that talk; every packet goes through one inspector.
class Talk {
public:
    explicit Talk(std::uint8_t proto, std::uint16_t port = 40001, std::size_t capacity = 64) : inspector(capacity) {
        out_.src = v4(10, 0, 0, 2);
        out_.dst = v4(198, 51, 100, 7);
        out_.sport = 50000;
        out_.dport = port;
        out_.proto = proto;
    }
    // The next payload in order, from the client or from the server.
    Finding client(std::string_view s) { return send(out_, s, client_seq_); }
    Finding server(std::string_view s) { return send(mirror(), s, server_seq_); }
    // The same at a chosen place of the client's stream.
    Finding client_at(std::uint32_t offset, std::string_view s) {
        return inspector.inspect({out_, bytes(s), first_seq + offset, true}, now);
    }
    Finding raw(bool from_client, std::string_view s, std::uint32_t seq, bool has_seq) {
        return inspector.inspect({from_client ? out_ : mirror(), bytes(s), seq, has_seq}, now);
    }
    void next_client_port() {
        ++out_.sport;
        client_seq_ = server_seq_ = first_seq;
    }

    static constexpr std::uint32_t first_seq = 0xfffffff0u; // wraps soon
    Inspector inspector;
    std::uint64_t now = 1'000'000'000;
    bool numbered = true;

private:
    bt_tuple mirror() const {
        bt_tuple m = out_;
        std::swap(m.src, m.dst);
        std::swap(m.sport, m.dport);
        return m;
    }
    Finding send(const bt_tuple& t, std::string_view s, std::uint32_t& seq) {
        const bool tcp = t.proto == IPPROTO_TCP;
        const Finding f = inspector.inspect({t, bytes(s), tcp && numbered ? seq : 0, tcp && numbered}, now);
        seq += static_cast<std::uint32_t>(s.size());
        return f;
    }

    bt_tuple out_{};
    std::uint32_t client_seq_ = first_seq, server_seq_ = first_seq;
};

inline Finding one_datagram(std::string_view s) {
    return Talk(IPPROTO_UDP).client(s);
}
inline Finding one_segment(std::string_view s) {
    return Talk(IPPROTO_TCP).client(s);
}
inline bool proves(const Finding& f) {
    return f.judgement == Judgement::proves;
}
inline bool has(const Finding& f, int code) {
    return (f.evidence & BT_EV_BIT(code)) != 0;
}

// No prefix may crash; none shorter than `needed` may prove.
template <typename Inspect> void check_truncations(const std::string& whole, std::size_t needed, Inspect inspect) {
    for (std::size_t n = 0; n < whole.size(); ++n) {
        const std::vector<char> exact(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n)); // for ASan
        const Finding f = inspect(std::string_view(exact.data(), n));
        EXPECT_FALSE(n < needed && proves(f)) << "cut to " << n << " bytes";
    }
}

// Every single bit flipped: no crash; no proof when `structural` says that the byte matters.
template <typename Inspect, typename Structural>
void check_bit_flips(const std::string& whole, Inspect inspect, Structural structural) {
    for (std::size_t i = 0; i < whole.size(); ++i)
        for (int bit = 0; bit < 8; ++bit) {
            std::string flipped = whole;
            flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
            const Finding f = inspect(flipped);
            EXPECT_FALSE(structural(i) && proves(f)) << "byte " << i << " bit " << bit;
        }
}

} // namespace btblock::detect::build
