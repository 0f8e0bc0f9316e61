// SPDX-License-Identifier: MIT
// The public interface of libbtblock.
#include "bpf/Scenarios.h"
#include "btblock/btblock.hpp"

#include <cstdio>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <utility>

namespace btblock::test {
namespace {

std::span<const std::uint8_t> bytes(const std::string& s) {
    return {reinterpret_cast<const std::uint8_t*>(s.data()), s.size()};
}

PacketVerdict feed(Analyzer& analyzer, const Packet& packet, std::uint64_t now = 1) {
    const std::string ip = packet.ip();
    return analyzer.packet(bytes(ip), ip.size(), now);
}

Packet query_of(std::uint16_t port) {
    return Packet::udp(client4, port, remote4, 6881).payload(dht_query());
}

std::string captures() {
    return BTBLOCK_SOURCE_DIR "/tests/corpus/captures/";
}

TEST(Library, NamesAndVersion) {
    EXPECT_EQ(library_version(), BTBLOCK_VERSION);
    EXPECT_EQ(to_string(Verdict::other), "other");
    EXPECT_EQ(to_string(Verdict::bittorrent), "bittorrent");
    EXPECT_EQ(to_string(Transport::tcp), "tcp");
    EXPECT_EQ(to_string(Transport::udp), "udp");
}

TEST(Library, EvidenceIsASetOfCodes) {
    EvidenceSet none;
    EXPECT_TRUE(none.empty());
    EXPECT_EQ(none.to_string(), "");
    EXPECT_TRUE(none.codes().empty());
    EvidenceSet some(BT_EV_BIT(BT_EV_DHT_QUERY));
    some.add(EvidenceSet(BT_EV_BIT(BT_EV_UTP_SYN)));
    EXPECT_TRUE(some.contains("dht.query"));
    EXPECT_FALSE(some.contains("dht.error"));
    EXPECT_FALSE(some.contains("dht"));
    EXPECT_EQ(some.to_string(), "utp.syn+dht.query");
    EXPECT_THAT(some.codes(), testing::ElementsAre("utp.syn", "dht.query"));
    EXPECT_NE(some, none);
}

TEST(Library, Prefixes) {
    const auto net4 = IpPrefix::parse("192.0.2.7/24");
    ASSERT_TRUE(net4);
    EXPECT_EQ(net4->bits, 120u);
    EXPECT_EQ(net4->address.to_string(), "192.0.2.0");
    EXPECT_EQ(IpPrefix::parse("2001:db8::/32")->bits, 32u);
    EXPECT_EQ(IpPrefix::parse("2001:db8::1")->address.to_string(), "2001:db8::1");
    for (const char* wrong : {"", "192.0.2.0/33", "2001:db8::/129", "example.org", "192.0.2.0/", "192.0.2/24"})
        EXPECT_FALSE(IpPrefix::parse(wrong)) << wrong;
}

TEST(Library, VerdictOnEachPacketAndEachFlow) {
    Analyzer analyzer;
    const PacketVerdict text = feed(analyzer, Packet::udp(client4, 7, remote4, 8).payload("hello"));
    EXPECT_EQ(text.verdict, Verdict::other);
    EXPECT_TRUE(text.is_flow && text.evidence.empty());
    const PacketVerdict query = feed(analyzer, query_of(5000));
    EXPECT_EQ(query.verdict, Verdict::bittorrent);
    EXPECT_EQ(query.evidence.to_string(), "dht.query");
    const PacketVerdict reply = feed(analyzer, query_of(5000).reply());
    EXPECT_EQ(reply.verdict, Verdict::bittorrent) << "the flow is blocked in both directions";

    ASSERT_EQ(analyzer.flows().size(), 2u);
    const Flow& other = analyzer.flows()[0];
    EXPECT_EQ(other.verdict, Verdict::other);
    EXPECT_EQ(other.first_packet, 0u);
    const Flow& dht = analyzer.flows()[1];
    EXPECT_EQ(dht.proto, Transport::udp);
    EXPECT_EQ(dht.src.to_string(), client4);
    EXPECT_EQ(dht.dst.to_string(), remote4);
    EXPECT_EQ(dht.sport, 5000);
    EXPECT_EQ(dht.dport, 6881);
    EXPECT_EQ(dht.packets, 2u);
    EXPECT_EQ(dht.first_seen, 2u);
    EXPECT_EQ(dht.last_seen, 3u);
    EXPECT_EQ(dht.verdict, Verdict::bittorrent);
    EXPECT_EQ(dht.first_packet, 2u);
}

TEST(Library, TakenFlowsAreForgottenWhatWasLearnedIsNot) {
    Analyzer analyzer;
    feed(analyzer, query_of(5000));
    const std::vector<Flow> taken = analyzer.take_flows();
    ASSERT_EQ(taken.size(), 1u);
    EXPECT_TRUE(analyzer.flows().empty());
    const PacketVerdict later = feed(analyzer, Packet::udp(client4, 5000, "203.0.113.77", 9).payload("data"));
    EXPECT_EQ(later.evidence.to_string(), "socket.condemned");
    feed(analyzer, query_of(5000));
    ASSERT_EQ(analyzer.flows().size(), 2u);
    EXPECT_EQ(analyzer.flows()[1].packets, 1u);
    EXPECT_EQ(analyzer.flows()[1].first_packet, 3u);
}

TEST(Library, WithoutAListNothingIsListed) {
    AnalyzerOptions options;
    options.list_flows = false;
    Analyzer analyzer(options);
    EXPECT_EQ(feed(analyzer, query_of(1)).verdict, Verdict::bittorrent);
    EXPECT_TRUE(analyzer.flows().empty());
}

// Only what the inside side gives away counts against its socket.
TEST(Library, InsideIsWhatTheCallerSays) {
    for (const bool inside : {true, false}) {
        AnalyzerOptions options;
        options.inside = {*IpPrefix::parse(inside ? "10.0.0.0/8" : "192.168.0.0/16")};
        Analyzer analyzer(options);
        EXPECT_EQ(feed(analyzer, query_of(5000)).verdict, Verdict::bittorrent);
        const auto later = feed(analyzer, Packet::udp(client4, 5000, "203.0.113.77", 9).payload("data"));
        EXPECT_EQ(later.verdict, inside ? Verdict::bittorrent : Verdict::other);
    }
}

TEST(Library, FramesOfALinkType) {
    const std::string ip = query_of(1).ip();
    const std::string ethernet = std::string(12, '\x02') + "\x08" + std::string(1, '\0') + ip;
    Analyzer analyzer;
    EXPECT_EQ(analyzer.frame(1, bytes(ethernet), ethernet.size(), 1).verdict, Verdict::bittorrent);
    EXPECT_FALSE(analyzer.frame(1, bytes(ip), ip.size(), 1).is_flow) << "not Ethernet";
    EXPECT_FALSE(analyzer.frame(105, bytes(ethernet), ethernet.size(), 1).is_flow) << "a link type nobody reads";
    EXPECT_FALSE(analyzer.frame(1, {}, 0, 1).is_flow);
    EXPECT_FALSE(analyzer.packet({}, 0, 1).is_flow);
    EXPECT_EQ(analyzer.flows().size(), 1u);
}

TEST(Library, ReadsCapturesOneAfterTheOther) {
    Analyzer analyzer;
    const CaptureInfo first = analyzer.read_capture(captures() + "bt_dht.pcap");
    EXPECT_EQ(first.error, "");
    EXPECT_EQ(first.link_type, "EN10MB");
    EXPECT_EQ(first.packets, 2u);
    EXPECT_EQ(first.skipped, 0u);
    const CaptureInfo missing = analyzer.read_capture(captures() + "none.pcap");
    EXPECT_THAT(missing.error, testing::HasSubstr("none.pcap: No such file"));
    EXPECT_EQ(missing.link_type, "");
    const CaptureInfo second = analyzer.read_capture(captures() + "bt_dht_ipv6.pcap");
    EXPECT_EQ(second.error, "");
    ASSERT_EQ(analyzer.flows().size(), 2u);
    EXPECT_EQ(analyzer.flows()[1].first_packet, 3u) << "numbers go on";
}

TEST(Library, MovesAndIsIndependent) {
    Analyzer one;
    feed(one, query_of(5000));
    Analyzer other;
    EXPECT_EQ(feed(other, Packet::udp(client4, 5000, "203.0.113.77", 9).payload("data")).verdict, Verdict::other);
    Analyzer moved = std::move(one);
    EXPECT_EQ(moved.flows().size(), 1u);
    other = std::move(moved);
    EXPECT_EQ(other.flows().size(), 1u);
    EXPECT_EQ(other.flows()[0].verdict, Verdict::bittorrent);
}

} // namespace
} // namespace btblock::test
