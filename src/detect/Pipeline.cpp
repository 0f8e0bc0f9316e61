// SPDX-License-Identifier: MIT
#include "detect/Pipeline.h"

#include "core/Defaults.h"
#include "detect/BoundedTable.h"
#include "detect/Inspector.h"
#include "detect/Writeback.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <tuple>
#include <utility>

// One packet on its way through inspect.h.
struct bt_ctx {
    btblock::detect::PipelineState* state;
    const std::uint8_t* data;
    bt_u32 size;
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#define BT_HAVE_CTX
#include "btblock/wire.h"
// The functions that inspect.h asks for; defined below, where the tables are known.
static int bt_load(bt_ctx* c, bt_u32 offset, void* to, bt_u32 length);
static bt_u32 bt_total(const bt_ctx* c);
static bt_u64 bt_now(bt_ctx* c);
static const bt_config* bt_settings(bt_ctx* c);
static void bt_count(bt_ctx* c, bt_stat which);
static bt_u32 bt_owner(bt_ctx* c);
static int bt_can_punt(bt_ctx* c);
static int bt_is_inside(bt_ctx* c, const bt_addr* a);
static int bt_is_allowed(bt_ctx* c, const bt_addr* a);
static int bt_is_relay(bt_ctx* c, const bt_addr* a);
static bt_ban* bt_ban_find(bt_ctx* c, const bt_addr* key);
static bt_flow* bt_flow_find(bt_ctx* c, const bt_tuple* key);
static int bt_flow_store(bt_ctx* c, const bt_tuple* key, const bt_flow* value);
static bt_mark* bt_socket_find(bt_ctx* c, const bt_endpoint* key);
static int bt_socket_store(bt_ctx* c, const bt_endpoint* key, const bt_mark* value);
static bt_mark* bt_peer_find(bt_ctx* c, const bt_peer_key* key);
static int bt_peer_store(bt_ctx* c, const bt_peer_key* key, const bt_mark* value);
static bt_client* bt_client_find(bt_ctx* c, const bt_addr* key);
static int bt_client_store(bt_ctx* c, const bt_addr* key, const bt_client* value);
static bt_fanout* bt_fanout_find(bt_ctx* c, const bt_addr* key);
static int bt_fanout_store(bt_ctx* c, const bt_addr* key, const bt_fanout* value);
static struct bt_scratch* bt_scratch_get(bt_ctx* c);
static void bt_find_udp_facts(struct bt_scratch* s);
static void bt_find_tcp_facts(struct bt_scratch* s);
static bt_u16 bt_epoch_now(bt_ctx* c);
static void bt_epoch_advance(bt_ctx* c);
static int bt_flow_rate_ok(bt_ctx* c);
static void bt_emit(bt_ctx* c, const struct bt_pkt* p, bt_u8 kind, bt_u32 evidence, bt_u8 action, bt_u8 client_is);
#include "btblock/inspect.h"
#pragma GCC diagnostic pop

namespace btblock::detect {

namespace {

bool matches(const bt_lpm_key& prefix, const bt_addr& address) {
    for (unsigned bit = 0; bit < prefix.prefixlen; bit += 8) {
        const unsigned keep = prefix.prefixlen - bit < 8 ? prefix.prefixlen - bit : 8;
        if ((prefix.addr.b[bit / 8] ^ address.b[bit / 8]) & (0xff00u >> keep) & 0xffu)
            return false;
    }
    return true;
}

bt_lpm_key v4(unsigned a, unsigned b, unsigned length) {
    bt_lpm_key key{96 + length, {}};
    key.addr.b[10] = key.addr.b[11] = 0xff;
    key.addr.b[12] = static_cast<bt_u8>(a);
    key.addr.b[13] = static_cast<bt_u8>(b);
    return key;
}

bt_lpm_key v6(unsigned a, unsigned b, unsigned length) {
    bt_lpm_key key{length, {}};
    key.addr.b[0] = static_cast<bt_u8>(a);
    key.addr.b[1] = static_cast<bt_u8>(b);
    return key;
}

} // namespace

struct PipelineState final : Tables {
    explicit PipelineState(PipelineOptions o)
        : options(std::move(o)), flows(options.flow_capacity), sockets(options.socket_capacity),
          peers(options.socket_capacity), clients(options.client_capacity), fanouts(options.client_capacity),
          inspector(options.deep_capacity), scorer(options.client_capacity) {
        guess_inside = options.inside.empty();
        if (guess_inside)
            options.inside = {v4(10, 0, 8),     v4(172, 16, 12), v4(192, 168, 16),  v4(100, 64, 10),
                              v4(169, 254, 16), v6(0xfc, 0, 7),  v6(0xfe, 0x80, 10)};
        config.lease_until_ns = ~0ULL;
        config.event_rate = config.new_flow_rate = ~0u;
        config.fanout_hosts = default_fanout_hosts;
        config.fanout_ports = default_fanout_ports;
        config.port_count = static_cast<bt_u32>(std::size(default_whitelist_ports));
        std::copy(std::begin(default_whitelist_ports), std::end(default_whitelist_ports), config.ports);
        if (options.names)
            config.flags = BT_C_NAMES;
    }

    [[nodiscard]] bool listed(const bt_addr& address) const {
        for (const bt_lpm_key& prefix : options.inside)
            if (matches(prefix, address))
                return true;
        return false;
    }
    bool is_inside(const bt_addr& address) override {
        return listed(address) || (guess_inside && !listed(scratch.pkt.tuple.src) && !listed(scratch.pkt.tuple.dst));
    }
    void at_hand(std::uint32_t hash) {
        own = {hash, false, nullptr};
        mirror = {mirror_hash(scratch.pkt.tuple, hash), false, nullptr};
    }
    bt_flow* find_flow(const bt_tuple* key) {
        auto* known = key == &scratch.pkt.tuple ? &own : key == &scratch.mirror_tuple ? &mirror : nullptr;
        if (!known)
            return flows.find(*key);
        if (!std::exchange(known->looked_up, true))
            known->flow = flows.find(*key, known->hash);
        return known->flow;
    }
    bt_flow& make_flow(const bt_tuple* key) {
        own.looked_up = mirror.looked_up = false; // another entry may give way
        return key == &scratch.pkt.tuple      ? flows.at(*key, own.hash)
               : key == &scratch.mirror_tuple ? flows.at(*key, mirror.hash)
                                              : flows[*key];
    }
    void block(const bt_tuple& tuple, std::uint32_t evidence, std::uint64_t now_ns) override {
        bt_flow& flow = make_flow(&tuple);
        flow.verdict = BT_V_BLOCKED;
        flow.evidence |= evidence;
        flow.last_seen_ns = now_ns;
    }
    void clear(const bt_tuple& tuple, std::uint64_t) override {
        bt_flow* flow = find_flow(&tuple);
        if (flow && flow->verdict == BT_V_UNKNOWN)
            flow->verdict = BT_V_CLEAN;
    }
    void condemn(const bt_endpoint& socket, std::uint32_t evidence, std::uint64_t now_ns) override {
        sockets[socket] = {now_ns + BT_SOCKET_TTL_NS, 0, evidence, 0};
    }
    void client_seen(const bt_addr& client, std::uint32_t evidence, std::uint64_t now_ns) override {
        bt_client& known = clients[client];
        if (known.active_until_ns <= now_ns)
            advance_epoch();
        known.active_until_ns = now_ns + BT_CLIENT_TTL_NS;
        known.evidence |= evidence;
        ++known.detections;
    }
    void advance_epoch() { epoch = epoch == 0xffff ? 1 : static_cast<bt_u16>(epoch + 1); }
    bt_flow known(const bt_tuple& tuple) override {
        const bt_flow* flow = flows.find(tuple);
        return flow ? *flow : bt_flow{};
    }
    void learn(const bt_peer_key& peer, std::uint32_t evidence, std::uint64_t now_ns) override {
        peers[peer] = {now_ns + BT_PEER_TTL_NS, 0, evidence, 0};
    }

    PipelineOptions options;
    bool guess_inside = false;
    bt_config config{};
    bt_scratch scratch{};
    bt_parsed parsed = BT_PARSED_NONE;
    std::array<std::pair<bt_pkt, bt_parsed>, Pipeline::batch> waiting{}; // between parse() and decide()
    // The half-flows of the packet and of its mirror: the path asks for them time and again.
    struct {
        std::uint32_t hash = 0;
        bool looked_up = false;
        bt_flow* flow = nullptr;
    } own, mirror;
    BoundedTable<bt_tuple, bt_flow> flows;
    BoundedTable<bt_endpoint, bt_mark> sockets;
    BoundedTable<bt_peer_key, bt_mark> peers;
    BoundedTable<bt_addr, bt_client> clients;
    BoundedTable<bt_addr, bt_fanout> fanouts;
    std::array<std::uint64_t, BT_S_COUNT> counters{};
    Inspector inspector;
    Scorer scorer;
    std::uint64_t now = 0;
    std::uint32_t emitted = 0; // evidence of the packet at hand
    bt_u16 epoch = 1;
};

} // namespace btblock::detect

static int bt_load(bt_ctx* c, bt_u32 offset, void* to, bt_u32 length) {
    if (offset > c->size || length > c->size - offset)
        return -1;
    std::memcpy(to, c->data + offset, length);
    return 0;
}

static bt_u32 bt_total(const bt_ctx* c) {
    return c->size;
}

static bt_u64 bt_now(bt_ctx* c) {
    return c->state->now;
}

static const bt_config* bt_settings(bt_ctx* c) {
    return &c->state->config;
}

static void bt_count(bt_ctx* c, bt_stat which) {
    ++c->state->counters[which];
}

static bt_u32 bt_owner(bt_ctx*) {
    return 0; // a capture is one hook that sees both directions
}

static int bt_can_punt(bt_ctx*) {
    return 1;
}

static int bt_is_inside(bt_ctx* c, const bt_addr* a) {
    return c->state->is_inside(*a);
}

static int bt_is_allowed(bt_ctx*, const bt_addr*) {
    return 0;
}

static int bt_is_relay(bt_ctx*, const bt_addr*) {
    return 0;
}

static bt_ban* bt_ban_find(bt_ctx*, const bt_addr*) {
    return nullptr; // captures are judged by what is in them
}

static bt_flow* bt_flow_find(bt_ctx* c, const bt_tuple* key) {
    return c->state->find_flow(key);
}

static int bt_flow_store(bt_ctx* c, const bt_tuple* key, const bt_flow* value) {
    c->state->make_flow(key) = *value;
    return 0;
}

static bt_mark* bt_socket_find(bt_ctx* c, const bt_endpoint* key) {
    return c->state->sockets.find(*key);
}

static int bt_socket_store(bt_ctx* c, const bt_endpoint* key, const bt_mark* value) {
    c->state->sockets[*key] = *value;
    return 0;
}

static bt_mark* bt_peer_find(bt_ctx* c, const bt_peer_key* key) {
    return c->state->peers.find(*key);
}

static int bt_peer_store(bt_ctx* c, const bt_peer_key* key, const bt_mark* value) {
    c->state->peers[*key] = *value;
    return 0;
}

static bt_client* bt_client_find(bt_ctx* c, const bt_addr* key) {
    return c->state->clients.find(*key);
}

static int bt_client_store(bt_ctx* c, const bt_addr* key, const bt_client* value) {
    c->state->clients[*key] = *value;
    return 0;
}

static bt_fanout* bt_fanout_find(bt_ctx* c, const bt_addr* key) {
    return c->state->fanouts.find(*key);
}

static int bt_fanout_store(bt_ctx* c, const bt_addr* key, const bt_fanout* value) {
    c->state->fanouts[*key] = *value;
    return 0;
}

static bt_scratch* bt_scratch_get(bt_ctx* c) {
    return &c->state->scratch;
}

static void bt_find_udp_facts(bt_scratch* s) {
    bt_udp_facts(&s->pkt.tuple, &s->head, &s->facts);
}

static void bt_find_tcp_facts(bt_scratch* s) {
    bt_tcp_facts(&s->head, s->flow.matched, &s->facts);
}

static bt_u16 bt_epoch_now(bt_ctx* c) {
    return c->state->epoch;
}

static void bt_epoch_advance(bt_ctx* c) {
    c->state->advance_epoch();
}

static int bt_flow_rate_ok(bt_ctx*) {
    return 1;
}

static void bt_emit(bt_ctx* c, const bt_pkt*, bt_u8, bt_u32 evidence, bt_u8, bt_u8) {
    c->state->emitted |= evidence;
}

namespace btblock::detect {

Pipeline::Pipeline(PipelineOptions options) : state_(std::make_unique<PipelineState>(std::move(options))) {}

Pipeline::~Pipeline() = default;

namespace {

bt_ctx context(PipelineState& s, std::span<const std::uint8_t> ip) {
    return {&s, ip.data(), static_cast<bt_u32>(std::min<std::size_t>(ip.size(), 1 << 20))};
}

} // namespace

Decision Pipeline::packet(std::span<const std::uint8_t> ip_packet, std::size_t, std::uint64_t time_ns) {
    PipelineState& s = *state_;
    bt_ctx c = context(s, ip_packet);
    s.parsed = bt_parse(&c, 0, &s.scratch.pkt);
    s.at_hand(s.parsed == BT_PARSED ? hash_of(s.scratch.pkt.tuple) : 0);
    return decide(ip_packet, time_ns);
}

void Pipeline::parse(std::span<PipelinePacket> packets) {
    PipelineState& s = *state_;
    for (std::size_t i = 0; i < packets.size(); ++i) {
        PipelinePacket& p = packets[i];
        auto& [pkt, parsed] = s.waiting[i];
        bt_ctx c = context(s, p.ip);
        parsed = bt_parse(&c, 0, &pkt);
        p.is_flow = parsed == BT_PARSED;
        if (!p.is_flow)
            continue;
        p.tuple = pkt.tuple;
        p.hash = hash_of(p.tuple);
        s.flows.prefetch_slot(p.hash);
    }
}

void Pipeline::decide(std::span<PipelinePacket> packets) {
    PipelineState& s = *state_;
    for (const PipelinePacket& p : packets)
        if (p.is_flow) {
            s.flows.prefetch_entry(p.hash);
            s.flows.prefetch_entry(mirror_hash(p.tuple, p.hash));
        }
    for (std::size_t i = 0; i < packets.size(); ++i) {
        PipelinePacket& p = packets[i];
        std::tie(s.scratch.pkt, s.parsed) = s.waiting[i];
        s.at_hand(p.hash);
        p.decision = decide(p.ip, p.time_ns);
    }
}

// The packet has been parsed.
Decision Pipeline::decide(std::span<const std::uint8_t> ip_packet, std::uint64_t time_ns) {
    PipelineState& s = *state_;
    s.now = std::max(s.now, time_ns);
    s.emitted = 0;
    bt_ctx c = context(s, ip_packet);
    const std::array<std::uint64_t, BT_S_COUNT>& counters = s.counters;
    const std::uint64_t by_socket = counters[BT_S_DROP_SOCKET];
    const bt_action action = bt_inspect(&c, s.parsed, &s.scratch);
    const bt_pkt& p = s.scratch.pkt;
    if (action == BT_ACT_DROP) {
        if (counters[BT_S_DROP_SOCKET] != by_socket)
            return {BT_ACT_DROP, BT_EV_BIT(BT_EV_SOCKET_CONDEMNED)};
        const bt_flow* known = s.find_flow(&p.tuple);
        return {BT_ACT_DROP, s.emitted ? s.emitted : known ? known->evidence : 0};
    }
    if (action != BT_ACT_PUNT)
        return {};
    Payload payload;
    payload.tuple = p.tuple;
    payload.bytes = ip_packet.subspan(p.payload_off, p.payload_len);
    payload.seq = p.seq;
    payload.has_seq = p.tuple.proto == BT_IPPROTO_TCP;
    payload.ack = p.ack;
    Finding finding = s.inspector.inspect(payload, s.now);
    finding.unasked = finding.judgement == Judgement::proves && is_unasked(s, payload);
    write_back(s, s.scorer, p.tuple, finding, s.inspector.named_peers(), s.now);
    if (finding.judgement != Judgement::proves)
        return {};
    return {BT_ACT_DROP, finding.evidence};
}

void Pipeline::review(const std::function<void(const bt_tuple&, std::uint32_t)>& decided) const {
    PipelineState& s = *state_;
    // What can only have weighed is not enough to judge a flow by its first turn.
    constexpr std::uint32_t weighed = BT_EV_BIT(BT_EV_FANOUT) | BT_EV_BIT(BT_EV_CLIENT_AGENT) |
                                      BT_EV_BIT(BT_EV_SIGNATURE) | BT_EV_BIT(BT_EV_TRACKER_SNI) |
                                      BT_EV_BIT(BT_EV_ENTROPY) | BT_EV_BIT(BT_EV_SOCKS_CONNECT);
    const auto active = [&](const bt_addr& client, std::uint64_t at) {
        const bt_client* known = s.clients.find(client);
        return known && known->active_until_ns > at && !known->random_until_ns && (known->evidence & ~weighed);
    };
    const auto exempt = [](bt_u16 port) {
        return std::find(default_whitelist_ports.begin(), default_whitelist_ports.end(), port) !=
               default_whitelist_ports.end();
    };
    const auto is_key = [](const bt_flow& f, bt_u8 turn) {
        return (f.flags & BT_F_RANDOM) && f.turn == turn && f.turn_len >= BT_MSE_FIRST &&
               f.turn_len <= BT_MSE_FIRST_MAX;
    };
    s.flows.for_each([&](const bt_tuple& tuple, const bt_flow& flow) {
        if (flow.verdict != BT_V_UNKNOWN)
            return;
        if (tuple.proto == BT_IPPROTO_UDP) {
            if ((flow.flags & BT_F_UTP_SYN) && s.sockets.find({tuple.src, tuple.sport, BT_IPPROTO_UDP, 0}))
                decided(tuple, BT_EV_BIT(BT_EV_UTP_SYN) | BT_EV_BIT(BT_EV_SOCKET_CONDEMNED));
            return;
        }
        bt_tuple back;
        bt_mirror(&tuple, &back);
        const bt_flow* answer = s.flows.find(back);
        if (is_key(flow, 1) && !exempt(tuple.sport) && !exempt(tuple.dport) && (!answer || is_key(*answer, 2)) &&
            (active(tuple.src, flow.last_seen_ns) || active(tuple.dst, flow.last_seen_ns)))
            decided(tuple, BT_EV_BIT(BT_EV_MSE_HANDSHAKE) | BT_EV_BIT(BT_EV_ENTROPY));
    });
}

std::uint64_t Pipeline::counter(bt_stat which) const {
    return state_->counters[which];
}

const bt_flow* Pipeline::flow(const bt_tuple& tuple) const {
    return state_->flows.find(tuple);
}

} // namespace btblock::detect
