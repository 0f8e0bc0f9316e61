/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Fan-out: clients that open flows to many hosts and ports.
 */
#ifndef BTBLOCK_FANOUT_H
#define BTBLOCK_FANOUT_H

#include "btblock/known.h"

/* Sets one of 256 bits chosen by the value; 1 when it was clear. */
static BT_INLINE int bt_sketch(bt_u64 *bits, bt_u32 value)
{
	bt_u32 at = value * 0x9e3779b1u >> 24;
	bt_u64 bit = 1ULL << (at & 63);

	if (bits[at >> 6 & (BT_FANOUT_WORDS - 1)] & bit)
		return 0;
	bits[at >> 6 & (BT_FANOUT_WORDS - 1)] |= bit;
	return 1;
}

/*
 * A client opens a flow that nothing recognised. Many of them to distinct hosts and distinct ports
 * in a minute is how a swarm looks, however it is encrypted; it makes the client active, which
 * blocks nothing by itself.
 */
static BT_INLINE int bt_fan_out(struct bt_ctx *c, struct bt_scratch *s)
{
	const struct bt_config *cfg = bt_settings(c);
	const struct bt_tuple *t = &s->pkt.tuple;
	const bt_u32 *w = t->dst.w;
	bt_u64 now = bt_now(c);
	struct bt_fanout *x;

	if (!cfg || !cfg->fanout_hosts || s->mirror.last_seen_ns || !bt_is_inside(c, &t->src) || bt_is_inside(c, &t->dst) ||
	    bt_run_exempt_port(c, s) || bt_is_relay(c, &t->dst))
		return 0;
	x = bt_fanout_find(c, &t->src);
	if (!x || now - x->window_ns > BT_FANOUT_NS) {
		__builtin_memset(&s->fanout, 0, sizeof(s->fanout));
		s->fanout.window_ns = now;
		if (bt_fanout_store(c, &t->src, &s->fanout))
			return 0;
		x = bt_fanout_find(c, &t->src);
		if (!x)
			return 0;
	}
	x->host_bits += bt_sketch(x->hosts, w[0] ^ w[1] * 5 ^ w[2] * 17 ^ w[3]);
	x->port_bits += bt_sketch(x->ports, t->dport);
	if (x->told || x->host_bits < cfg->fanout_hosts || x->port_bits < cfg->fanout_ports)
		return 0;
	x->told = 1;
	bt_client_seen(c, &t->src, BT_EV_FANOUT, now);
	bt_count_evidence(c, BT_EV_FANOUT);
	bt_emit(c, &s->pkt, BT_K_DETECTION, BT_EV_BIT(BT_EV_FANOUT), BT_ACT_PASS, BT_SIDE_SRC);
	return 0;
}
BT_STAGE(fan_out)

#endif
