// SPDX-License-Identifier: MIT
// Headers of all kinds, and packets cut short anywhere: what is BitTorrent is found behind every header that the parser
// knows, and nothing is ever dropped because it is malformed.
#include "bpf/Kernel.h"
#include "bpf/Scenarios.h"

#include <functional>

namespace btblock::test {
namespace {

class ParseTest : public KernelTest {
protected:
    static Packet query4() { return Packet::udp(client4, 6881, remote4, 7777).payload(dht_query()); }
    static Packet query6() { return Packet::udp(client6, 6881, remote6, 7777).payload(dht_query()); }
    static Packet peer4() { return Packet::tcp(client4, 6881, remote4, 7777).payload(handshake()); }
    static Packet peer6() { return Packet::tcp(client6, 6881, remote6, 7777).payload(handshake()); }
};

TEST_F(ParseTest, FoundBehindEveryHeader) {
    using Change = std::function<void(Packet&)>;
    const std::vector<std::pair<const char*, Change>> any{
        {"plain", [](Packet&) {}},
        {"VLAN", [](Packet& p) { p.vlan(5); }},
        {"VLAN in VLAN", [](Packet& p) { p.vlan(5).vlan(6); }},
        {"QinQ", [](Packet& p) { p.qinq(100, 5); }},
        {"TCP options", [](Packet& p) { p.tcp_options(10); }},
        {"length 0 (GSO)", [](Packet& p) { p.ip_length(0); }},
        {"first fragment", [](Packet& p) { p.fragment(0, true); }},
    };
    const std::vector<std::pair<const char*, Change>> v4{
        {"one option", [](Packet& p) { p.ip_options(1); }},
        {"all options", [](Packet& p) { p.ip_options(10); }},
        {"QinQ and options", [](Packet& p) { p.qinq(1, 2).ip_options(10).tcp_options(10); }},
    };
    const std::vector<std::pair<const char*, Change>> v6{
        {"hop-by-hop", [](Packet& p) { p.extension(0); }},
        {"destination options", [](Packet& p) { p.extension(60, 24); }},
        {"routing", [](Packet& p) { p.extension(43, 40); }},
        {"AH", [](Packet& p) { p.extension(51, 24); }},
        {"chain",
         [](Packet& p) {
             p.extension(0).extension(60).extension(43, 24).extension(51, 16).extension(60).fragment(0, true);
         }},
    };
    const auto check = [](const char* name, Packet p, const Change& change) {
        change(p);
        kernel().reset();
        EXPECT_EQ(kernel().ingress(p).code, tc_drop) << name;
        EXPECT_TRUE(kernel().flow(p)) << name;
        bt_ban ban{};
        ban.expires_ns = ~0ULL;
        ASSERT_TRUE(kernel().maps.bans.update(p.tuple().dst, ban));
        EXPECT_EQ(kernel().xdp(p).code, XDP_DROP) << name;
    };
    for (const auto& [name, change] : any)
        for (const Packet& p : {query4(), query6(), peer4(), peer6()})
            check(name, p, change);
    for (const auto& [name, change] : v4)
        for (const Packet& p : {query4(), peer4()})
            check(name, p, change);
    for (const auto& [name, change] : v6)
        for (const Packet& p : {query6(), peer6()})
            check(name, p, change);
}

TEST_F(ParseTest, BeyondWhatIsParsedPasses) {
    const std::vector<Packet> packets{
        query4().vlan(1).vlan(2).vlan(3),
        query6().extension(0).extension(60).extension(60).extension(60).extension(60).extension(60).extension(60),
        query4().fragment(3, true),
        query6().fragment(3, false),
    };
    for (const Packet& p : packets) {
        EXPECT_EQ(kernel().ingress(p).code, tc_next);
        EXPECT_EQ(kernel().xdp(p).code, XDP_PASS);
        EXPECT_FALSE(kernel().flow(p));
    }
    EXPECT_EQ(kernel().counter(BT_S_FRAGMENTS), 2u);
    EXPECT_EQ(kernel().counter(BT_S_PARSE_SKIPPED), 2u);
}

TEST_F(ParseTest, EthernetPaddingIsNotPayload) {
    const Packet bare = Packet::tcp(client4, 1, remote4, 2);
    const std::string frame = bare.frame() + handshake();
    EXPECT_EQ(kernel().run(bpf::Program::ingress_l2, frame).code, tc_next);
    EXPECT_FALSE(kernel().flow(bare));
}

TEST_F(ParseTest, NotIpPasses) {
    std::string arp = query4().frame();
    arp[13] = 6;
    EXPECT_EQ(kernel().run(bpf::Program::ingress_l2, arp).code, tc_next);
    std::string wrong_version = query4().frame();
    wrong_version[14] = 0x65;
    EXPECT_EQ(kernel().run(bpf::Program::ingress_l2, wrong_version).code, tc_next);
    std::string short_header = query4().frame();
    short_header[14] = 0x44;
    EXPECT_EQ(kernel().run(bpf::Program::ingress_l2, short_header).code, tc_next);
    std::string short_tcp = peer4().frame();
    short_tcp[46] = 0x40;
    EXPECT_EQ(kernel().run(bpf::Program::ingress_l2, short_tcp).code, tc_next);
    EXPECT_EQ(kernel().counter(BT_S_PARSE_SKIPPED), 4u);
}

// Cut at every length, with the header still claiming the whole: no crash, no drop before the evidence is complete.
TEST_F(ParseTest, CutAtEveryLength) {
    const std::vector<std::pair<Packet, std::size_t>> packets{
        {query4(), 40},
        {query6(), 40},
        {peer4(), 20},
        {peer6(), 20},
        {query4().qinq(1, 2).ip_options(10), 40},
        {peer6().extension(0, 16).extension(51, 12).extension(43, 24).fragment(0, true).tcp_options(10), 20},
        {Packet::udp(client4, 1, remote4, 2).payload(tracker_announce()), 98},
        {Packet::udp(client4, 1, remote4, 2).payload(tracker_connect()), 16},
        {Packet::udp(client4, 1, remote4, 2).payload(socks_udp(4, dht_query())), 62},
    };
    for (const auto& [packet, enough] : packets) {
        const std::string frame = packet.frame();
        for (std::size_t n = 14; n <= frame.size(); ++n) {
            kernel().reset();
            const bool complete = n >= packet.header_size() + enough;
            for (const auto program : {bpf::Program::ingress_l2, bpf::Program::egress_l2}) {
                const Outcome got = kernel().run(program, frame.substr(0, n));
                if (got.code <= -1000)
                    continue; // this kernel does not run so short a frame
                EXPECT_EQ(got.code, complete ? tc_drop : tc_next) << n << " of " << frame.size();
            }
            kernel().reset();
            const Outcome early = kernel().run(bpf::Program::xdp, frame.substr(0, n));
            EXPECT_TRUE(early.code == XDP_PASS || early.code <= -1000) << n;
        }
    }
}

} // namespace
} // namespace btblock::test
