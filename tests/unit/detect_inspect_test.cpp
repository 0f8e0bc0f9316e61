// SPDX-License-Identifier: MIT
// The packet path (include/btblock/inspect.h) with what captures do not have: bans, an allowlist, modes, a lease, full
// tables, several hooks. The kernel programs run the same lines (tests/bpf).
#include "bpf/Scenarios.h"

#include <array>
#include <cstring>
#include <gtest/gtest.h>
#include <map>
#include <vector>

namespace {

struct ByBytes {
    template <class K> bool operator()(const K& a, const K& b) const { return std::memcmp(&a, &b, sizeof a) < 0; }
};

struct Gateway {
    bt_config config{};
    bool configured = true, can_punt = true, rate_ok = true, room = true;
    bt_u32 owner = 0;
    bt_u16 epoch = 1;
    bt_u64 now = 1000 * BT_NSEC_PER_SEC;
    std::map<bt_addr, bt_ban, ByBytes> bans;
    std::map<bt_addr, int, ByBytes> allowed;
    std::map<bt_tuple, bt_flow, ByBytes> flows;
    std::map<bt_endpoint, bt_mark, ByBytes> sockets;
    std::map<bt_peer_key, bt_mark, ByBytes> peers;
    std::map<bt_addr, bt_client, ByBytes> clients;
    std::array<bt_u64, BT_S_COUNT> counters{};
    unsigned events = 0;

    Gateway() { config.lease_until_ns = ~0ULL; }
};

template <class K, class V> V* find(std::map<K, V, ByBytes>& table, const K& key) {
    const auto at = table.find(key);
    return at == table.end() ? nullptr : &at->second;
}

} // namespace

struct bt_ctx {
    Gateway* gateway;
    const std::string* packet;
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#define BT_HAVE_CTX
#include "btblock/wire.h"
static struct bt_scratch* bt_scratch_get(bt_ctx* c);
static int bt_load(bt_ctx* c, bt_u32 offset, void* to, bt_u32 length) {
    if (offset > c->packet->size() || length > c->packet->size() - offset)
        return -1;
    std::memcpy(to, c->packet->data() + offset, length);
    return 0;
}
static bt_u32 bt_total(const bt_ctx* c) {
    return static_cast<bt_u32>(c->packet->size());
}
static bt_u64 bt_now(bt_ctx* c) {
    return c->gateway->now;
}
static const bt_config* bt_settings(bt_ctx* c) {
    return c->gateway->configured ? &c->gateway->config : nullptr;
}
static void bt_count(bt_ctx* c, bt_stat which) {
    ++c->gateway->counters[which];
}
static bt_u32 bt_owner(bt_ctx* c) {
    return c->gateway->owner;
}
static int bt_can_punt(bt_ctx* c) {
    return c->gateway->can_punt;
}
static int bt_is_inside(bt_ctx*, const bt_addr* a) {
    return bt_addr_is_v4(a) ? a->b[12] == 10 : a->b[0] == 0xfd;
}
static int bt_is_allowed(bt_ctx* c, const bt_addr* a) {
    return find(c->gateway->allowed, *a) != nullptr;
}
static bt_ban* bt_ban_find(bt_ctx* c, const bt_addr* key) {
    return find(c->gateway->bans, *key);
}
static bt_flow* bt_flow_find(bt_ctx* c, const bt_tuple* key) {
    return find(c->gateway->flows, *key);
}
static int bt_flow_store(bt_ctx* c, const bt_tuple* key, const bt_flow* value) {
    if (!c->gateway->room)
        return -1;
    c->gateway->flows[*key] = *value;
    return 0;
}
static bt_mark* bt_socket_find(bt_ctx* c, const bt_endpoint* key) {
    return find(c->gateway->sockets, *key);
}
static int bt_socket_store(bt_ctx* c, const bt_endpoint* key, const bt_mark* value) {
    c->gateway->sockets[*key] = *value;
    return 0;
}
static bt_mark* bt_peer_find(bt_ctx* c, const bt_peer_key* key) {
    return find(c->gateway->peers, *key);
}
static int bt_peer_store(bt_ctx* c, const bt_peer_key* key, const bt_mark* value) {
    c->gateway->peers[*key] = *value;
    return 0;
}
static bt_client* bt_client_find(bt_ctx* c, const bt_addr* key) {
    return find(c->gateway->clients, *key);
}
static int bt_client_store(bt_ctx* c, const bt_addr* key, const bt_client* value) {
    c->gateway->clients[*key] = *value;
    return 0;
}
static int bt_is_relay(bt_ctx*, const bt_addr*) {
    return 0;
}
static bt_fanout* bt_fanout_find(bt_ctx*, const bt_addr*) {
    return nullptr;
}
static int bt_fanout_store(bt_ctx*, const bt_addr*, const bt_fanout*) {
    return -1;
}
static void bt_find_udp_facts(struct bt_scratch* s);
static void bt_find_tcp_facts(struct bt_scratch* s);
static bt_u16 bt_epoch_now(bt_ctx* c) {
    return c->gateway->epoch;
}
static void bt_epoch_advance(bt_ctx* c) {
    ++c->gateway->epoch;
}
static int bt_flow_rate_ok(bt_ctx* c) {
    return c->gateway->rate_ok;
}
static void bt_emit(bt_ctx* c, const struct bt_pkt*, bt_u8, bt_u32, bt_u8, bt_u8) {
    ++c->gateway->events;
}
#include "btblock/inspect.h"
#pragma GCC diagnostic pop
static bt_scratch* bt_scratch_get(bt_ctx*) {
    static bt_scratch scratch;
    return &scratch;
}
static void bt_find_udp_facts(bt_scratch* s) {
    bt_udp_facts(&s->pkt.tuple, &s->head, &s->facts);
}
static void bt_find_tcp_facts(bt_scratch* s) {
    bt_tcp_facts(&s->head, s->flow.matched, &s->facts);
}

namespace btblock::test {
namespace {

bt_action tc(Gateway& g, const Packet& packet) {
    const std::string ip = packet.ip();
    bt_ctx c{&g, &ip};
    bt_scratch* s = bt_scratch_get(&c);
    const bt_parsed parsed = bt_parse(&c, 0, &s->pkt);
    return bt_inspect(&c, parsed, s);
}
bt_action xdp(Gateway& g, const Packet& packet) {
    const std::string ip = packet.ip();
    bt_ctx c{&g, &ip};
    bt_scratch* s = bt_scratch_get(&c);
    const bt_parsed parsed = bt_parse(&c, 0, &s->pkt);
    return bt_inspect_early(&c, parsed, &s->pkt.tuple);
}

Packet udp(const std::string& payload, std::uint16_t sport = 6881) {
    return Packet::udp(client4, sport, remote4, 7000).payload(payload);
}
Packet tcp(const std::string& payload, std::uint16_t dport = 7000) {
    return Stream(client4, 40000, remote4, dport).next(payload);
}
const std::string punted = "d1:q4:ping1:t2:aa1:y1:q1:ad2:id20:abcdefghij0123456789ee";

TEST(Inspect, NothingIsDoneWithoutSettings) {
    Gateway g;
    g.configured = false;
    EXPECT_EQ(tc(g, udp(dht_query())), BT_ACT_PASS);
    EXPECT_EQ(tc(g, tcp("").flags(syn)), BT_ACT_PASS);
    EXPECT_EQ(xdp(g, udp(dht_query())), BT_ACT_PASS);
    EXPECT_EQ(g.counters[BT_S_SEEN], 0u);
}

TEST(Inspect, BansDropBothDirectionsUntilTheyExpire) {
    Gateway g;
    bt_ban& ban = g.bans[address(remote4)];
    ban.expires_ns = g.now + 1;
    for (const Packet& p : {tcp("hello"), tcp("hello").reply(), udp("x"), tcp("x").fragment(100, false)}) {
        EXPECT_EQ(tc(g, p), BT_ACT_DROP);
        EXPECT_EQ(xdp(g, p), BT_ACT_DROP);
    }
    EXPECT_EQ(ban.hits, 8u);
    EXPECT_EQ(g.counters[BT_S_DROP_BAN], 8u);
    g.allowed[address(remote4)];
    EXPECT_EQ(tc(g, tcp("hello")), BT_ACT_PASS) << "allowed";
    g.allowed.clear();
    g.now += 1;
    EXPECT_EQ(tc(g, tcp("hello")), BT_ACT_PASS) << "expired";
    EXPECT_EQ(xdp(g, tcp("hello")), BT_ACT_PASS);
}

TEST(Inspect, BansOfPortsAndOfPrefixes) {
    Gateway g;
    bt_ban& ban = g.bans[address(remote4)];
    ban.expires_ns = ~0ULL;
    ban.port_count = 2;
    ban.ports[0] = 1;
    ban.ports[1] = 7000;
    EXPECT_EQ(tc(g, tcp("hello")), BT_ACT_DROP);
    EXPECT_EQ(tc(g, tcp("hello", 7001)), BT_ACT_PASS);

    const Packet six = Packet::udp(client6, 1, "2001:db8::9", 2).payload("hello");
    bt_ban& net = g.bans[address("2001:db8::")];
    net.expires_ns = ~0ULL;
    EXPECT_EQ(tc(g, six), BT_ACT_PASS) << "that one address only";
    net.flags = BT_BAN_SUBNET64;
    ++g.epoch; // as everyone does who changes a ban
    EXPECT_EQ(tc(g, six), BT_ACT_DROP);
    EXPECT_EQ(tc(g, Packet::udp(client6, 1, "2001:db8:0:1::9", 2).payload("hello")), BT_ACT_PASS);
}

TEST(Inspect, MonitorModeCountsAndPasses) {
    Gateway g;
    g.config.flags = BT_C_MONITOR;
    EXPECT_EQ(tc(g, udp(dht_query())), BT_ACT_PASS);
    EXPECT_EQ(g.counters[BT_S_MONITORED], 1u);
    EXPECT_EQ(g.counters[BT_S_DROP_DETECTED], 0u);
    EXPECT_EQ(g.counters[std::size_t{BT_S_DETECTIONS} + BT_EV_DHT_QUERY], 1u);
    EXPECT_EQ(g.events, 1u);
    EXPECT_EQ(xdp(g, udp(dht_query())), BT_ACT_PASS) << "condemned, but only watched";
}

TEST(Inspect, AllowedAddressesAndStrictPorts) {
    Gateway g;
    g.allowed[address(remote4)];
    EXPECT_EQ(tc(g, tcp(handshake())), BT_ACT_PASS);
    EXPECT_EQ(tc(g, udp(dht_query())), BT_ACT_PASS);
    EXPECT_EQ(g.flows[udp("").tuple()].verdict, BT_V_ALLOWED);
    EXPECT_EQ(g.events, 0u);
    // a socket condemned elsewhere may still talk to an allowed address
    EXPECT_EQ(tc(g, Packet::udp(client4, 5000, other4, 9).payload(dht_query())), BT_ACT_DROP);
    EXPECT_EQ(tc(g, udp("data", 5000)), BT_ACT_PASS);
    EXPECT_EQ(tc(g, Packet::tcp(client4, 1, remote4, 9).flags(syn)), BT_ACT_PASS);

    Gateway strict;
    strict.config.ports[0] = 7000;
    strict.config.port_count = 1;
    EXPECT_EQ(tc(strict, tcp(handshake())), BT_ACT_DROP) << "exact signatures count on whitelisted ports";
    strict = Gateway();
    strict.config.ports[0] = 7000;
    strict.config.port_count = 1;
    strict.config.flags = BT_C_STRICT_PORTS;
    EXPECT_EQ(tc(strict, tcp(handshake())), BT_ACT_PASS);
    EXPECT_EQ(tc(strict, tcp(handshake(), 7001)), BT_ACT_DROP);
}

TEST(Inspect, WithoutALeaseNothingGoesToUserSpace) {
    Gateway g;
    g.config.lease_until_ns = g.now;
    EXPECT_EQ(tc(g, udp(punted)), BT_ACT_PASS);
    EXPECT_EQ(g.counters[BT_S_PUNT_NO_LEASE], 1u);
    EXPECT_EQ(tc(g, udp(dht_query())), BT_ACT_DROP);
    EXPECT_EQ(g.counters[BT_S_LEAKED_DHT], 1u) << "what passed before was an announce, perhaps";
    Gateway egress;
    egress.can_punt = false;
    EXPECT_EQ(tc(egress, udp(punted)), BT_ACT_PASS);
    EXPECT_EQ(tc(egress, udp(tracker_connect())), BT_ACT_DROP);
    EXPECT_EQ(egress.counters[BT_S_LEAKED_UDP_TRACKER], 1u);
    Gateway leased;
    EXPECT_EQ(tc(leased, udp(punted)), BT_ACT_PUNT);
}

TEST(Inspect, AFloodOfFlowsIsJudgedPacketByPacket) {
    for (const bool full : {false, true}) {
        Gateway g;
        (full ? g.room : g.rate_ok) = false;
        EXPECT_EQ(tc(g, udp("hello")), BT_ACT_PASS);
        EXPECT_EQ(g.counters[BT_S_FLOOD_SKIPPED], 1u);
        EXPECT_EQ(g.flows.count(udp("").tuple()), 0u);
        EXPECT_EQ(tc(g, udp(dht_query())), BT_ACT_DROP);
    }
}

TEST(Inspect, OnlyTheHookThatSawAFlowFirstJudgesIt) {
    constexpr bt_u32 ingress = 2 << 1, other = 3 << 1, egress = 3 << 1 | 1;
    for (const bt_u32 second : {other, egress}) {
        Gateway g;
        g.owner = ingress;
        EXPECT_EQ(tc(g, udp("hello")), BT_ACT_PASS);
        g.owner = second;
        EXPECT_EQ(tc(g, udp(dht_query())), BT_ACT_PASS);
        g.owner = ingress;
        EXPECT_EQ(tc(g, udp(dht_query())), BT_ACT_DROP);
    }
    Gateway late; // egress saw it first since nothing guarded had brought it in
    late.owner = egress;
    EXPECT_EQ(tc(late, udp("hello")), BT_ACT_PASS);
    late.owner = ingress;
    EXPECT_EQ(tc(late, udp(dht_query())), BT_ACT_DROP);
}

TEST(Inspect, CondemnedSocketsAndIdleFlows) {
    Gateway g;
    EXPECT_EQ(tc(g, udp(dht_query())), BT_ACT_DROP);
    EXPECT_EQ(xdp(g, udp("data")), BT_ACT_DROP);
    EXPECT_EQ(xdp(g, udp("data").reply()), BT_ACT_DROP);
    EXPECT_EQ(xdp(g, udp("data", 6882)), BT_ACT_PASS);
    EXPECT_EQ(tc(g, Packet::tcp(other4, 9, client4, 6881).flags(syn)), BT_ACT_DROP) << "TCP to the same number";
    g.now += 2 * BT_NSEC_PER_SEC;
    const bt_u64 expires = g.sockets.begin()->second.expires_ns;
    EXPECT_EQ(tc(g, udp("data")), BT_ACT_DROP);
    EXPECT_GT(g.sockets.begin()->second.expires_ns, expires) << "use keeps it";
    g.now += BT_SOCKET_TTL_NS + 1;
    EXPECT_EQ(tc(g, udp("data")), BT_ACT_PASS) << "the flow idled out and so did the socket";
}

TEST(Inspect, TrackerConnectionsWithoutClientsLeaveNoClient) {
    Gateway g; // neither end inside
    const Packet out = Packet::udp(remote4, 1, other4, 2).payload(dht_query());
    EXPECT_EQ(tc(g, out), BT_ACT_DROP);
    EXPECT_TRUE(g.clients.empty() && g.sockets.empty());
    for (const Step& step : mse_turns(other4, remote4, 42000, 20, Expect::pass, Expect::pass))
        EXPECT_EQ(tc(g, step.packet), BT_ACT_PASS);
    EXPECT_TRUE(g.clients.empty());
}

TEST(Inspect, PacketsThatCannotBeRead) {
    Gateway g;
    const std::string ip = udp("hello").ip();
    for (std::size_t n = 0; n < 28; ++n) {
        const std::string cut = ip.substr(0, n);
        bt_ctx c{&g, &cut};
        bt_scratch* s = bt_scratch_get(&c);
        const bt_parsed parsed = bt_parse(&c, 0, &s->pkt);
        EXPECT_EQ(bt_inspect(&c, parsed, s), BT_ACT_PASS);
    }
    EXPECT_EQ(g.counters[BT_S_PARSE_SKIPPED], 28u);
    EXPECT_EQ(tc(g, udp("x").fragment(100, false)), BT_ACT_PASS);
    EXPECT_EQ(g.counters[BT_S_FRAGMENTS], 1u);
}

} // namespace
} // namespace btblock::test
