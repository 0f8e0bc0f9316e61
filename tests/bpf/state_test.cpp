// SPDX-License-Identifier: MIT
// What the programs know beforehand and what they learn: bans, sockets, peers, clients, events, limits, marks.
#include "bpf/Kernel.h"
#include "bpf/Scenarios.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

namespace btblock::test {
namespace {

constexpr std::uint64_t minute = 60 * BT_NSEC_PER_SEC;

// The kernel's coarse clock lags by up to a tick.
std::uint64_t past() {
    return now_ns() - BT_NSEC_PER_SEC / 10;
}

class StateTest : public KernelTest {
protected:
    static void ban(std::string_view who, std::uint64_t expires_ns, unsigned flags = 0,
                    std::vector<std::uint16_t> ports = {}) {
        bt_ban entry{};
        entry.expires_ns = expires_ns;
        entry.flags = static_cast<bt_u16>(flags);
        entry.port_count = static_cast<bt_u16>(ports.size());
        std::copy(ports.begin(), ports.end(), entry.ports);
        ASSERT_TRUE(kernel().maps.bans.update(address(who), entry));
    }
    static void allow(const char* prefix, std::uint64_t expires_ns = ~0ULL) {
        bt_allow entry{};
        entry.expires_ns = expires_ns;
        ASSERT_TRUE(kernel().maps.allow.update(net::Prefix::parse(prefix)->lpm(), entry));
    }
    // One datagram to each of `hosts` hosts on as many ports as asked for.
    static void open_flows(const std::string& client, unsigned hosts, unsigned ports, const std::string& payload) {
        for (unsigned i = 0; i < hosts; ++i)
            EXPECT_EQ(kernel()
                          .ingress(Packet::udp(client, 40000, "203.0." + std::to_string(i) + ".7",
                                               static_cast<std::uint16_t>(20000 + i % ports))
                                       .payload(payload))
                          .code,
                      tc_next);
    }
    static bt_endpoint endpoint(std::string_view who, std::uint16_t port) { return {address(who), port, 17, 0}; }
    static void condemn(std::string_view who, std::uint16_t port, std::uint64_t expires_ns) {
        ASSERT_TRUE(kernel().maps.sockets.update(endpoint(who, port), {expires_ns, 0, 0, 0}));
    }
    static Packet udp(std::string_view from = client4, std::string_view to = remote4) {
        return Packet::udp(from, 5000, to, 6000).payload("some text that is nothing");
    }
    // All three programs agree on what is known already.
    static void expect_all(const Packet& p, bool dropped, const char* what) {
        EXPECT_EQ(kernel().ingress(p).code, dropped ? tc_drop : tc_next) << what;
        EXPECT_EQ(kernel().egress(p).code, dropped ? tc_drop : tc_next) << what;
        EXPECT_EQ(kernel().xdp(p).code, dropped ? XDP_DROP : XDP_PASS) << what;
    }
};

// ---------------------------------------------------------------- bans

TEST_F(StateTest, BannedAddress) {
    ban(remote4, now_ns() + minute);
    expect_all(udp(), true, "destination");
    expect_all(udp().reply(), true, "source");
    expect_all(udp(client4, other4), false, "another address");
    expect_all(Packet::tcp(client4, 1, remote4, 2).flags(syn), true, "SYN");
    EXPECT_EQ(kernel().counter(BT_S_DROP_BAN), 9u);
    EXPECT_EQ((*kernel().maps.bans.lookup(address(remote4)))->hits, 9u);
}

TEST_F(StateTest, BanExpiresByTheKernelsClock) {
    ban(remote4, past());
    expect_all(udp(), false, "expired");
    ban(remote4, ~0ULL);
    expect_all(udp(), true, "for ever");
}

TEST_F(StateTest, BannedEndpoints) {
    ban(remote4, ~0ULL, 0, {1, 6000});
    expect_all(udp(), true, "its port as destination");
    expect_all(udp().reply(), true, "its port as source");
    expect_all(Packet::udp(client4, 6000, remote4, 5000).payload("text"), false, "that port on the other side");
    ban(remote4, ~0ULL, 0, {1, 2, 3, 4, 5, 6, 7, 6000});
    expect_all(udp(), true, "the last of eight ports");
}

TEST_F(StateTest, BannedIpv6AndSubnet) {
    ban(remote6, ~0ULL);
    expect_all(udp(client6, remote6), true, "exact");
    expect_all(udp(client6, "2001:db8::a"), false, "neighbour");
    kernel().reset();
    ban("2001:db8::", ~0ULL, BT_BAN_SUBNET64);
    expect_all(udp(client6, remote6), true, "in the /64");
    expect_all(udp(client6, "2001:db8::ffff:1:2:3"), true, "in the /64 too");
    expect_all(udp(client6, "2001:db8:0:1::9"), false, "next /64");
    kernel().reset();
    ban("2001:db8::", ~0ULL);
    expect_all(udp(client6, remote6), false, "the subnet's first address alone is no subnet");
}

TEST_F(StateTest, AllowlistWinsOverBans) {
    ban(remote4, ~0ULL);
    allow("203.0.113.0/24");
    expect_all(udp(), false, "allowed");
    allow("203.0.113.0/24", past());
    expect_all(udp(), true, "allowed until a moment ago");
}

TEST_F(StateTest, BansHoldForFragmentsAndOtherProtocols) {
    ban(remote4, ~0ULL);
    ban(remote6, ~0ULL);
    expect_all(udp().fragment(10, true), true, "later fragment");
    expect_all(udp(client6, remote6).fragment(10, false), true, "later IPv6 fragment");
    std::string icmp = udp().frame();
    icmp[23] = 1;
    EXPECT_EQ(kernel().run(bpf::Program::ingress_l2, icmp).code, tc_drop);
    icmp[33] = 1; // another destination
    EXPECT_EQ(kernel().run(bpf::Program::ingress_l2, icmp).code, tc_next);
}

// ---------------------------------------------------------------- condemned sockets and learned peers

TEST_F(StateTest, CondemnedSocketIsClosedBothWays) {
    condemn(client4, 5000, now_ns() + minute);
    expect_all(udp(), true, "from it");
    expect_all(udp().reply(), true, "to it");
    expect_all(Packet::udp(client4, 5001, remote4, 6000).payload("text"), false, "another socket");
    // TC remembers it in the half-flow, so that a flow is one event
    EXPECT_EQ(kernel().counter(BT_S_DROP_SOCKET) + kernel().counter(BT_S_DROP_FLOW), 6u);
    EXPECT_GE(kernel().counter(BT_S_DROP_SOCKET), 3u);
    EXPECT_LE(kernel().take_events().size(), 2u);
    const auto mark = *kernel().maps.sockets.lookup(endpoint(client4, 5000));
    EXPECT_EQ(mark->hits, kernel().counter(BT_S_DROP_SOCKET));
    EXPECT_GT(mark->expires_ns, now_ns() + BT_SOCKET_TTL_NS - minute) << "use keeps it";
}

TEST_F(StateTest, CondemnedSocketExpires) {
    condemn(client4, 5000, past());
    expect_all(udp(), false, "expired");
}

TEST_F(StateTest, CondemnedSocketTeachesPeersOnlyByWhatItSends) {
    condemn(client4, 5000, now_ns() + minute);
    kernel().ingress(udp(remote4, client4).payload("forged").reply().reply());
    const bt_peer_key inbound{address(client4), address(remote4), 5000, 0};
    EXPECT_FALSE(*kernel().maps.peers.lookup(inbound));
    EXPECT_EQ(kernel().counter(BT_S_LEARNED), 0u);
    EXPECT_EQ(kernel().ingress(udp()).code, tc_drop);
    const bt_peer_key outbound{address(client4), address(remote4), 6000, 0};
    EXPECT_TRUE(*kernel().maps.peers.lookup(outbound));
    EXPECT_EQ(kernel().counter(BT_S_LEARNED), 1u);
    // and TCP to that peer does not even start
    EXPECT_EQ(kernel().ingress(Packet::tcp(client4, 1234, remote4, 6000).flags(syn)).code, tc_drop);
    EXPECT_EQ(kernel().ingress(Packet::tcp("10.0.0.3", 1234, remote4, 6000).flags(syn)).code, tc_next)
        << "another client";
    EXPECT_EQ(kernel().ingress(Packet::tcp(client4, 1234, remote4, 6001).flags(syn)).code, tc_next) << "another port";
    EXPECT_EQ(kernel().ingress(Packet::tcp(remote4, 6000, client4, 1234).flags(syn | ack)).code, tc_next);
    EXPECT_EQ(kernel().counter(BT_S_DROP_PEER), 1u);
    EXPECT_EQ(kernel().counter(+BT_S_DETECTIONS + +BT_EV_PEER_LEARNED), 1u);
}

TEST_F(StateTest, OpenConnectionToALearnedPeer) {
    const bt_peer_key key{address(client4), address(remote4), 6000, 0};
    ASSERT_TRUE(kernel().maps.peers.update(key, {now_ns() + minute, 0, 0, 0}));
    const Packet p = Packet::tcp(client4, 1234, remote4, 6000).payload("anything");
    EXPECT_EQ(kernel().ingress(p).code, tc_drop);
    EXPECT_EQ(kernel().ingress(p.reply()).code, tc_drop);
    ASSERT_TRUE(kernel().maps.peers.update(key, {past(), 0, 0, 0}));
    const Packet later = Packet::tcp(client4, 1235, remote4, 6000).payload("anything");
    EXPECT_EQ(kernel().ingress(later).code, tc_next) << "expired";
    EXPECT_EQ(kernel().ingress(Packet::tcp(client4, 1235, remote4, 6000).flags(syn)).code, tc_next);
}

TEST_F(StateTest, SynToTheListeningPortOfACondemnedSocket) {
    condemn(client4, 51413, now_ns() + minute);
    condemn(client4, 443, now_ns() + minute);
    EXPECT_EQ(kernel().ingress(Packet::tcp(remote4, 999, client4, 51413).flags(syn)).code, tc_drop);
    EXPECT_EQ(kernel().ingress(Packet::tcp(remote4, 999, client4, 443).flags(syn)).code, tc_next) << "common port";
    allow("203.0.113.9");
    EXPECT_EQ(kernel().ingress(Packet::tcp(remote4, 999, client4, 51413).flags(syn)).code, tc_next) << "allowlisted";
}

TEST_F(StateTest, DetectionCondemnsTheInsideSocketAndActivatesItsClient) {
    const Packet query = Packet::udp(client4, 6881, remote4, 7777).payload(dht_query());
    EXPECT_EQ(kernel().ingress(query).code, tc_drop);
    const auto mark = *kernel().maps.sockets.lookup(endpoint(client4, 6881));
    ASSERT_TRUE(mark);
    EXPECT_EQ(mark->evidence, BT_EV_BIT(BT_EV_DHT_QUERY));
    EXPECT_FALSE(*kernel().maps.sockets.lookup(endpoint(remote4, 7777))) << "never an outside socket";
    const auto client = *kernel().maps.clients.lookup(address(client4));
    ASSERT_TRUE(client);
    EXPECT_GT(client->active_until_ns, now_ns());
    EXPECT_EQ(client->detections, 1u);
    EXPECT_EQ(client->evidence, BT_EV_BIT(BT_EV_DHT_QUERY));
    EXPECT_TRUE(*kernel().maps.peers.lookup({address(client4), address(remote4), 7777, 0}));
    EXPECT_EQ(kernel().flow(query)->verdict, BT_V_BLOCKED);
    EXPECT_EQ(kernel().flow(query.reply())->verdict, BT_V_BLOCKED);
    EXPECT_EQ(kernel().ingress(Packet::udp(client4, 6881, other4, 1).payload("?")).code, tc_drop)
        << "same socket, elsewhere";
    EXPECT_EQ(kernel().xdp(Packet::udp(other4, 1, client4, 6881).payload("?")).code, XDP_DROP);
}

// Anyone can send a datagram with any source address.
TEST_F(StateTest, ForgedDatagramFromOutsideHarmsNobody) {
    const std::array<std::string, 6> forgeries{dht_query(),       dht_response(),     dht_error(),
                                               tracker_connect(), tracker_announce(), socks_udp(1, dht_query())};
    for (const std::string& forgery : forgeries) {
        kernel().reset();
        const Packet p = Packet::udp(remote4, 7777, client4, 53).payload(forgery);
        EXPECT_EQ(kernel().ingress(p).code, tc_drop) << "the datagram itself";
        EXPECT_FALSE(*kernel().maps.sockets.lookup(endpoint(client4, 53)));
        EXPECT_FALSE(*kernel().maps.clients.lookup(address(client4)));
        EXPECT_EQ(kernel().counter(BT_S_CONDEMNED) + kernel().counter(BT_S_LEARNED), 0u);
        EXPECT_EQ(kernel().ingress(Packet::udp(other4, 5555, client4, 53).payload(dns_query())).code, tc_next)
            << "the service goes on";
        EXPECT_EQ(kernel().ingress(Packet::udp(client4, 53, other4, 5555).payload(dns_query())).code, tc_next);
        EXPECT_EQ(kernel().ingress(p.reply().payload("an ordinary answer")).code, tc_next)
            << "what the inside sends is judged by itself";
    }
}

// A tuple that has shown to be something else stays that, whoever forges datagrams into it.
TEST_F(StateTest, ForgedDatagramDoesNotCloseAKnownFlow) {
    const Packet tunnel = Packet::udp(client4, 41000, remote4, 51820).payload(wireguard_init());
    EXPECT_EQ(kernel().ingress(tunnel).code, tc_next);
    EXPECT_EQ(kernel().ingress(tunnel.reply().payload(dht_query())).code, tc_drop);
    EXPECT_EQ(kernel().ingress(tunnel).code, tc_next);
    EXPECT_EQ(kernel().flow(tunnel)->verdict, BT_V_CLEAN);
}

// Nor does a segment of a connection that nobody accepted: its sender's address is worth nothing.
TEST_F(StateTest, ForgedSegmentFromOutsideHarmsNobody) {
    const Packet p = Packet::tcp(remote4, 7777, client4, 8080).seq(500).acknowledges(900).payload(handshake());
    EXPECT_EQ(kernel().ingress(p).code, tc_drop) << "the segment itself";
    EXPECT_FALSE(*kernel().maps.clients.lookup(address(client4)));
    auto events = kernel().take_events();
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].unasked, 1);
    EXPECT_EQ(kernel().ingress(p.reply().payload("HTTP/1.1 200 OK")).code, tc_next) << "the service goes on";
    // Accepted, and answered: that one sees what the client sends.
    for (const unsigned answers : {900u, 901u}) {
        SCOPED_TRACE(answers);
        kernel().reset();
        kernel().ingress(Packet::tcp(client4, 8080, remote4, 7777).seq(900).acknowledges(500).flags(syn | ack));
        const Packet again = Packet::tcp(remote4, 7777, client4, 8080).seq(500).acknowledges(answers);
        EXPECT_EQ(kernel().ingress(Packet(again).payload(handshake())).code, tc_drop);
        events = kernel().take_events();
        ASSERT_EQ(events.size(), 1u);
        EXPECT_EQ(events[0].unasked, answers == 901 ? 0 : 1);
        EXPECT_EQ(bool(*kernel().maps.clients.lookup(address(client4))), answers == 901);
    }
}

// The number of a socket that is closed by now belongs to another program: its lookups and calls pass, and count for
// nothing.
TEST_F(StateTest, WhatElseUsesACondemnedNumberPasses) {
    condemn(client4, 5000, now_ns() + minute);
    const Packet query = Packet::udp(client4, 5000, remote4, 53).payload(dns_query());
    const Packet call = Packet::udp(client4, 5000, remote4, 443).payload(quic_initial());
    for (const Packet& p : {query, call}) {
        EXPECT_EQ(kernel().xdp(p).code, XDP_PASS);
        EXPECT_EQ(kernel().ingress(p).code, tc_next);
        EXPECT_EQ(kernel().ingress(p.reply()).code, tc_next);
    }
    EXPECT_EQ(kernel().ingress(Packet(call).payload("what follows has no long header")).code, tc_next);
    EXPECT_EQ(kernel().xdp(Packet(call).payload("what follows has no long header")).code, XDP_PASS);
    EXPECT_EQ(kernel().counter(BT_S_LEARNED), 0u);
    EXPECT_LE((*kernel().maps.sockets.lookup(endpoint(client4, 5000)))->expires_ns, now_ns() + minute)
        << "no use of it";
    EXPECT_EQ(kernel().ingress(Packet::udp(client4, 5000, remote4, 444).payload("another datagram")).code, tc_drop);
    EXPECT_EQ(kernel().ingress(Packet::udp(client4, 5000, remote4, 54).payload(dht_query())).code, tc_drop);
}

// A flow that was open when its socket was condemned: what is another program's passes, and opens nothing to the rest.
TEST_F(StateTest, AnOpenFlowOfACondemnedSocketIsLookedAtAgainAndAgain) {
    const Packet call = Packet::udp(client4, 5000, remote4, 6000).payload(noise(200, 1));
    EXPECT_EQ(kernel().ingress(call).code, tc_next);
    condemn(client4, 5000, now_ns() + minute);
    EXPECT_EQ(kernel().ingress(Packet(call).payload(quic_initial())).code, tc_next);
    EXPECT_EQ(kernel().ingress(call).code, tc_drop);
}

TEST_F(StateTest, ATrackerIsNoPeer) {
    const Packet connect = Packet::udp(client4, 5000, remote4, 443).payload(tracker_connect());
    EXPECT_EQ(kernel().ingress(connect).code, tc_drop);
    EXPECT_EQ(kernel().ingress(connect).code, tc_drop);
    condemn(client4, 5001, now_ns() + minute);
    EXPECT_EQ(kernel().ingress(Packet::udp(client4, 5001, remote4, 443).payload(tracker_connect())).code, tc_drop);
    EXPECT_EQ(kernel().counter(BT_S_LEARNED), 0u);
    EXPECT_EQ(kernel().ingress(Packet::tcp(client4, 1234, remote4, 443).flags(syn)).code, tc_next);
}

// Connections that were open before something gave them away, long after they were looked at.
TEST_F(StateTest, ARunningConnectionEndsWhenItsPeerIsLearned) {
    enum class By { peer, number };
    for (const By by : {By::peer, By::number}) {
        kernel().reset();
        Stream out(client4, 51413, remote4, 6000), back(remote4, 6000, client4, 51413);
        for (unsigned i = 0; i < 20; ++i) {
            ASSERT_EQ(kernel().ingress(out.next(noise(200, i))).code, tc_next);
            ASSERT_EQ(kernel().ingress(back.next(noise(1400, 100 + i))).code, tc_next);
        }
        if (by == By::peer)
            ASSERT_TRUE(kernel().maps.peers.update({address(client4), address(remote4), 6000, 0},
                                                   {now_ns() + minute, 0, 0, 0}));
        else
            condemn(client4, 51413, now_ns() + minute);
        bt_flow flow = *kernel().flow(out.next("x"));
        flow.last_seen_ns -= 2 * BT_NSEC_PER_SEC;
        ASSERT_TRUE(kernel().maps.flows.update(out.next("x").tuple(), flow));
        EXPECT_EQ(kernel().ingress(out.next(noise(200, 50))).code, tc_drop);
        EXPECT_EQ(kernel().ingress(back.next(noise(200, 51))).code, tc_drop);
    }
}

TEST_F(StateTest, LsdCondemnsNoSocket) {
    EXPECT_EQ(kernel().ingress(Packet::udp(client4, 6771, "239.192.152.143", 6771).payload(lsd())).code, tc_drop);
    EXPECT_EQ(kernel().counter(BT_S_CONDEMNED), 0u);
    EXPECT_TRUE(*kernel().maps.clients.lookup(address(client4)));
}

// ---------------------------------------------------------------- fan-out

TEST_F(StateTest, ManyHostsAndPortsOfOneClientAreAFanout) {
    kernel().config.fanout_hosts = 25;
    kernel().config.fanout_ports = 20;
    kernel().configure();
    const unsigned fanouts = static_cast<unsigned>(BT_S_DETECTIONS) + BT_EV_FANOUT;
    open_flows("10.9.0.1", 20, 20, "what nobody knows");
    EXPECT_EQ(kernel().counter(fanouts), 0u);
    open_flows("10.9.0.2", 100, 15, "what nobody knows");
    EXPECT_EQ(kernel().counter(fanouts), 0u) << "many hosts on few ports: a game or a call";
    open_flows("10.9.0.3", 100, 100, stun_request());
    EXPECT_EQ(kernel().counter(fanouts), 0u) << "recognised protocols do not count";
    ASSERT_TRUE(kernel().maps.relays.update(net::Prefix::parse("203.0.0.0/16")->lpm(), 1));
    open_flows("10.9.0.4", 100, 100, "what nobody knows");
    EXPECT_EQ(kernel().counter(fanouts), 0u) << "excluded prefix";
    ASSERT_TRUE(kernel().maps.relays.erase(net::Prefix::parse("203.0.0.0/16")->lpm()));

    open_flows("10.9.0.5", 60, 60, "what nobody knows");
    EXPECT_EQ(kernel().counter(fanouts), 1u) << "told once a window";
    const auto client = *kernel().maps.clients.lookup(address("10.9.0.5"));
    ASSERT_TRUE(client);
    EXPECT_EQ(client->evidence, BT_EV_BIT(BT_EV_FANOUT));
    EXPECT_EQ(kernel().counter(BT_S_DROP_DETECTED) + kernel().counter(BT_S_CONDEMNED), 0u)
        << "blocks nothing by itself";
    for (const Step& step : mse_turns("10.9.0.5", remote4, 45000, 7, Expect::pass, Expect::pass))
        EXPECT_EQ(kernel().ingress(step.packet).code, tc_next) << "not even what is shaped like MSE";
}

// ---------------------------------------------------------------- exemptions

TEST_F(StateTest, AllowlistedAddressesAreLeftAlone) {
    allow("203.0.113.9");
    EXPECT_EQ(kernel().ingress(Packet::udp(client4, 6881, remote4, 7777).payload(dht_query())).code, tc_next);
    EXPECT_EQ(kernel().ingress(Packet::udp(client4, 6881, remote4, 7777).payload(dht_query())).code, tc_next);
    const Packet p = Packet::tcp(remote4, 80, client4, 1000).payload(handshake());
    EXPECT_EQ(kernel().ingress(p).code, tc_next);
    EXPECT_EQ(kernel().flow(p)->verdict, BT_V_ALLOWED);
}

TEST_F(StateTest, StrictPorts) {
    kernel().config.ports[0] = 22;
    kernel().config.ports[31] = 7777;
    kernel().config.port_count = 32;
    kernel().configure();
    EXPECT_EQ(kernel().ingress(Packet::udp(client4, 6881, remote4, 7777).payload(dht_query())).code, tc_drop)
        << "not strict";
    kernel().reset();
    kernel().config.ports[0] = 22;
    kernel().config.ports[31] = 7777;
    kernel().config.port_count = 32;
    kernel().config.flags = BT_C_STRICT_PORTS;
    kernel().configure();
    EXPECT_EQ(kernel().ingress(Packet::udp(client4, 6881, remote4, 7777).payload(dht_query())).code, tc_next);
    EXPECT_EQ(kernel().ingress(Packet::udp(client4, 6881, remote4, 7778).payload(dht_query())).code, tc_drop);
}

// ---------------------------------------------------------------- half-flows

TEST_F(StateTest, SynStartsAReusedTupleAfresh) {
    Stream first(client4, 1000, remote4, 2000);
    EXPECT_EQ(kernel().ingress(first.next(handshake())).code, tc_drop);
    EXPECT_EQ(kernel().ingress(first.next("x")).code, tc_drop);
    EXPECT_EQ(kernel().ingress(first.at(5, "").flags(syn)).code, tc_next);
    Stream second(client4, 1000, remote4, 2000, 6);
    EXPECT_EQ(kernel().ingress(second.next("SSH-2.0-x\r\n")).code, tc_next);
    EXPECT_EQ(kernel().flow(second.next(""))->verdict, BT_V_CLEAN);
}

// User space reads a finer clock, and another CPU may be a tick ahead.
TEST_F(StateTest, AFlowSeenInTheFutureIsNotIdle) {
    const Packet p = udp();
    bt_flow blocked{};
    blocked.verdict = BT_V_BLOCKED;
    blocked.last_seen_ns = now_ns() + BT_NSEC_PER_SEC / 100;
    ASSERT_TRUE(kernel().maps.flows.update(p.tuple(), blocked));
    EXPECT_EQ(kernel().ingress(p).code, tc_drop);
    EXPECT_EQ(kernel().flow(p)->verdict, BT_V_BLOCKED);
}

TEST_F(StateTest, IdleUdpTupleIsANewFlow) {
    const Packet p = Packet::udp(client4, 1000, remote4, 51820).payload(wireguard_init());
    EXPECT_EQ(kernel().ingress(p).code, tc_next);
    bt_flow flow = *kernel().flow(p);
    ASSERT_EQ(flow.verdict, BT_V_CLEAN);
    flow.last_seen_ns -= BT_UDP_IDLE_NS + BT_NSEC_PER_SEC;
    ASSERT_TRUE(kernel().maps.flows.update(p.tuple(), flow));
    EXPECT_EQ(kernel().ingress(Packet(p).payload(dht_query())).code, tc_drop);
}

// ---------------------------------------------------------------- settled half-flows

class SettledTest : public StateTest {
protected:
    // Half-flows that nothing more is decided about, each in its own way.
    static std::vector<Packet> settled() {
        const Packet clean = Packet::tcp(client4, 1000, remote4, 22).payload("SSH-2.0-x\r\n");
        const Packet clean6 = Packet::udp(client6, 1000, remote6, 51820).payload(wireguard_init());
        const Packet spent = Packet::udp(client4, 5000, remote4, 6000).payload(noise(200, 1));
        for (const Packet& p : {clean, clean6})
            EXPECT_EQ(kernel().ingress(p).code, tc_next);
        for (unsigned i = 0; i <= BT_PUNT_BUDGET; ++i)
            EXPECT_EQ(kernel().ingress(spent).code, tc_next);
        for (const Packet& p : {clean, clean6, spent}) {
            EXPECT_EQ(kernel().ingress(p).code, tc_next);
            EXPECT_NE(kernel().flow(p)->epoch, 0) << "settled";
        }
        return {clean, clean6, spent};
    }
    static void expect_dropped(const std::vector<Packet>& flows, bool dropped, const char* why) {
        for (const Packet& p : flows) {
            EXPECT_EQ(kernel().ingress(p).code, dropped ? tc_drop : tc_next) << why;
            EXPECT_EQ(kernel().ingress(Packet(p).vlan(7)).code, dropped ? tc_drop : tc_next)
                << why << ", by the long way";
        }
    }
};

TEST_F(SettledTest, ABanStopsThemWithTheNextPacket) {
    const auto flows = settled();
    ban(remote4, ~0ULL);
    ban(remote6, ~0ULL);
    expect_dropped(flows, true, "banned");
    ASSERT_TRUE(kernel().maps.bans.erase(address(remote4)));
    ASSERT_TRUE(kernel().maps.bans.erase(address(remote6)));
    expect_dropped(flows, false, "no longer banned");
    bt_ban entry{};
    entry.expires_ns = ~0ULL;
    ASSERT_TRUE(kernel().maps.bans.update_many({address(remote4), address(remote6)}, {entry, entry}));
    expect_dropped(flows, true, "banned with others");
}

TEST_F(SettledTest, ACondemnedSocketStopsThemWithTheNextPacket) {
    const auto flows = settled();
    condemn(client4, 5000, now_ns() + minute);
    expect_dropped({flows[2]}, true, "condemned by user space");
    kernel().reset();
    const auto again = settled();
    // the same socket asks the DHT elsewhere: the kernel condemns it
    EXPECT_EQ(kernel().ingress(Packet::udp(client4, 5000, other4, 6881).payload(dht_query())).code, tc_drop);
    expect_dropped({again[2]}, true, "condemned by the kernel");
}

TEST_F(SettledTest, WhatIsNoLongerAllowedIsBannedAgain) {
    const auto flows = settled();
    ban(remote4, ~0ULL);
    allow("203.0.113.0/24");
    expect_dropped({flows[0], flows[2]}, false, "allowed");
    ASSERT_TRUE(kernel().maps.allow.erase(net::Prefix::parse("203.0.113.0/24")->lpm()));
    expect_dropped({flows[0], flows[2]}, true, "no longer allowed");
}

// The short cut is good for a second, whatever happens to the tables.
TEST_F(SettledTest, AnotherLookAfterASecond) {
    const auto flows = settled();
    bt_flow flow = *kernel().flow(flows[0]);
    flow.last_seen_ns = now_ns() - 2 * BT_NSEC_PER_SEC;
    ASSERT_TRUE(kernel().maps.flows.update(flows[0].tuple(), flow));
    EXPECT_EQ(kernel().ingress(flows[0]).code, tc_next);
    EXPECT_GT(kernel().flow(flows[0])->last_seen_ns, flow.last_seen_ns);
}

// What is looked at for a while yet need not be looked up in the tables each time, until they change.
TEST_F(SettledTest, OpenFlowsAlike) {
    Stream text(client4, 1000, remote4, 2000);
    const Packet datagram = Packet::udp(client4, 5000, remote4, 6000).payload(noise(200, 1));
    EXPECT_EQ(kernel().ingress(text.next("some text")).code, tc_next);
    EXPECT_EQ(kernel().ingress(datagram).code, tc_next);
    EXPECT_NE(kernel().flow(datagram)->epoch, 0);
    EXPECT_EQ(kernel().ingress(text.next("and more")).code, tc_next);
    condemn(client4, 5000, now_ns() + minute);
    EXPECT_EQ(kernel().ingress(datagram).code, tc_drop) << "condemned";
    ban(remote4, ~0ULL);
    EXPECT_EQ(kernel().ingress(text.next("and more")).code, tc_drop) << "banned";
    EXPECT_EQ(kernel().ingress(text.next("")).code, tc_drop) << "a bare segment as well";
}

TEST_F(SettledTest, BareSegmentsKeepThemFresh) {
    Stream ssh(client4, 1000, remote4, 22);
    Stream text(client4, 1001, remote4, 2000);
    EXPECT_EQ(kernel().ingress(ssh.next("SSH-2.0-x\r\n")).code, tc_next);
    EXPECT_EQ(kernel().ingress(text.next("some text")).code, tc_next);
    for (Stream* stream : {&ssh, &text}) {
        const Packet bare = stream->next("");
        bt_flow flow = *kernel().flow(bare);
        flow.last_seen_ns = now_ns() - 2 * BT_NSEC_PER_SEC;
        flow.epoch = 0;
        ASSERT_TRUE(kernel().maps.flows.update(bare.tuple(), flow));
        EXPECT_EQ(kernel().ingress(bare).code, tc_next);
        EXPECT_EQ(kernel().flow(bare)->last_seen_ns > flow.last_seen_ns, stream == &ssh)
            << "an open one waits for payload: it may have to be looked at for its peer's sake";
        EXPECT_EQ(kernel().flow(bare)->epoch != 0, stream == &ssh);
        ban(remote4, ~0ULL);
        EXPECT_EQ(kernel().ingress(bare).code, tc_drop);
        ASSERT_TRUE(kernel().maps.bans.erase(address(remote4)));
    }
}

TEST_F(SettledTest, ABlockedFlowStaysBlockedAndItsBareSegmentsPass) {
    Stream peer(client4, 1000, remote4, 2000);
    EXPECT_EQ(kernel().ingress(peer.next(handshake())).code, tc_drop);
    for (int i = 0; i < 3; ++i)
        EXPECT_EQ(kernel().ingress(peer.next("x")).code, tc_drop);
    EXPECT_EQ(kernel().counter(BT_S_DROP_FLOW), 3u);
    EXPECT_EQ(kernel().ingress(peer.next("")).code, tc_next) << "its end must be able to pass";
    kernel().config.flags |= BT_C_MONITOR;
    kernel().configure();
    EXPECT_EQ(kernel().ingress(peer.next("x")).code, tc_next);
    EXPECT_EQ(kernel().counter(BT_S_MONITORED), 1u);
}

// ----------------------------------------------------------------

TEST_F(StateTest, FloodGuardMakesNoMoreHalfFlows) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1100)); // a new rate window
    kernel().config.new_flow_rate = 10;
    kernel().configure();
    for (std::uint16_t port = 1; port <= 50; ++port)
        EXPECT_EQ(kernel().ingress(Packet::udp(client4, port, remote4, 9).payload("flood")).code, tc_next);
    std::size_t flows = 0;
    ASSERT_TRUE(kernel().maps.flows.for_each([&](const bt_tuple&, const bt_flow&) { ++flows; }));
    EXPECT_EQ(flows, 10u);
    EXPECT_EQ(kernel().counter(BT_S_FLOOD_SKIPPED), 40u);
    // what proves by itself is dropped all the same
    EXPECT_EQ(kernel().ingress(Packet::udp(client4, 60, remote4, 9).payload(dht_query())).code, tc_drop);
}

// ---------------------------------------------------------------- marks

TEST_F(StateTest, NamesAreHandedUpWhenTheyAreWatched) {
    const auto punted = [](const Packet& p) { return kernel().ingress(p).mark == mark_bit; };
    const auto hello = [](std::uint16_t port, std::size_t length = 1000) {
        return Packet::tcp(client4, port, remote4, 443).seq(1).payload(tls_hello().substr(0, length));
    };
    const auto query = [](std::uint16_t port) { return Packet::udp(client4, port, remote4, 53).payload(dns_query()); };
    EXPECT_FALSE(punted(hello(4000)));
    EXPECT_EQ(kernel().flow(hello(4000))->verdict, BT_V_CLEAN);
    kernel().config.flags = BT_C_NAMES;
    kernel().configure();
    EXPECT_TRUE(punted(hello(4001)));
    EXPECT_TRUE(punted(hello(4001))) << "sent again";
    EXPECT_EQ(kernel().flow(hello(4001))->want, 0);
    const Packet next = Packet::tcp(client4, 4001, remote4, 443).seq(206).payload("\x17\x03\x03 and so on");
    EXPECT_FALSE(punted(next)) << "it was whole";
    EXPECT_TRUE(punted(hello(4002, 100)));
    EXPECT_EQ(kernel().flow(hello(4002))->want, 3);
    EXPECT_TRUE(punted(hello(4003, 2))) << "a segment of two bytes";
    const Packet answer =
        Packet::tcp(remote4, 443, client4, 4001).payload(be(0x160303, 3) + be(80, 2) + be(2, 1) + noise(79, 1));
    EXPECT_FALSE(punted(answer)) << "a ServerHello has no name";
    EXPECT_TRUE(punted(query(4001)));
    EXPECT_FALSE(
        punted(Packet::udp(remote4, 53, client4, 4001).payload(be(0x0101, 2) + be(0x8180, 2) + dns_query().substr(4))));
    EXPECT_FALSE(punted(Packet::udp(client4, 4001, remote4, 5300).payload(dns_query()))) << "no resolver";
    // Where nobody takes them they are as clean as ever.
    EXPECT_EQ(kernel().egress(hello(4004)).mark, 0u);
    EXPECT_EQ(kernel().flow(hello(4004))->verdict, BT_V_CLEAN);
    EXPECT_EQ(kernel().counter(BT_S_PUNT_NO_LEASE), 0u);
    kernel().config.lease_until_ns = past();
    kernel().configure();
    EXPECT_FALSE(punted(hello(4005)));
    EXPECT_EQ(kernel().flow(hello(4005))->verdict, BT_V_CLEAN);
    EXPECT_FALSE(punted(query(4005)));
    EXPECT_EQ(kernel().flow(query(4005))->verdict, BT_V_CLEAN);
}

// What follows a hello looks random to a bit count: it must not be taken for the turns of MSE, active client or not.
TEST_F(StateTest, AWatchedHelloIsNotTheStartOfMse) {
    kernel().config.flags = BT_C_NAMES;
    kernel().configure();
    kernel().ingress(Packet::udp(client4, 7000, remote4, 1337).payload(tracker_connect()));
    Stream out(client4, 50000, remote4, 443), back(remote4, 443, client4, 50000);
    const auto data = [](std::size_t n, unsigned seed) { return be(0x170303, 3) + be(n, 2) + noise(n, seed); };
    EXPECT_EQ(kernel().ingress(out.next(tls_hello())).code, tc_next);
    EXPECT_EQ(kernel().egress(back.next(be(0x160303, 3) + be(200, 2) + be(2, 1) + noise(199, 1))).code, tc_next);
    for (unsigned i = 0; i < 6; ++i) {
        EXPECT_EQ(kernel().ingress(out.next(data(200 + i, 2 * i))).code, tc_next) << i;
        EXPECT_EQ(kernel().egress(back.next(data(300 + i, 2 * i + 1))).code, tc_next) << i;
    }
}

TEST_F(StateTest, PuntKeepsOtherMarkBits) {
    const auto request = [](std::uint16_t port) {
        return Packet::tcp(client4, port, remote4, 80).payload("GET /a?b HTTP/1.1\r\n\r\n");
    };
    EXPECT_EQ(kernel().ingress(request(1), 0x1234).mark, mark_bit | 0x1234u);
    kernel().config.mark = 0x40;
    kernel().configure();
    EXPECT_EQ(kernel().ingress(request(2), mark_bit).mark, mark_bit | 0x40u);
}

TEST_F(StateTest, MarkedPacketsWereSeenAlready) {
    const Packet p = Packet::udp(client4, 6881, remote4, 7777).payload(dht_query());
    const Outcome got = kernel().ingress(p, mark_bit | 1);
    EXPECT_EQ(got.code, tc_next);
    EXPECT_EQ(got.mark, mark_bit | 1);
    EXPECT_EQ(kernel().counter(BT_S_SEEN), 0u);
    EXPECT_FALSE(kernel().flow(p));
}

// ---------------------------------------------------------------- events

TEST_F(StateTest, EventFields) {
    const Packet query = Packet::udp(client4, 6881, remote4, 7777).payload(dht_query());
    const std::uint64_t before = now_ns() - 20'000'000; // the coarse clock lags by up to a tick
    kernel().ingress(query);
    auto events = kernel().take_events();
    ASSERT_EQ(events.size(), 1u);
    const bt_event& e = events[0];
    EXPECT_GE(e.time_ns, before);
    EXPECT_LE(e.time_ns, now_ns());
    EXPECT_EQ(e.ifindex, 1u);
    EXPECT_EQ(e.evidence, BT_EV_BIT(BT_EV_DHT_QUERY));
    const bt_tuple expected = query.tuple();
    EXPECT_EQ(std::memcmp(&e.tuple, &expected, sizeof expected), 0);
    EXPECT_EQ(e.payload_len, dht_query().size());
    EXPECT_EQ(e.kind, BT_K_DETECTION);
    EXPECT_EQ(e.hook, BT_HOOK_INGRESS);
    EXPECT_EQ(e.action, BT_ACT_DROP);
    EXPECT_EQ(e.monitor, 0);
    EXPECT_EQ(e.client_is, 1);
    EXPECT_EQ(kernel().counter(BT_S_EVENTS_SENT), 1u);
    EXPECT_EQ(kernel().counter(+BT_S_DETECTIONS + +BT_EV_DHT_QUERY), 1u);

    kernel().egress(Packet::udp(remote4, 1, client4, 2).payload(dht_response()));
    kernel().ingress(Packet::udp(remote4, 3, other4, 4).payload(dht_response()));
    events = kernel().take_events();
    ASSERT_EQ(events.size(), 2u);
    EXPECT_EQ(events[0].hook, BT_HOOK_EGRESS);
    EXPECT_EQ(events[0].client_is, 2);
    EXPECT_EQ(events[1].client_is, 0);
}

TEST_F(StateTest, OneEventForAFlow) {
    Stream s(client4, 1, remote4, 2);
    for (const std::string& payload : {handshake(), std::string("x"), std::string("y")})
        EXPECT_EQ(kernel().ingress(s.next(payload)).code, tc_drop);
    EXPECT_EQ(kernel().take_events().size(), 1u);
}

TEST_F(StateTest, EventRateLimitAndFullRing) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1100)); // a new rate window
    kernel().config.event_rate = 5;
    kernel().configure();
    for (std::uint16_t port = 1; port <= 12; ++port)
        EXPECT_EQ(kernel().ingress(Packet::tcp(client4, port, remote4, 9).payload(handshake())).code, tc_drop);
    EXPECT_EQ(kernel().counter(BT_S_EVENTS_SENT), 5u);
    EXPECT_EQ(kernel().counter(BT_S_EVENTS_LIMITED), 7u);
    EXPECT_EQ(kernel().take_events().size(), 5u);

    kernel().config.event_rate = 1u << 30;
    kernel().configure();
    constexpr std::uint64_t records = (1u << 20) / (sizeof(bt_event) + 8); // each has a header of 8 bytes
    for (std::uint64_t i = 0; i < records + 100; ++i)
        kernel().ingress(Packet::tcp(client4, static_cast<std::uint16_t>(i), other4, 9).payload(handshake()));
    const std::uint64_t sent = kernel().counter(BT_S_EVENTS_SENT) - 5, lost = kernel().counter(BT_S_EVENTS_LOST);
    EXPECT_EQ(sent + lost, records + 100);
    EXPECT_GE(lost, 100u);
    EXPECT_EQ(kernel().take_events().size(), sent);
}

} // namespace
} // namespace btblock::test
