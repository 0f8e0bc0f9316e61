/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What include/btblock/inspect.h asks of its host, by BPF helpers and maps. One struct bt_ctx for
 * both hooks; which one it is, is a constant in each entry, so the other branch is compiled away.
 */
#ifndef BTBLOCK_ENV_H
#define BTBLOCK_ENV_H

#include "maps.h"
#include "btblock/wire.h"

/* Set from a probe before loading: bpf_ktime_get_coarse_ns exists since Linux 5.11. */
const volatile __u8 bt_have_coarse_clock = 0;

struct bt_ctx {
	void *ctx;  /* struct __sk_buff or struct xdp_md */
	__u32 hook; /* enum bt_hook */
	__u32 ifindex;
	struct bt_percpu *cpu; /* never NULL */
};

#define BT_HAVE_CTX
/* Packets whose headers end beyond this are not ours to judge. XDP needs the bound. */
enum { BT_MAX_OFFSET = 0x3ff };

static BT_INLINE int bt_load(struct bt_ctx *c, __u32 off, void *to, __u32 len)
{
	if (c->hook == BT_HOOK_XDP) {
		struct xdp_md *xdp = c->ctx;
		void *data = (void *)(long)xdp->data, *end = (void *)(long)xdp->data_end;

		off &= BT_MAX_OFFSET;
		if (data + off + len > end)
			return -1;
		__builtin_memcpy(to, data + off, len);
		return 0;
	}
	return bpf_skb_load_bytes(c->ctx, off, to, len);
}

static BT_INLINE __u32 bt_total(const struct bt_ctx *c)
{
	if (c->hook == BT_HOOK_XDP) {
		struct xdp_md *xdp = c->ctx;

		return (__u32)(xdp->data_end - xdp->data);
	}
	return ((struct __sk_buff *)c->ctx)->len;
}

static BT_INLINE struct bt_percpu *bt_this_cpu(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&bt_stats, &zero);
}

/* The clock is read once a tick, not for every packet. */
static BT_INLINE __u64 bt_now(struct bt_ctx *c)
{
	__u64 tick = bpf_jiffies64();

	if (c->cpu->tick != tick) {
		c->cpu->tick = tick;
		c->cpu->now_ns = bt_have_coarse_clock ? bpf_ktime_get_coarse_ns() : bpf_ktime_get_ns();
	}
	return c->cpu->now_ns;
}

static BT_INLINE const struct bt_config *bt_settings(struct bt_ctx *c)
{
	__u32 zero = 0;

	(void)c;
	return bpf_map_lookup_elem(&bt_config, &zero);
}

static BT_INLINE void bt_count(struct bt_ctx *c, enum bt_stat which)
{
	if (which < BT_S_COUNT)
		c->cpu->stats[which]++;
}

static BT_INLINE __u32 bt_owner(struct bt_ctx *c)
{
	return c->ifindex << 1 | (c->hook == BT_HOOK_EGRESS);
}

static BT_INLINE int bt_can_punt(struct bt_ctx *c)
{
	return c->hook == BT_HOOK_INGRESS;
}

static BT_INLINE int bt_is_inside(struct bt_ctx *c, const struct bt_addr *a)
{
	struct bt_lpm_key key = { 128, *a };

	(void)c;
	return bpf_map_lookup_elem(&bt_inside, &key) != 0;
}

static BT_INLINE int bt_is_allowed(struct bt_ctx *c, const struct bt_addr *a)
{
	struct bt_lpm_key key = { 128, *a };
	struct bt_allow *allow = bpf_map_lookup_elem(&bt_allow, &key);

	return allow && allow->expires_ns > bt_now(c);
}

static BT_INLINE int bt_is_relay(struct bt_ctx *c, const struct bt_addr *a)
{
	struct bt_lpm_key key = { 128, *a };

	(void)c;
	return bpf_map_lookup_elem(&bt_relays, &key) != 0;
}

#define BT_FIND(name, map, key_t, value_t)                                                                                       \
	static BT_INLINE value_t *name(struct bt_ctx *c, const key_t *key)                                                       \
	{                                                                                                                        \
		(void)c;                                                                                                         \
		return bpf_map_lookup_elem(&map, key);                                                                           \
	}
#define BT_STORE(name, map, key_t, value_t)                                                                                      \
	static BT_INLINE int name(struct bt_ctx *c, const key_t *key, const value_t *value)                                      \
	{                                                                                                                        \
		(void)c;                                                                                                         \
		return (int)bpf_map_update_elem(&map, key, value, BPF_ANY);                                                      \
	}

BT_FIND(bt_ban_find, bt_bans, struct bt_addr, struct bt_ban)
BT_FIND(bt_flow_find, bt_flows, struct bt_tuple, struct bt_flow)
BT_STORE(bt_flow_store, bt_flows, struct bt_tuple, struct bt_flow)
BT_FIND(bt_asked_find, bt_asked, struct bt_tuple, struct bt_flow)
BT_STORE(bt_asked_store, bt_asked, struct bt_tuple, struct bt_flow)
BT_FIND(bt_socket_find, bt_sockets, struct bt_endpoint, struct bt_mark)
BT_STORE(bt_socket_store, bt_sockets, struct bt_endpoint, struct bt_mark)
BT_FIND(bt_peer_find, bt_peers, struct bt_peer_key, struct bt_mark)
BT_STORE(bt_peer_store, bt_peers, struct bt_peer_key, struct bt_mark)
BT_FIND(bt_client_find, bt_clients, struct bt_addr, struct bt_client)
BT_STORE(bt_client_store, bt_clients, struct bt_addr, struct bt_client)
BT_FIND(bt_fanout_find, bt_fanouts, struct bt_addr, struct bt_fanout)
BT_STORE(bt_fanout_store, bt_fanouts, struct bt_addr, struct bt_fanout)

static BT_INLINE __u16 bt_epoch_now(struct bt_ctx *c)
{
	__u32 zero = 0, *epoch = bpf_map_lookup_elem(&bt_epoch, &zero);

	(void)c;
	return epoch ? 0x8000 | *(volatile __u32 *)epoch : 0x8000;
}

static BT_INLINE void bt_epoch_advance(struct bt_ctx *c)
{
	__u32 zero = 0, *epoch = bpf_map_lookup_elem(&bt_epoch, &zero);

	(void)c;
	if (epoch)
		__sync_fetch_and_add(epoch, 1);
}

/* At most new_flow_rate new half-flows a second on this CPU: a flood must not wash the table out. */
static BT_INLINE int bt_flow_rate_ok(struct bt_ctx *c)
{
	struct bt_percpu *w = c->cpu;
	const struct bt_config *cfg = bt_settings(c);
	__u64 now = bt_now(c);

	if (!cfg)
		return 0;
	if (now - w->flow_window_ns > BT_NSEC_PER_SEC) {
		w->flow_window_ns = now;
		w->flows = 0;
	}
	return ++w->flows <= cfg->new_flow_rate;
}

struct bt_pkt;
struct bt_scratch;
static BT_INLINE struct bt_scratch *bt_scratch_get(struct bt_ctx *c);
static BT_INLINE void bt_find_udp_facts(struct bt_scratch *s);
static BT_INLINE void bt_find_tcp_facts(struct bt_scratch *s);
static BT_INLINE void bt_emit(struct bt_ctx *c, const struct bt_pkt *p, __u8 kind, __u32 evidence, __u8 action, __u8 client_is);

#define BT_STAGE(name)                                                                                                           \
	__attribute__((noinline)) int bt_##name##_stage(__u32 hook, __u32 ifindex);                                              \
	static BT_INLINE int bt_run_##name(struct bt_ctx *c, struct bt_scratch *s)                                               \
	{                                                                                                                        \
		int answer = bt_##name##_stage(c->hook, c->ifindex);                                                             \
                                                                                                                                 \
		(void)s;                                                                                                         \
		BT_BARRIER();                                                                                                    \
		return answer;                                                                                                   \
	}                                                                                                                        \
	__attribute__((noinline)) int bt_##name##_stage(__u32 hook, __u32 ifindex)                                               \
	{                                                                                                                        \
		struct bt_ctx c = { 0, hook, ifindex, bt_this_cpu() };                                                           \
		struct bt_scratch *scratch = bt_scratch_get(&c);                                                                 \
                                                                                                                                 \
		return scratch && c.cpu ? (int)bt_##name(&c, scratch) : 0;                                                       \
	}

#include "btblock/inspect.h"

/* Programs of one CPU do not nest: softirq and transmit both run with bottom halves disabled. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct bt_scratch);
	__uint(max_entries, 1);
} bt_scratch SEC(".maps");

static BT_INLINE struct bt_scratch *bt_scratch_get(struct bt_ctx *c)
{
	__u32 zero = 0;

	(void)c;
	return bpf_map_lookup_elem(&bt_scratch, &zero);
}

/* Not static: the verifier walks a global function once, whatever its callers' states are. */
__attribute__((noinline)) int bt_udp_facts_stage(void)
{
	struct bt_scratch *s = bt_scratch_get(0);

	if (s)
		bt_udp_facts(&s->pkt.tuple, &s->head, &s->facts);
	return 0;
}

__attribute__((noinline)) int bt_tcp_facts_stage(void)
{
	struct bt_scratch *s = bt_scratch_get(0);

	if (s)
		bt_tcp_facts(&s->head, s->flow.matched, &s->facts);
	return 0;
}

static BT_INLINE void bt_find_udp_facts(struct bt_scratch *s)
{
	(void)s;
	bt_udp_facts_stage();
	BT_BARRIER();
}

static BT_INLINE void bt_find_tcp_facts(struct bt_scratch *s)
{
	(void)s;
	bt_tcp_facts_stage();
	BT_BARRIER();
}

static BT_INLINE void bt_emit(struct bt_ctx *c, const struct bt_pkt *p, __u8 kind, __u32 evidence, __u8 action, __u8 client_is)
{
	struct bt_percpu *w = c->cpu;
	const struct bt_config *cfg = bt_settings(c);
	__u64 now = bt_now(c);
	struct bt_event *e;

	if (!cfg)
		return;
	if (now - w->event_window_ns > BT_NSEC_PER_SEC) {
		w->event_window_ns = now;
		w->events = 0;
	}
	if (++w->events > cfg->event_rate) {
		bt_count(c, BT_S_EVENTS_LIMITED);
		return;
	}
	e = bpf_ringbuf_reserve(&bt_events, sizeof(*e), 0);
	if (!e) {
		bt_count(c, BT_S_EVENTS_LOST);
		return;
	}
	e->time_ns = now;
	e->ifindex = c->ifindex;
	e->evidence = evidence;
	e->tuple = p->tuple;
	e->payload_len = p->payload_len > 0xffff ? 0xffff : (__u16)p->payload_len;
	e->kind = kind;
	e->hook = (__u8)c->hook;
	e->action = action;
	e->monitor = (cfg->flags & BT_C_MONITOR) != 0;
	e->client_is = client_is & 3;
	e->unasked = (client_is & BT_SIDE_UNASKED) != 0;
	bpf_ringbuf_submit(e, 0);
	bt_count(c, BT_S_EVENTS_SENT);
}

#endif
