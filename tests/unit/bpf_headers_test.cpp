// SPDX-License-Identifier: MIT
// include/btblock/{parse,detect}.h as pure functions: right on the wire forms, silent on anything a byte away from
// them.
#include "bpf/Scenarios.h"

#include <cstring>
#include <gtest/gtest.h>

struct bt_ctx {
    const unsigned char* data;
    bt_u32 size;
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#define BT_HAVE_CTX
#include "btblock/wire.h"
// NOLINTNEXTLINE: the names that head.h asks for
static int bt_load(bt_ctx* c, bt_u32 offset, void* to, bt_u32 length) {
    if (offset > c->size || length > c->size - offset)
        return -1;
    std::memcpy(to, c->data + offset, length);
    return 0;
}
static bt_u32 bt_total(const bt_ctx* c) {
    return c->size;
}
#include "btblock/detect.h"
#include "btblock/parse.h"
#pragma GCC diagnostic pop

namespace btblock::test {
namespace {

bt_head head(const std::string& payload) {
    bt_ctx c{reinterpret_cast<const unsigned char*>(payload.data()), static_cast<bt_u32>(payload.size())};
    bt_head h{};
    if (!payload.empty()) {
        EXPECT_EQ(bt_load_head(&c, 0, c.size, &h), 0);
    }
    return h;
}

bt_facts udp_facts(const std::string& payload, std::uint16_t sport = 5000, std::uint16_t dport = 6000) {
    bt_tuple t{};
    t.proto = 17;
    t.sport = sport;
    t.dport = dport;
    const bt_head h = head(payload);
    bt_facts x{};
    bt_udp_facts(&t, &h, &x);
    return x;
}

bt_facts tcp_facts(const std::string& payload, bt_u8 matched = 0) {
    const bt_head h = head(payload);
    bt_facts x{};
    bt_tcp_facts(&h, matched, &x);
    return x;
}

// How many of the single-byte changes of payload[0, fixed) still give `code`.
unsigned survivors(const std::string& payload, std::size_t fixed, bt_u8 code) {
    unsigned count = 0;
    for (std::size_t i = 0; i < fixed; ++i)
        for (int bit = 0; bit < 8; ++bit) {
            std::string changed = payload;
            changed[i] = static_cast<char>(changed[i] ^ 1 << bit);
            count += udp_facts(changed).evidence == code;
        }
    return count;
}

TEST(FastDetectors, DatagramForms) {
    EXPECT_EQ(udp_facts(dht_query()).evidence, BT_EV_DHT_QUERY);
    EXPECT_EQ(udp_facts(dht_response()).evidence, BT_EV_DHT_RESPONSE);
    EXPECT_EQ(udp_facts(dht_error()).evidence, BT_EV_DHT_ERROR);
    EXPECT_EQ(udp_facts("d1:eli203e1:xe1:y1:ee").evidence, BT_EV_DHT_ERROR);
    EXPECT_EQ(udp_facts(dht_bep42(6)).evidence, BT_EV_DHT_RESPONSE);
    EXPECT_EQ(udp_facts(dht_bep42(18)).evidence, BT_EV_DHT_RESPONSE);
    EXPECT_EQ(udp_facts(azureus_dht_request(4)).azureus, BT_EV_DHT_QUERY);
    EXPECT_EQ(udp_facts(azureus_dht_request(16)).azureus, BT_EV_DHT_QUERY);
    EXPECT_EQ(udp_facts(azureus_dht_reply(1025)).azureus, BT_EV_DHT_RESPONSE);
    EXPECT_EQ(udp_facts(azureus_dht_reply(1032)).azureus, BT_EV_DHT_ERROR);
    EXPECT_EQ(udp_facts(tracker_connect()).evidence, BT_EV_TRACKER_UDP_CONNECT);
    EXPECT_EQ(udp_facts(tracker_announce()).evidence, BT_EV_TRACKER_UDP_ANNOUNCE);
    for (const std::string& other :
         {tls_hello(), quic_initial(), stun_request(), dtls_hello(), dns_query(), wireguard_init(), ntp_request(),
          utp(4, 1, 1, 0), std::string(200, 'd'), std::string(200, '\0')})
        EXPECT_EQ(udp_facts(other).evidence, BT_EV_NONE);
    for (const std::string& other : {tracker_connect(), tracker_announce(), dht_query(), stun_request(), dns_query()})
        EXPECT_EQ(udp_facts(other).azureus, BT_EV_NONE);
}

// Every fixed bit counts: no single flipped bit may still prove the same.
TEST(FastDetectors, EachFlippedBitOfTheFixedPartsDenies) {
    EXPECT_EQ(survivors(dht_query(), 12, BT_EV_DHT_QUERY), 0u);
    EXPECT_EQ(survivors(dht_response(), 12, BT_EV_DHT_RESPONSE), 0u);
    EXPECT_EQ(survivors(dht_error(), 6, BT_EV_DHT_ERROR), 0u);
    EXPECT_EQ(survivors(tracker_connect(), 12, BT_EV_TRACKER_UDP_CONNECT), 0u);
    EXPECT_EQ(survivors(dht_bep42(6), 7, BT_EV_DHT_RESPONSE), 0u);
    EXPECT_EQ(survivors(dht_bep42(18), 8, BT_EV_DHT_RESPONSE), 0u);
    for (const auto& [payload, at] : {std::pair{dht_bep42(6), 13}, std::pair{dht_bep42(18), 26}}) {
        for (int i = at; i < at + 8; ++i) {
            std::string changed = payload;
            changed[static_cast<std::size_t>(i)] = static_cast<char>(changed[static_cast<std::size_t>(i)] ^ 1);
            EXPECT_EQ(udp_facts(changed).evidence, BT_EV_NONE) << i;
        }
    }
    for (std::size_t i = 0; i < handshake_text.size(); ++i) {
        std::string changed = handshake();
        changed[i] = static_cast<char>(changed[i] ^ 0x20);
        const bt_facts x = tcp_facts(changed);
        EXPECT_FALSE(x.is_handshake);
        EXPECT_EQ(x.matched, 0);
    }
    for (const unsigned width :
         {4u, 16u}) // not: the ids, who sends, the lowest bits of action, vendor, network, versions
        for (const std::size_t i :
             {0u, 8u, 9u, 10u, 11u, 16u, 17u, 18u, 19u, 20u, 21u, 22u, 23u, 30u + width, 31u + width}) {
            std::string changed = azureus_dht_request(width);
            changed[i] = static_cast<char>(changed[i] ^ 0x80);
            EXPECT_EQ(udp_facts(changed).azureus, BT_EV_NONE) << width << " " << i;
        }
    for (const std::size_t i : {0u, 1u, 2u, 3u, 8u, 16u, 17u, 18u, 19u, 20u, 21u}) {
        std::string changed = azureus_dht_reply(1029);
        changed[i] = static_cast<char>(changed[i] ^ 0x80);
        EXPECT_EQ(udp_facts(changed).azureus, BT_EV_NONE) << i;
    }
    const std::string good = tracker_announce();
    for (const int i : {8, 9, 10, 11, 36, 43, 56, 57, 72, 73, 80, 81, 82, 92}) {
        std::string changed = good;
        changed[static_cast<std::size_t>(i)] = static_cast<char>(changed[static_cast<std::size_t>(i)] ^ 0x80);
        EXPECT_EQ(udp_facts(changed).evidence, BT_EV_NONE) << i;
    }
}

TEST(FastDetectors, CutAtEveryLength) {
    const auto shortest = [](const std::string& whole, bt_u8 code) {
        std::size_t enough = 0;
        for (std::size_t n = whole.size() + 1; n-- > 0;) {
            if (udp_facts(whole.substr(0, n)).evidence != code)
                break;
            enough = n;
        }
        for (std::size_t n = 0; n < enough; ++n)
            EXPECT_EQ(udp_facts(whole.substr(0, n)).evidence, BT_EV_NONE) << n;
        return enough;
    };
    EXPECT_EQ(shortest(dht_query(), BT_EV_DHT_QUERY), 40u);
    EXPECT_EQ(shortest(dht_response(), BT_EV_DHT_RESPONSE), 40u);
    EXPECT_EQ(shortest(dht_error(), BT_EV_DHT_ERROR), 20u);
    EXPECT_EQ(shortest(tracker_connect(), BT_EV_TRACKER_UDP_CONNECT), 16u);
    EXPECT_EQ(shortest(tracker_announce(), BT_EV_TRACKER_UDP_ANNOUNCE), 98u);
    for (const auto& [whole, needs] : {std::pair{azureus_dht_request(4), 42u}, std::pair{azureus_dht_request(16), 54u},
                                       std::pair{azureus_dht_reply(1029), 26u}})
        for (std::size_t n = 0; n <= whole.size(); ++n)
            EXPECT_EQ(udp_facts(whole.substr(0, n)).azureus != BT_EV_NONE, n >= needs) << needs << " " << n;
    for (std::size_t n = 0; n <= 20; ++n) {
        const bt_facts x = tcp_facts(handshake().substr(0, n));
        EXPECT_EQ(x.matched, n);
        EXPECT_EQ(x.is_handshake, n == 20);
    }
}

TEST(FastDetectors, HandshakeInPieces) {
    for (std::size_t i = 0; i <= 20; ++i)
        for (std::size_t j = i; j <= 20; ++j) {
            const bt_u8 so_far = tcp_facts(handshake().substr(0, i)).matched;
            const bt_u8 then = tcp_facts(handshake().substr(i, j - i), so_far).matched;
            EXPECT_EQ(tcp_facts(handshake().substr(j), then).matched, 20) << i << " " << j;
        }
    EXPECT_EQ(tcp_facts("xx", 5).matched, 0);
}

TEST(FastDetectors, Randomness) {
    unsigned random = 0;
    for (unsigned seed = 0; seed < 1000; ++seed)
        random += tcp_facts(noise(96, seed)).is_random;
    EXPECT_GE(random, 995u);
    EXPECT_FALSE(tcp_facts(noise(95, 1)).is_random) << "needs a full head";
    // the exact bounds: 327..441 bits, 25..71 bytes with the top bit
    const auto made = [](unsigned high, unsigned bits) {
        std::string s(96, '\0');
        for (std::size_t i = 0; i < 96 && high > 0; ++i, --high, --bits)
            s[i] = '\x80';
        for (std::size_t i = 0; bits > 0; i = (i + 1) % 96)
            for (int b = 0; b < 7; ++b)
                if (!(s[i] >> b & 1)) {
                    s[i] = static_cast<char>(s[i] | 1 << b);
                    --bits;
                    break;
                }
        return tcp_facts(s).is_random != 0;
    };
    EXPECT_TRUE(made(48, 384));
    EXPECT_TRUE(made(48, 327));
    EXPECT_FALSE(made(48, 326));
    EXPECT_TRUE(made(48, 441));
    EXPECT_FALSE(made(48, 442));
    EXPECT_TRUE(made(25, 384));
    EXPECT_FALSE(made(24, 384));
    EXPECT_TRUE(made(71, 384));
    EXPECT_FALSE(made(72, 384));
    EXPECT_FALSE(tcp_facts(std::string(96, '\xff')).is_random);
    EXPECT_FALSE(tcp_facts(std::string(400, 'a')).is_random);
}

TEST(FastDetectors, UtpHeaders) {
    EXPECT_TRUE(udp_facts(utp(4, 7, 1, 0)).is_utp_syn);
    EXPECT_FALSE(udp_facts(utp(4, 7, 1, 0, 1)).is_utp_syn) << "difference";
    EXPECT_FALSE(udp_facts(utp(4, 7, 1, 1)).is_utp_syn) << "acknowledges";
    EXPECT_FALSE(udp_facts(utp(4, 7, 1, 0) + "x").is_utp_syn) << "data";
    EXPECT_FALSE(udp_facts(utp(5, 7, 1, 0)).is_utp) << "type";
    std::string version = utp(0, 7, 1, 0);
    version[0] = 2;
    EXPECT_FALSE(udp_facts(version).is_utp);
    for (std::size_t n = 0; n < 20; ++n)
        EXPECT_FALSE(udp_facts(utp(4, 7, 1, 0).substr(0, n)).is_utp);
    // Transmission: extension 2 with 8 bytes
    std::string extended = utp(4, 7, 1, 0);
    extended[1] = 2;
    extended += std::string("\x00\x08", 2) + std::string(8, '\0');
    EXPECT_TRUE(udp_facts(extended).is_utp_syn);
    for (std::size_t n = 20; n < extended.size(); ++n)
        EXPECT_FALSE(udp_facts(extended.substr(0, n)).is_utp) << n;
}

TEST(FastDetectors, SomethingElse) {
    for (const std::string& p : {quic_initial(), stun_request(), dtls_hello(), wireguard_init()})
        EXPECT_TRUE(udp_facts(p).is_other);
    EXPECT_TRUE(udp_facts(dns_query(), 5000, 53).is_other);
    EXPECT_FALSE(udp_facts(dns_query()).is_other);
    EXPECT_TRUE(udp_facts(ntp_request(), 5000, 123).is_other);
    for (const std::string& p : {dht_query(), tracker_connect(), tracker_announce(), utp(0, 1, 2, 3)})
        EXPECT_FALSE(udp_facts(p).is_other);
    EXPECT_TRUE(tcp_facts(tls_hello()).is_other);
    EXPECT_TRUE(tcp_facts("SSH-2.0-x").is_other);
    for (const std::string& p : {handshake(), noise(300, 1), std::string("GET / HTTP/1.1\r\n")})
        EXPECT_FALSE(tcp_facts(p).is_other);
}

TEST(FastDetectors, HttpQueries) {
    const auto asks = [](const std::string& p) { return tcp_facts(p).has_query != 0; };
    EXPECT_TRUE(asks("GET /announce?x=1 HTTP/1.1\r\n"));
    EXPECT_FALSE(asks("GET /index.html HTTP/1.1\r\nReferer: /a?b\r\n"));
    EXPECT_FALSE(asks("POST /a?b HTTP/1.1\r\n"));
    EXPECT_TRUE(asks("GET /ann")) << "unfinished";
    EXPECT_TRUE(asks("GET /" + std::string(300, 'a'))) << "longer than the head";
    EXPECT_TRUE(tcp_facts("POST /x").is_http);
    EXPECT_FALSE(tcp_facts("GETX").is_http);
}

// ---------------------------------------------------------------- headers

struct Parsed {
    bt_parsed result;
    bt_pkt packet;
};

Parsed parse(const std::string& bytes, bt_u32 link_len) {
    // exactly as large as the packet, so that a sanitizer sees every byte read beyond it
    const std::vector<unsigned char> exact(bytes.begin(), bytes.end());
    bt_ctx c{exact.data(), static_cast<bt_u32>(exact.size())};
    Parsed p{};
    p.result = bt_parse(&c, link_len, &p.packet);
    return p;
}

TEST(Parser, EveryHeader) {
    const std::vector<Packet> packets{
        Packet::udp(client4, 1, remote4, 2).payload("abc"),
        Packet::tcp(client4, 1, remote4, 2).payload("abc").seq(77),
        Packet::udp(client4, 1, remote4, 2).payload("abc").qinq(7, 8).ip_options(10),
        Packet::tcp(client4, 1, remote4, 2).payload("abc").vlan(3).ip_options(1).tcp_options(10).seq(77),
        Packet::udp(client6, 1, remote6, 2).payload("abc"),
        Packet::tcp(client6, 1, remote6, 2)
            .payload("abc")
            .extension(0)
            .extension(43, 24)
            .extension(51, 20)
            .extension(60)
            .seq(77),
        Packet::tcp(client6, 1, remote6, 2).payload("abc").fragment(0, true).seq(77),
    };
    for (const Packet& p : packets) {
        const Parsed frame = parse(p.frame(), 14), ip = parse(p.ip(), 0);
        for (const Parsed& got : {frame, ip}) {
            ASSERT_EQ(got.result, BT_PARSED);
            const bt_tuple want = p.tuple();
            EXPECT_EQ(std::memcmp(&got.packet.tuple, &want, sizeof want), 0);
            EXPECT_EQ(got.packet.payload_len, 3u);
            EXPECT_EQ(got.packet.seq, p.is_tcp() ? 77u : got.packet.seq);
        }
        EXPECT_EQ(frame.packet.payload_off, p.header_size());
        EXPECT_EQ(ip.packet.payload_off, p.ip().size() - 3);
    }
    EXPECT_EQ(parse(Packet::udp(client4, 1, remote4, 2).fragment(1, true).frame(), 14).result, BT_PARSED_FRAGMENT);
    EXPECT_EQ(parse(Packet::udp(client6, 1, remote6, 2).fragment(1, false).frame(), 14).result, BT_PARSED_FRAGMENT);
}

TEST(Parser, LengthsThatLie) {
    const Packet p = Packet::udp(client4, 1, remote4, 2).payload("abcdef");
    EXPECT_EQ(parse(Packet(p).ip_length(0).frame(), 14).packet.payload_len, 6u);
    EXPECT_EQ(parse(Packet(p).ip_length(60000).frame(), 14).packet.payload_len, 6u);
    EXPECT_EQ(parse(Packet(p).ip_length(30).frame(), 14).packet.payload_len, 2u);
    EXPECT_EQ(parse(Packet(p).ip_length(20).frame(), 14).packet.payload_len, 0u);
    EXPECT_EQ(parse(p.frame() + "padding", 14).packet.payload_len, 6u);
}

// Any bytes: in bounds, and the payload lies inside the packet.
TEST(Parser, MutatedAndCutHeadersStayInBounds) {
    std::mt19937_64 rng(7);
    // and how many bytes at the end may be missing: TCP options are not read
    const std::vector<std::pair<std::string, std::size_t>> frames{
        {Packet::tcp(client4, 1, remote4, 2).payload("abc").qinq(3, 4).ip_options(10).tcp_options(10).frame(), 43},
        {Packet::tcp(client6, 1, remote6, 2)
             .payload("abc")
             .extension(0)
             .extension(43, 24)
             .extension(51, 20)
             .fragment(0, true)
             .frame(),
         3},
        {Packet::udp(client6, 1, remote6, 2).payload("abc").frame(), 3},
    };
    for (const auto& [frame, spare] : frames) {
        for (std::size_t n = 0; n <= frame.size(); ++n) {
            const Parsed p = parse(frame.substr(0, n), 14);
            EXPECT_EQ(p.result == BT_PARSED, n + spare >= frame.size()) << n;
            EXPECT_TRUE(p.result != BT_PARSED || p.packet.payload_len + frame.size() <= n + 3 || !p.packet.payload_len)
                << n;
        }
        for (int i = 0; i < 20000; ++i) {
            std::string changed = frame;
            for (unsigned k = 0; k < 1 + rng() % 4; ++k)
                changed[rng() % changed.size()] = static_cast<char>(rng());
            changed.resize(rng() % (changed.size() + 1));
            for (const bt_u32 link : {14u, 0u}) {
                const Parsed p = parse(changed, link);
                if (p.result == BT_PARSED && p.packet.payload_len) {
                    EXPECT_LE(p.packet.payload_off + p.packet.payload_len, changed.size());
                }
            }
        }
    }
}

} // namespace
} // namespace btblock::test
