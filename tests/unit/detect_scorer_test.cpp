// SPDX-License-Identifier: MIT
// detect::Scorer: what weighs adds up, fades, and makes a client active; and the same through the whole decision.
#include "bpf/Scenarios.h"
#include "detect/Pipeline.h"
#include "detect/Scorer.h"

#include <gtest/gtest.h>
#include <span>

namespace btblock::test {
namespace {

using detect::Scorer;

constexpr std::uint64_t second = BT_NSEC_PER_SEC;

constexpr std::uint32_t codes() {
    return 0;
}
template <class... More> constexpr std::uint32_t codes(bt_evidence first, More... more) {
    return BT_EV_BIT(first) | codes(more...);
}

bt_addr host(unsigned number) {
    bt_addr a = address(client4);
    a.b[14] = static_cast<bt_u8>(number >> 8);
    a.b[15] = static_cast<bt_u8>(number);
    return a;
}

bool reaches(std::uint32_t together) {
    Scorer scorer;
    return scorer.add(host(1), together, second).reached != 0;
}

// ---------------------------------------------------------------- the table

TEST(Scorer, NoCodeSufficesAloneHoweverOftenItIsSeen) {
    for (const detect::Weight& weight : detect::weights) {
        SCOPED_TRACE(weight.code);
        EXPECT_FALSE(weight.reason.empty());
        EXPECT_GT(weight.points, 0u);
        Scorer scorer;
        for (unsigned i = 1; i <= 10000; ++i)
            ASSERT_EQ(scorer.add(host(1), BT_EV_BIT(weight.code), i * second).reached, 0u);
        EXPECT_NEAR(scorer.points(host(1), 10000 * second), weight.points, 1e-6);
    }
}

TEST(Scorer, WhatAHouseholdShowsDoesNotSuffice) {
    // torrent web sites, a fetched torrent file, plain query names, an encrypting proxy: all of it at once
    EXPECT_FALSE(
        reaches(codes(BT_EV_TRACKER_SNI, BT_EV_SIGNATURE, BT_EV_WEBSEED_HTTP, BT_EV_ENTROPY, BT_EV_SOCKS_CONNECT)));
    // a download manager that can do BitTorrent, fetching something else through a proxy
    EXPECT_FALSE(reaches(codes(BT_EV_CLIENT_AGENT, BT_EV_WEBSEED_HTTP, BT_EV_ENTROPY, BT_EV_SOCKS_CONNECT)));
    // Delivery Optimization, which has the peer protocol's messages, beside a client that only looks for an update
    EXPECT_FALSE(reaches(codes(BT_EV_CLIENT_AGENT, BT_EV_TCP_MESSAGE, BT_EV_TCP_EXTENSION, BT_EV_TCP_FAST)));
}

TEST(Scorer, AClientAndWhatItIsForSuffice) {
    EXPECT_TRUE(reaches(codes(BT_EV_CLIENT_AGENT, BT_EV_TRACKER_SNI)));
    EXPECT_TRUE(reaches(codes(BT_EV_CLIENT_AGENT, BT_EV_SIGNATURE)));
    EXPECT_TRUE(reaches(codes(BT_EV_TRACKER_HTTP, BT_EV_TRACKER_SNI)));
    EXPECT_TRUE(reaches(codes(BT_EV_DHT_QUERY, BT_EV_TRACKER_SNI)));
}

TEST(Scorer, PointsHalveInAQuarterOfAnHour) {
    Scorer scorer;
    scorer.add(host(1), codes(BT_EV_CLIENT_AGENT), second);
    EXPECT_NEAR(scorer.points(host(1), second + BT_CLIENT_TTL_NS), 35, 1e-6);
    EXPECT_NEAR(scorer.points(host(1), second + 2 * BT_CLIENT_TTL_NS), 17.5, 1e-6);
    EXPECT_EQ(scorer.add(host(1), codes(BT_EV_TRACKER_SNI), second + BT_CLIENT_TTL_NS).reached, 0u) << "too long ago";
    EXPECT_NE(scorer.add(host(1), codes(BT_EV_CLIENT_AGENT), second + BT_CLIENT_TTL_NS + 60 * second).reached, 0u);
}

TEST(Scorer, NamesWhatCountsAndTellsOnce) {
    Scorer scorer;
    constexpr std::uint32_t both = codes(BT_EV_CLIENT_AGENT, BT_EV_TRACKER_SNI);
    EXPECT_EQ(scorer.add(host(1), codes(BT_EV_CLIENT_AGENT), second).reached, 0u);
    const Scorer::Score first = scorer.add(host(1), codes(BT_EV_TRACKER_SNI), 2 * second);
    EXPECT_EQ(first.reached, both);
    EXPECT_TRUE(first.crossed);
    const Scorer::Score again = scorer.add(host(1), codes(BT_EV_TRACKER_SNI), 3 * second);
    EXPECT_EQ(again.reached, both) << "still: the client stays active";
    EXPECT_FALSE(again.crossed);
    // A day later the look-up counts no more.
    EXPECT_EQ(scorer.add(host(1), codes(BT_EV_CLIENT_AGENT, BT_EV_TRACKER_HTTP), 90000 * second).reached,
              codes(BT_EV_CLIENT_AGENT, BT_EV_TRACKER_HTTP));
}

TEST(Scorer, ClientsAreToldApartAndATableFullOfThemForgets) {
    Scorer scorer(16);
    scorer.add(host(1), codes(BT_EV_CLIENT_AGENT), second);
    EXPECT_EQ(scorer.add(host(2), codes(BT_EV_TRACKER_SNI), second).reached, 0u);
    for (unsigned i = 100; i < 200; ++i)
        scorer.add(host(i), codes(BT_EV_ENTROPY), second);
    EXPECT_EQ(scorer.points(host(1), second), 0);
    EXPECT_GT(scorer.points(host(199), second), 0);
}

// ---------------------------------------------------------------- through the whole decision

class Gateway {
public:
    bool passes(const Packet& packet) {
        const std::string ip = packet.ip();
        const std::span bytes(reinterpret_cast<const std::uint8_t*>(ip.data()), ip.size());
        return pipeline_.packet(bytes, ip.size(), now_ += 1'000'000).action == BT_ACT_PASS;
    }
    // A connection of its own.
    bool get(const std::string& target, const std::string& agent, const std::string& from = client4,
             const std::string& to = remote4) {
        return passes(Packet::tcp(from, ++port_, to, 80)
                          .payload("GET " + target + " HTTP/1.1\r\nHost: h\r\nUser-Agent: " + agent + "\r\n\r\n"));
    }
    // The third turn, with a peer handshake in it, of a connection that is shaped like MSE.
    bool third_turn_passes() {
        Stream out(client4, ++port_, remote4, 51000), back(remote4, 51000, client4, port_);
        EXPECT_TRUE(passes(out.next(noise(300, 3))));
        EXPECT_TRUE(passes(back.next(noise(200, 1))));
        return passes(out.next(noise(124, 2)));
    }
    void wait(std::uint64_t seconds) { now_ += seconds * second; }

private:
    detect::Pipeline pipeline_;
    std::uint64_t now_ = second;
    std::uint16_t port_ = 20000;
};

const std::string word_hash = "/x?info_hash=abcdefghijklmnopqrst"; // 20 letters: a word, perhaps

TEST(ScorerInPath, WeighingFindingsMakeAClientActive) {
    Gateway gateway;
    EXPECT_TRUE(gateway.get("/geoip", "qBittorrent/4.5.2"));
    EXPECT_TRUE(gateway.third_turn_passes());
    EXPECT_TRUE(gateway.get(word_hash, "Mozilla/5.0")) << "what makes the client active is not blocked itself";
    EXPECT_FALSE(gateway.third_turn_passes());
    gateway.wait(2000);
    EXPECT_TRUE(gateway.third_turn_passes()) << "forgotten";
}

TEST(ScorerInPath, TheSameAgainIsNothingNew) {
    Gateway gateway;
    for (int i = 0; i < 500; ++i)
        EXPECT_TRUE(gateway.get("/rpc", "Transmission/3.00"));
    EXPECT_TRUE(gateway.third_turn_passes());
}

TEST(ScorerInPath, AStrictSynOfAScoredClientProves) {
    Gateway gateway;
    const auto syn = [](std::uint16_t port) {
        return Packet::udp(client4, port, remote4, 51000).payload(utp(4, 7, 1, 0));
    };
    EXPECT_TRUE(gateway.passes(syn(7000)));
    gateway.get("/geoip", "qBittorrent/4.5.2");
    gateway.get(word_hash, "Mozilla/5.0");
    EXPECT_FALSE(gateway.passes(syn(7001)));
}

std::string hello(const std::string& host) {
    const std::string entry = be(0, 1) + be(host.size(), 2) + host;
    const std::string extensions = be(0, 2) + be(entry.size() + 2, 2) + be(entry.size(), 2) + entry;
    const std::string body = be(0x0303, 2) + noise(32, 1) + be(0, 1) + be(2, 2) + be(0x1301, 2) + be(1, 1) + be(0, 1) +
                             be(extensions.size(), 2) + extensions;
    return be(0x160301, 3) + be(body.size() + 4, 2) + be(1, 1) + be(body.size(), 3) + body;
}

TEST(ScorerInPath, AClientAndATrackersName) {
    Gateway gateway;
    gateway.get("/geoip", "qBittorrent/4.5.2");
    EXPECT_TRUE(gateway.passes(Packet::tcp(client4, 1500, remote4, 443).payload(hello("www.example.org"))));
    EXPECT_TRUE(gateway.third_turn_passes());
    EXPECT_TRUE(gateway.passes(Packet::tcp(client4, 1501, remote4, 443).payload(hello("tracker.opentrackr.org"))));
    EXPECT_FALSE(gateway.third_turn_passes());
}

// Torrent sites, a tracker's name looked up and connected to, and Shadowsocks through a SOCKS proxy, for an hour.
TEST(ScorerInPath, AHouseholdThatReadsTorrentSitesStaysInactive) {
    Gateway gateway;
    for (unsigned i = 0; i < 60; ++i) {
        gateway.get("/index.php?q=ubuntu", "Mozilla/5.0");
        const auto port = static_cast<std::uint16_t>(2000 + i);
        EXPECT_TRUE(gateway.passes(Packet::udp(client4, port, remote4, 53)
                                       .payload(be(1, 2) + be(0x0100, 2) + be(1, 2) + be(0, 6) +
                                                "\x07tracker\x0aopentrackr\x03org" + be(0, 1) + be(1, 2) + be(1, 2))));
        EXPECT_TRUE(gateway.passes(Packet::tcp(client4, port, remote4, 443).payload(hello("tracker.opentrackr.org"))));
        Stream out(client4, port, "192.168.7.7", 1080), back("192.168.7.7", 1080, client4, port);
        EXPECT_TRUE(gateway.passes(out.next(be(0x050100, 3))));
        EXPECT_TRUE(gateway.passes(back.next(be(0x0500, 2))));
        EXPECT_TRUE(gateway.passes(out.next(be(0x05010001, 4) + be(0xcb007105, 4) + be(8388, 2))));
        EXPECT_TRUE(gateway.passes(back.next(be(0x05000001, 4) + be(0, 6))));
        EXPECT_TRUE(gateway.passes(out.next(noise(300, i))));
        EXPECT_TRUE(gateway.third_turn_passes());
        gateway.wait(60);
    }
}

// An inside web server whom a crawler outside asks such things.
TEST(ScorerInPath, WhatComesFromOutsideDoesNotCount) {
    Gateway gateway;
    gateway.get("/file", "libtorrent/2.0", remote4, client4);
    gateway.get(word_hash, "Mozilla/5.0", remote4, client4);
    EXPECT_TRUE(gateway.third_turn_passes());
}

} // namespace
} // namespace btblock::test
