// SPDX-License-Identifier: MIT
// Properties of the whole decision: packets of every kind cut at every length, with every bit flipped, split anywhere,
// and random bytes.
#include "bpf/Scenarios.h"
#include "detect/Pipeline.h"
#include "net/Packet.h"

#include <cstring>
#include <functional>
#include <gtest/gtest.h>
#include <memory>
#include <span>

namespace btblock::test {
namespace {

// A pipeline that is cheap to make afresh.
detect::PipelineOptions small() {
    detect::PipelineOptions options;
    options.flow_capacity = options.socket_capacity = options.client_capacity = options.deep_capacity = 64;
    return options;
}

// `at`: as if the capture had kept that many bytes; the buffer is exactly as long, so that a sanitizer sees more.
bool blocks(detect::Pipeline& pipeline, const Packet& packet, std::size_t at = std::string::npos) {
    static std::uint64_t now = BT_NSEC_PER_SEC;
    const std::string ip = packet.ip();
    const std::vector<std::uint8_t> bytes(ip.begin(),
                                          ip.begin() + static_cast<std::ptrdiff_t>(std::min(at, ip.size())));
    const detect::Decision d = pipeline.packet(bytes, ip.size(), now += 1000);
    EXPECT_EQ(d.action == BT_ACT_DROP, d.evidence != 0);
    return d.action == BT_ACT_DROP;
}

// A packet that is blocked, after what leads to it.
struct Kind {
    std::string name;
    std::vector<Packet> before; // pass or are blocked themselves
    Packet packet;
    std::size_t needed;                           // with fewer payload bytes there is no structure left to prove it
    std::function<bool(std::size_t)> structural;  // a flipped bit in this payload byte breaks the structure
    std::function<bool(std::size_t)> meaningless; // a flipped bit there changes nothing
};

bool in(std::size_t i, std::size_t first, std::size_t last) {
    return i >= first && i <= last;
}

const std::string announce_target =
    "GET /announce?info_hash=%124Vx%9a%bc%de%f1%23Eg%89%ab%cd%ef%124Vx%9a&peer_id=-TR3000-abcdefghijkl&port=6881"
    "&uploaded=0&downloaded=0&left=0&compact=1 HTTP/1.1\r\nHost: t\r\n\r\n";

std::vector<Kind> kinds(bool v6) {
    const std::string client = v6 ? client6 : client4, remote = v6 ? remote6 : remote4;
    const auto udp = [&](const std::string& payload, std::uint16_t dport = 7000) {
        return Packet::udp(client, 6881, remote, dport).payload(payload);
    };
    const auto first = [&](const std::string& payload, std::uint16_t port = 6881) {
        return Stream(client, 40000, remote, port).next(payload);
    };
    const auto never = [](std::size_t) { return false; };
    std::vector<Kind> all;
    all.push_back({"handshake",
                   {},
                   first(handshake()),
                   20,
                   [](std::size_t i) { return i < 20; },
                   [](std::size_t i) { return i >= 20; }});
    {
        Stream out(client, 40000, remote, 1080), back(remote, 1080, client, 40000);
        std::vector<Packet> socks{out.next(std::string("\x05\x01\x00", 3)), back.next(std::string("\x05\x00", 2)),
                                  out.next(std::string("\x05\x01\x00\x01\x7f\x01\x02\x03\x1a\xe1", 10)),
                                  back.next(std::string("\x05\x00\x00\x01\x7f\x01\x02\x03\x1a\xe1", 10))};
        all.push_back({"handshake in SOCKS", socks, out.next(handshake()), 20, [](std::size_t i) { return i < 20; },
                       [](std::size_t i) { return i >= 20; }});
    }
    const auto head12 = [](std::size_t i) { return i < 12; };
    const auto node_id = [](std::size_t i) { return in(i, 12, 31); };
    all.push_back({"DHT query", {}, udp(dht_query()), 40, head12, node_id});
    all.push_back({"DHT response", {}, udp(dht_response()), 40, head12, node_id});
    // any three digits are an error number
    all.push_back({"DHT error",
                   {},
                   udp(dht_error()),
                   20,
                   [](std::size_t i) { return i < 6 || i == 9; },
                   [](std::size_t i) { return i >= 14; }});
    // another key than "ip" is still a message
    all.push_back({"DHT with the requestor's address",
                   {},
                   udp(dht_bep42(6)),
                   40,
                   [](std::size_t i) { return i < 3 || in(i, 5, 6) || in(i, 13, 20); },
                   [](std::size_t i) { return in(i, 7, 12); }});
    all.push_back({"tracker connect",
                   {},
                   udp(tracker_connect()),
                   16,
                   [](std::size_t i) { return i < 12; },
                   [](std::size_t i) { return i >= 12; }});
    all.push_back({"tracker announce",
                   {},
                   udp(tracker_announce()),
                   98,
                   [](std::size_t i) { return in(i, 8, 11) || i == 36 || i == 43 || in(i, 56, 57) || in(i, 72, 73); },
                   [](std::size_t i) { return i < 8 || in(i, 12, 35) || in(i, 84, 91) || i >= 96; }});
    all.push_back({"LSD",
                   {},
                   v6 ? Packet::udp(client, 6771, "ff15::efc0:988f", 6771).payload(lsd())
                      : Packet::udp(client, 6771, "239.192.152.143", 6771).payload(lsd()),
                   8,
                   [](std::size_t i) { return i < 8; },
                   [](std::size_t i) { return i >= 8; }});
    all.push_back({"uTP SYN of an active client",
                   {Packet::udp(client, 7001, remote, 1337).payload(tracker_connect())},
                   udp(utp(4, 77, 1, 0)),
                   20,
                   [](std::size_t i) { return i < 2 || in(i, 8, 11) || i >= 18; },
                   [](std::size_t i) { return in(i, 2, 7) || in(i, 12, 17); }});
    all.push_back({"uTP STATE",
                   {udp(utp(4, 77, 1, 0)).reply()},
                   udp(utp(2, 77, 500, 1)),
                   20,
                   [](std::size_t i) { return i < 4 || i >= 18; },
                   [](std::size_t i) { return in(i, 4, 17); }});
    const std::size_t key = announce_target.find("info_hash="), end = announce_target.find("&port");
    all.push_back({"HTTP announce",
                   {},
                   first(announce_target, 80),
                   end,
                   [key](std::size_t i) { return i < 4 || in(i, key - 1, key + 9); },
                   never});
    return all;
}

TEST(Property, EveryKindIsBlocked) {
    for (const bool v6 : {false, true})
        for (const Kind& k : kinds(v6)) {
            detect::Pipeline pipeline(small());
            for (const Packet& p : k.before)
                blocks(pipeline, p);
            EXPECT_TRUE(blocks(pipeline, k.packet)) << k.name << (v6 ? ", IPv6" : "");
        }
}

// A shorter packet, with lengths in its headers that say so.
TEST(Property, ShorterPacketsNeedTheirStructure) {
    for (const bool v6 : {false, true})
        for (const Kind& k : kinds(v6))
            for (std::size_t n = 0; n < k.packet.payload().size(); ++n) {
                detect::Pipeline pipeline(small());
                for (const Packet& p : k.before)
                    blocks(pipeline, p);
                Packet shorter = k.packet;
                shorter.payload(k.packet.payload().substr(0, n));
                const bool blocked = blocks(pipeline, shorter);
                EXPECT_FALSE(blocked && n < k.needed) << k.name << (v6 ? ", IPv6" : "") << " cut to " << n;
            }
}

// The same cut by a capture: the headers promise more than is there.
TEST(Property, CutCapturesAreReadToTheirEndOnly) {
    for (const bool v6 : {false, true})
        for (const Kind& k : kinds(v6)) {
            const std::string ip = k.packet.ip();
            for (std::size_t n = 0; n < ip.size(); ++n) {
                detect::Pipeline pipeline(small());
                for (const Packet& p : k.before)
                    blocks(pipeline, p);
                const bool blocked = blocks(pipeline, k.packet, n);
                EXPECT_FALSE(blocked && n < ip.size() - k.packet.payload().size() + k.needed)
                    << k.name << (v6 ? ", IPv6" : "") << " cut to " << n;
                const std::vector<std::uint8_t> exact(ip.begin(), ip.begin() + static_cast<std::ptrdiff_t>(n));
                (void)net::parse_packet(exact, ip.size());
            }
        }
}

TEST(Property, EveryFlippedBit) {
    for (const bool v6 : {false, true})
        for (const Kind& k : kinds(v6))
            for (std::size_t i = 0; i < k.packet.payload().size(); ++i)
                for (int bit = 0; bit < 8; ++bit) {
                    detect::Pipeline pipeline(small());
                    for (const Packet& p : k.before)
                        blocks(pipeline, p);
                    std::string payload = k.packet.payload();
                    payload[i] = static_cast<char>(payload[i] ^ (1 << bit));
                    Packet flipped = k.packet;
                    flipped.payload(payload);
                    const bool blocked = blocks(pipeline, flipped);
                    EXPECT_FALSE(k.structural(i) && blocked) << k.name << ", byte " << i << " bit " << bit;
                    EXPECT_TRUE(!k.meaningless(i) || blocked) << k.name << ", byte " << i << " bit " << bit;
                }
}

// Every bit of the IP and transport headers: whatever comes of it, both parsers stay inside.
TEST(Property, EveryFlippedBitOfTheHeaders) {
    for (const bool v6 : {false, true})
        for (const Kind& k : kinds(v6)) {
            const std::string ip = k.packet.ip();
            detect::Pipeline pipeline(small());
            for (std::size_t i = 0; i < ip.size() - k.packet.payload().size(); ++i)
                for (int bit = 0; bit < 8; ++bit) {
                    std::vector<std::uint8_t> flipped(ip.begin(), ip.end());
                    flipped[i] = static_cast<std::uint8_t>(flipped[i] ^ (1 << bit));
                    const detect::Decision d = pipeline.packet(flipped, flipped.size(), 1);
                    EXPECT_EQ(d.action == BT_ACT_DROP, d.evidence != 0);
                    const auto parsed = net::parse_packet(flipped, flipped.size());
                    if (parsed) {
                        EXPECT_LE(parsed->payload.size(), flipped.size());
                    }
                }
        }
}

// The segment that completes the 20 bytes is blocked, wherever the handshake is split and in either direction.
TEST(Property, HandshakeSplitAnywhere) {
    const std::string whole = handshake() + be(5, 4) + be(5, 1) + std::string(4, '\xff');
    for (const bool inbound : {false, true})
        for (std::size_t i = 1; i < whole.size(); ++i)
            for (std::size_t j = i; j < whole.size(); ++j) {
                detect::Pipeline pipeline(small());
                Stream s(inbound ? remote4 : client4, 40000, inbound ? client4 : remote4, 6881, 0xfffffff0u);
                const bool a = blocks(pipeline, s.next(whole.substr(0, i)));
                const bool b = j > i && blocks(pipeline, s.next(whole.substr(i, j - i)));
                const bool c = blocks(pipeline, s.next(whole.substr(j)));
                ASSERT_EQ(a, i >= 20) << i << " " << j;
                ASSERT_EQ(b, j > i && j >= 20) << i << " " << j;
                ASSERT_TRUE(c) << i << " " << j;
            }
}

// ---------------------------------------------------------------- random bytes

// A tenth under the sanitizers, which look for something else and take their time.
#ifdef __SANITIZE_ADDRESS__
constexpr std::size_t share = 10;
#else
constexpr std::size_t share = 1;
#endif

void fill(std::string& s, std::size_t from, std::mt19937_64& rng) {
    for (std::size_t at = from; at < s.size(); at += 8) {
        const std::uint64_t word = rng();
        std::memcpy(s.data() + at, &word, std::min<std::size_t>(8, s.size() - at));
    }
}

// 8 datagrams a direction and flow, both directions, of 256 clients.
TEST(Property, RandomDatagramsPass) {
    detect::Pipeline pipeline;
    std::mt19937_64 rng(1);
    const std::string base = Packet::udp(client4, 1, remote4, 2).payload(std::string(200, 'x')).ip();
    std::size_t drops = 0;
    constexpr std::size_t n = 10'000'000 / share;
    for (std::size_t i = 0; i < n; ++i) {
        const std::size_t payload = 1 + rng() % 200;
        std::string ip = base.substr(0, 28 + payload);
        const std::size_t flow = i / 16;
        const std::string a = be(0x0a000000u + (flow & 0xff), 4), b = be(0xcb000000u + (flow >> 8), 4);
        const bool back = i & 1;
        ip.replace(2, 2, be(ip.size(), 2));
        ip.replace(24, 2, be(8 + payload, 2));
        ip.replace(12, 4, back ? b : a);
        ip.replace(16, 4, back ? a : b);
        ip.replace(20, 4, be(back ? 2u << 16 | 1u : 1u << 16 | 2u, 4));
        fill(ip, 28, rng);
        drops += pipeline.packet({reinterpret_cast<const std::uint8_t*>(ip.data()), ip.size()}, ip.size(), i * 1000)
                     .action == BT_ACT_DROP;
    }
    EXPECT_EQ(drops, 0u) << "of " << n;
}

// The first flight of each side, of 256 clients.
TEST(Property, RandomFirstFlightsPass) {
    detect::Pipeline pipeline;
    std::mt19937_64 rng(2);
    const std::string base = Stream(client4, 5000, remote4, 443).next(std::string(1400, 'x')).ip();
    std::size_t drops = 0;
    constexpr std::size_t n = 1'000'000 / share;
    for (std::size_t i = 0; i < 2 * n; ++i) {
        std::string ip = base.substr(0, 40 + 1 + rng() % (i % 3 ? 700 : 1400));
        const std::size_t flow = i / 2;
        const std::string a = be(0x0a000000u + (flow & 0xff), 4), b = be(0xcb000000u + (flow >> 8), 4);
        const bool back = i & 1;
        ip.replace(2, 2, be(ip.size(), 2));
        ip.replace(12, 4, back ? b : a);
        ip.replace(16, 4, back ? a : b);
        ip.replace(20, 4, be(back ? 443u << 16 | 5000u : 5000u << 16 | 443u, 4));
        fill(ip, 40, rng);
        drops += pipeline.packet({reinterpret_cast<const std::uint8_t*>(ip.data()), ip.size()}, ip.size(), i * 1000)
                     .action == BT_ACT_DROP;
    }
    EXPECT_EQ(drops, 0u) << "of " << n;
}

// Messages of random bytes and lengths back and forth, each connection with another host: the turns of MSE fit some by
// chance. Returns how many of `connections` were blocked.
std::size_t blocked_conversations(detect::Pipeline& pipeline, std::mt19937_64& rng, const std::string& client,
                                  std::size_t connections, std::uint64_t& now_ns) {
    std::size_t blocked = 0;
    for (std::size_t i = 0; i < connections; ++i) {
        const std::string host = "203.0." + std::to_string(i / 250) + "." + std::to_string(1 + i % 250);
        const auto port = static_cast<std::uint16_t>(20000 + i);
        Stream out(client, port, host, 9443), back(host, 9443, client, port);
        bool dropped = false;
        for (int turn = 0; turn < 6; ++turn) {
            std::string bytes(1 + rng() % 700, '\0');
            fill(bytes, 0, rng);
            const std::string ip = (turn % 2 ? back : out).next(bytes).ip();
            dropped |= pipeline
                           .packet({reinterpret_cast<const std::uint8_t*>(ip.data()), ip.size()}, ip.size(),
                                   now_ns += 1'000'000)
                           .action == BT_ACT_DROP;
        }
        blocked += dropped;
    }
    return blocked;
}

TEST(Property, RandomConversationsPass) {
    detect::Pipeline pipeline;
    std::mt19937_64 rng(3);
    std::uint64_t now = 1'000'000'000;
    std::size_t blocked = 0;
    for (int client = 1; client <= 100 / static_cast<int>(share); ++client)
        blocked += blocked_conversations(pipeline, rng, "10.1.0." + std::to_string(client), 500, now);
    EXPECT_EQ(blocked, 0u);
}

// The same beside a torrent: what it shows about the client does not make all that is random one.
TEST(Property, RandomConversationsOfAnActiveClient) {
    detect::Pipeline pipeline;
    std::mt19937_64 rng(4);
    std::uint64_t now = 1'000'000'000;
    std::size_t blocked = 0;
    const int clients = 20 / static_cast<int>(share);
    for (int client = 1; client <= clients; ++client) {
        const std::string address = "10.1.0." + std::to_string(client);
        const std::string query = Packet::udp(address, 6881, remote4, 6881).payload(dht_query()).ip();
        pipeline.packet({reinterpret_cast<const std::uint8_t*>(query.data()), query.size()}, query.size(), ++now);
        blocked += blocked_conversations(pipeline, rng, address, 500, now);
    }
    EXPECT_LE(blocked, 2u * static_cast<std::size_t>(clients)) << "of " << clients << " times 500";
}

} // namespace
} // namespace btblock::test
