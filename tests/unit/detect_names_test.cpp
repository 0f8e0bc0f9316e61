// SPDX-License-Identifier: MIT
// Host names in TLS hellos and DNS queries: reading them, the lists, and what the Inspector makes of them.
#include "detect/Names.h"
#include "detect/Scorer.h"
#include "detect/Writeback.h"
#include "detect_build.h"

#include <gmock/gmock.h>

namespace btblock::detect {
namespace {

using namespace build;
using testing::ElementsAre;

std::string extension(unsigned type, const std::string& body) {
    return u16(type) + u16(static_cast<unsigned>(body.size())) + body;
}
std::string server_name(const std::string& host) {
    const std::string entry = u8(0) + u16(static_cast<unsigned>(host.size())) + host;
    return extension(0, u16(static_cast<unsigned>(entry.size())) + entry);
}
// The handshake message.
std::string hello_message(const std::string& extensions) {
    const std::string body = u16(0x0303) + hash(1) + hash(2).substr(0, 12) + u8(32) + hash(3) + hash(4).substr(0, 12) +
                             u16(4) + u16(0x1301) + u16(0x1302) + u8(1) + u8(0) +
                             u16(static_cast<unsigned>(extensions.size())) + extensions;
    return u8(1) + be(body.size(), 3) + body;
}
// In records of at most so many bytes.
std::string records(const std::string& message, std::size_t most = 16384) {
    std::string out;
    for (std::size_t at = 0; at < message.size(); at += most) {
        const std::string part = message.substr(at, most);
        out += u8(22) + u16(0x0301) + u16(static_cast<unsigned>(part.size())) + part;
    }
    return out;
}
std::string hello(const std::string& host, std::size_t before = 0) {
    return records(
        hello_message(extension(51, std::string(before, 'k')) + server_name(host) + extension(43, "\x02\x03\x04")));
}

std::string name_in(const std::string& stream, std::size_t piece = 100000) {
    ClientHello reader;
    for (std::size_t at = 0; at < stream.size(); at += piece)
        reader.feed(bytes(std::string_view(stream).substr(at, piece)));
    return std::string(reader.host());
}

// ---------------------------------------------------------------- TLS

TEST(Names, ServerNameInOnePieceAndInMany) {
    const std::string stream = hello("Tracker.Example.org");
    for (std::size_t piece = 1; piece <= stream.size(); ++piece)
        ASSERT_EQ(name_in(stream, piece), "tracker.example.org") << piece;
}

TEST(Names, ServerNameInRecordsOfAnySize) {
    const std::string message = hello_message(extension(51, std::string(1216, 'k')) + server_name("a.example.org"));
    for (std::size_t most = 1; most <= message.size(); ++most)
        ASSERT_EQ(name_in(records(message, most)), "a.example.org") << most;
    EXPECT_EQ(name_in(records(message, 7), 3), "a.example.org");
}

TEST(Names, NothingBeforeTheEndOfTheName) {
    const std::string stream = hello("tracker.example.org");
    const std::size_t end = stream.find("example.org") + 11;
    for (std::size_t cut = 0; cut <= stream.size(); ++cut)
        ASSERT_EQ(name_in(stream.substr(0, cut)), cut < end ? "" : "tracker.example.org") << cut;
}

TEST(Names, WhatIsNoHelloOrHasNoName) {
    const auto is_done_without = [](const std::string& stream) {
        ClientHello reader;
        reader.feed(bytes(stream));
        return reader.done() && reader.host().empty();
    };
    EXPECT_TRUE(is_done_without(records(hello_message(extension(43, "\x02\x03\x04")))));
    EXPECT_TRUE(is_done_without(records(hello_message(""))));
    EXPECT_TRUE(is_done_without(hello("two words")));
    EXPECT_TRUE(is_done_without(hello(std::string(254, 'a'))));
    EXPECT_TRUE(is_done_without(hello("")));
    EXPECT_TRUE(is_done_without("\x17\x03\x03"));
    EXPECT_TRUE(is_done_without(std::string("\x16\x03\x01\x00\x00", 5))) << "an empty record";
    std::string other = hello("a.b");
    other[5] = 2; // ServerHello
    EXPECT_TRUE(is_done_without(other));
    std::string longer = hello("a.b");
    longer[8] = static_cast<char>(longer[8] - 20); // the message ends before its extensions
    EXPECT_TRUE(is_done_without(longer));
    // A hello that never ends does not either.
    const std::string endless = records(hello_message(extension(21, std::string(60000, '\0'))));
    EXPECT_TRUE(is_done_without(endless));
}

TEST(Names, ABitFlippedAnywhereIsNoHarm) {
    const std::string stream = hello("tracker.example.org", 40);
    for (std::size_t bit = 0; bit < stream.size() * 8; ++bit) {
        std::string s = stream;
        s[bit / 8] = static_cast<char>(s[bit / 8] ^ 1 << bit % 8);
        const std::string name = name_in(s);
        ASSERT_LE(name.size(), 253u);
        for (const char c : name)
            ASSERT_TRUE(is_alnum(static_cast<std::uint8_t>(c)) || c == '.' || c == '-' || c == '_') << bit;
    }
}

// ---------------------------------------------------------------- DNS

std::string labels(const std::vector<std::string>& names) {
    std::string out;
    for (const std::string& n : names)
        out += u8(static_cast<unsigned>(n.size())) + n;
    return out + u8(0);
}
std::string query(const std::string& question, unsigned flags = 0x0100, unsigned questions = 1) {
    return u16(0xabcd) + u16(flags) + u16(questions) + be(0, 6) + question + u16(1) + u16(1);
}
const std::string tracker_query = query(labels({"tracker", "OpenTrackr", "org"}));

std::string asked(const std::string& datagram) {
    HostName host;
    const bool query = read_dns_query(bytes(datagram), host);
    EXPECT_TRUE(query || host.text().empty());
    return query ? std::string(host.text()) : "none";
}

TEST(Names, QueriesOfTheDns) {
    EXPECT_EQ(asked(tracker_query), "tracker.opentrackr.org");
    EXPECT_EQ(asked(query(labels({"_dmarc", "a-b", "xn--p1ai"}))), "_dmarc.a-b.xn--p1ai");
    EXPECT_EQ(asked(query(labels({}))), "") << "the root";
    EXPECT_EQ(asked(query(labels({"My Printer", "_ipp", "_tcp"}))), "") << "a service";
    EXPECT_EQ(asked(query(labels({"a.b", "org"}))), "") << "a dot inside a label is another name";
    EXPECT_EQ(asked(query(labels(std::vector<std::string>(5, std::string(63, 'a'))))), "") << "longer than any";
    EXPECT_EQ(asked(tracker_query + std::string("\0\0\x29\x10\0\0\0\0\0\0\0", 11)), "tracker.opentrackr.org") << "EDNS";
}

TEST(Names, WhatIsNoQuery) {
    EXPECT_EQ(asked(query(labels({"a", "org"}), 0x8180)), "none") << "a response";
    EXPECT_EQ(asked(query(labels({"a", "org"}), 0x2900)), "none") << "an update";
    EXPECT_EQ(asked(query(labels({"a", "org"}), 0x0100, 2)), "none") << "two questions";
    EXPECT_EQ(asked(query("\xc0\x0c")), "none") << "compression";
    for (std::size_t cut = 0; cut < tracker_query.size(); ++cut)
        EXPECT_EQ(asked(tracker_query.substr(0, cut)), "none") << cut;
}

// ---------------------------------------------------------------- lists

TEST(Names, KnownHostsAreHostsWithASource) {
    EXPECT_GE(known_hosts().size(), 60u);
    for (const KnownHost& known : known_hosts()) {
        EXPECT_FALSE(known.source.empty()) << known.host;
        EXPECT_GE(std::count(known.host.begin(), known.host.end(), '.'), 1) << known.host;
        EXPECT_TRUE(is_known_host(known.host));
    }
    EXPECT_TRUE(is_known_host("eu.tracker.opentrackr.org"));
    EXPECT_TRUE(is_known_host("router.bittorrent.com"));
    for (const char* other : {"opentrackr.org", "xtracker.opentrackr.org", "tracker.opentrackr.org.example.com", "org",
                              "www.bittorrent.com", "bittorrent.com", "archive.org", "debian.org", "files.fm", "", "."})
        EXPECT_FALSE(is_known_host(other)) << other;
}

TEST(Names, TheOperatorsList) {
    const HostList list({"video.example.org", "example.net"});
    EXPECT_TRUE(list.contains("video.example.org"));
    EXPECT_TRUE(list.contains("a.b.example.net"));
    EXPECT_FALSE(list.contains("example.org"));
    EXPECT_FALSE(list.contains("notexample.net"));
    EXPECT_FALSE(list.contains(""));
    EXPECT_FALSE(HostList{}.contains("example.net"));
}

// ---------------------------------------------------------------- in the Inspector

class InspectedNames : public testing::Test {
protected:
    Finding tcp(std::uint32_t seq, std::string_view payload) { return inspect(IPPROTO_TCP, 443, seq, payload); }
    Finding udp(std::uint16_t dport, std::string_view payload) { return inspect(IPPROTO_UDP, dport, 0, payload); }
    Finding inspect(std::uint8_t proto, std::uint16_t dport, std::uint32_t seq, std::string_view payload) {
        Payload p;
        p.tuple.proto = proto;
        p.tuple.src.b[15] = 1;
        p.tuple.dst.b[15] = 2;
        p.tuple.sport = 50000;
        p.tuple.dport = dport;
        p.bytes = bytes(payload);
        p.seq = seq;
        p.has_seq = proto == IPPROTO_TCP;
        return inspector_.inspect(p, now_ += 1000);
    }
    Inspector inspector_{64};
    std::uint64_t now_ = 1;
};

constexpr std::uint32_t sni = BT_EV_BIT(BT_EV_TRACKER_SNI);

TEST_F(InspectedNames, AKnownNameWeighsAndTheFlowIsClean) {
    const Finding f = tcp(1, hello("tracker.opentrackr.org"));
    EXPECT_EQ(f.judgement, Judgement::clean);
    EXPECT_EQ(f.fresh, sni);
    EXPECT_EQ(inspector_.host(), "tracker.opentrackr.org");
    tcp(5000, "\x17\x03\x03 and so on");
    EXPECT_EQ(inspector_.host(), "") << "told once";
}

TEST_F(InspectedNames, AnotherNameIsNothing) {
    const Finding f = tcp(1, hello("www.example.org"));
    EXPECT_EQ(f.judgement, Judgement::clean);
    EXPECT_EQ(f.evidence, 0u);
    EXPECT_EQ(inspector_.host(), "www.example.org");
}

// An SSL torrent of libtorrent: the name is no host's.
TEST_F(InspectedNames, AnInfoHashProves) {
    const std::string hash = "0123456789abcdef0123456789ABCDEF01234567";
    const Finding f = tcp(1, hello(hash));
    EXPECT_EQ(f.judgement, Judgement::proves);
    EXPECT_EQ(f.evidence, BT_EV_BIT(BT_EV_SIGNATURE));
    EXPECT_FALSE(f.host_evidence);
    std::uint32_t seq = 1; // each another connection
    for (const std::string& other : {hash.substr(1), hash + "0", "g" + hash.substr(1), hash.substr(0, 36) + ".org"})
        EXPECT_EQ(tcp(seq += 100000000, hello(other)).judgement, Judgement::clean) << other;
}

// A post-quantum key of 1216 bytes in front of the name, segments of any length, the second one twice.
TEST_F(InspectedNames, AHelloInSegments) {
    const std::string stream = hello("tracker.opentrackr.org", 1216);
    for (std::size_t cut = 1; cut < stream.size(); ++cut) {
        const auto seq = static_cast<std::uint32_t>(cut * 100000000u);
        const Finding first = tcp(seq, stream.substr(0, cut));
        if (cut < stream.find("opentrackr.org") + 14) {
            ASSERT_EQ(first.judgement, Judgement::none) << cut;
            ASSERT_EQ(inspector_.host(), "") << cut;
            const Finding second = tcp(seq + static_cast<std::uint32_t>(cut), stream.substr(cut));
            ASSERT_EQ(second.judgement, Judgement::clean) << cut;
            ASSERT_EQ(second.fresh, sni) << cut;
        }
    }
}

TEST_F(InspectedNames, SegmentsOutOfOrder) {
    const std::string stream = hello("tracker.opentrackr.org", 200);
    tcp(1000, stream.substr(0, 150));
    tcp(1000 + 300, stream.substr(300));
    EXPECT_EQ(tcp(1000 + 150, stream.substr(150, 150)).fresh, sni);
}

TEST_F(InspectedNames, Queries) {
    EXPECT_EQ(udp(53, tracker_query).fresh, sni);
    EXPECT_EQ(inspector_.host(), "tracker.opentrackr.org");
    EXPECT_EQ(udp(53, tracker_query).fresh, 0u) << "once in a flow";
    EXPECT_EQ(udp(5300, tracker_query).judgement, Judgement::none) << "no resolver";
    EXPECT_EQ(inspector_.host(), "");
    EXPECT_EQ(udp(53, dht_ping).judgement, Judgement::proves) << "the port alone is no excuse";
}

// ---------------------------------------------------------------- what is written back

struct Noted final : Tables {
    bool is_inside(const bt_addr&) override { return true; }
    void block(const bt_tuple& t, std::uint32_t, std::uint64_t) override { blocked.push_back(t.dport); }
    void clear(const bt_tuple&, std::uint64_t) override { ++cleared; }
    void condemn(const bt_endpoint&, std::uint32_t, std::uint64_t) override { ++other; }
    void client_seen(const bt_addr&, std::uint32_t, std::uint64_t) override { ++other; }
    void learn(const bt_peer_key&, std::uint32_t, std::uint64_t) override { ++other; }
    bt_flow known(const bt_tuple&) override { return {}; }
    std::vector<unsigned> blocked;
    unsigned cleared = 0, other = 0;
};

TEST(WriteBack, AListedNameBlocksItsConnectionAndNothingElse) {
    const Finding listed{.judgement = Judgement::proves, .evidence = sni, .listed = true};
    Noted tables;
    Scorer scorer;
    bt_tuple t{};
    t.sport = 50000;
    t.dport = 443;
    t.proto = IPPROTO_TCP;
    write_back(tables, scorer, t, listed, {}, 1);
    EXPECT_THAT(tables.blocked, ElementsAre(443, 50000));
    EXPECT_EQ(tables.other, 0u);
    t.dport = 53;
    t.proto = IPPROTO_UDP;
    write_back(tables, scorer, t, listed, {}, 1);
    EXPECT_EQ(tables.blocked.size(), 2u) << "a resolver's other questions";
    EXPECT_EQ(tables.other + tables.cleared, 0u);
}

TEST(WriteBack, ProvedPeersAreLearnedForTheirReceiver) {
    Noted tables;
    Scorer scorer;
    bt_tuple t{};
    t.proto = IPPROTO_UDP;
    const bt_endpoint peers[2] = {{{}, 6881, IPPROTO_TCP, 0}, {{}, 6882, IPPROTO_TCP, 0}};
    write_back(tables, scorer, t, {.judgement = Judgement::proves, .evidence = BT_EV_BIT(BT_EV_DHT_RESPONSE)}, peers,
               1);
    EXPECT_EQ(tables.blocked.size(), 2u);
    EXPECT_EQ(tables.other, 4u) << "the client, its socket, two peers";
}

TEST(WriteBack, ACleanFlowsEvidenceStillWeighs) {
    Noted tables;
    Scorer scorer;
    bt_tuple t{};
    t.proto = IPPROTO_TCP;
    write_back(tables, scorer, t, {.judgement = Judgement::clean, .evidence = sni, .fresh = sni}, {}, 1);
    EXPECT_EQ(tables.cleared, 1u);
    EXPECT_EQ(scorer.points(t.src, 1), 42);
    write_back(tables, scorer, t, {.judgement = Judgement::weighs, .fresh = BT_EV_BIT(BT_EV_CLIENT_AGENT)}, {}, 2);
    EXPECT_EQ(tables.other, 1u) << "active";
}

} // namespace
} // namespace btblock::detect
