/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What one packet needs on its path through inspect.h, which says what the includer provides.
 */
#ifndef BTBLOCK_PACKET_STATE_H
#define BTBLOCK_PACKET_STATE_H

#include "btblock/detect.h"
#include "btblock/parse.h"

enum bt_judgement {
	BT_J_NOTHING,
	BT_J_PROVES, /* *evidence says what */
	BT_J_OTHER,  /* the half-flow is certainly something else */
	BT_J_PUNT,   /* user space should see this packet */
};

/* What one packet needs; contents do not outlive it. That all of it lies in memory the verifier
 * knows nothing about also keeps the number of states it must walk small. */
struct bt_scratch {
	struct bt_pkt pkt;
	struct bt_head head;
	struct bt_flow flow;   /* the half-flow: a copy, written back at the end */
	struct bt_flow mirror; /* the other direction, zero when it has not been seen */
	struct bt_tuple mirror_tuple;
	struct bt_client client;
	struct bt_fanout fanout;
	struct bt_facts facts;
	bt_u32 evidence; /* code of the last judgement */
	bt_u32 judgement;
	bt_u32 is_new;      /* no half-flow was found */
	bt_u32 side;        /* which end is the client, while convicting */
	bt_u32 unasked;     /* BT_SIDE_UNASKED or 0, likewise */
	bt_u32 again, same; /* while openings are compared */
	bt_u16 mse_first;   /* bytes of a first turn of MSE's length, when the third begins */
	bt_u16 epoch;       /* when the packet came, see bt_flow */
};

/*
 * BT_STAGE(name) makes bt_run_NAME(c, s) of bt_NAME(c, s), a step that needs nothing but the scratch
 * and may not load from the packet. The kernel makes it a function that the verifier walks once,
 * whatever was known where it is called.
 */
#ifndef BT_STAGE
#define BT_STAGE(name)                                                                                                           \
	static BT_INLINE int bt_run_##name(struct bt_ctx *c, struct bt_scratch *s)                                               \
	{                                                                                                                        \
		return (int)bt_##name(c, s);                                                                                     \
	}
#endif

enum { BT_SIDE_NONE, BT_SIDE_SRC, BT_SIDE_DST, BT_SIDE_UNASKED /* a bit, for events */ = 4 };

/* Nanoseconds that have passed. What another CPU or user space wrote may be ahead of this CPU's clock, by a tick. */
static BT_INLINE bt_u64 bt_since(bt_u64 then, bt_u64 now)
{
	return now > then ? now - then : 0;
}

/* Which end of the packet is the client: the inside one; between two inside hosts, the sender. */
static BT_INLINE bt_u8 bt_client_side(struct bt_ctx *c, const struct bt_tuple *t)
{
	if (bt_is_inside(c, &t->src))
		return BT_SIDE_SRC;
	return bt_is_inside(c, &t->dst) ? BT_SIDE_DST : BT_SIDE_NONE;
}

/* User space looks at names, and can have this packet. Where not, what carries them is as clean as ever. */
static BT_INLINE int bt_wants_names(struct bt_ctx *c)
{
	const struct bt_config *cfg = bt_settings(c);

	return cfg && cfg->flags & BT_C_NAMES && bt_can_punt(c) && cfg->lease_until_ns > bt_now(c);
}

static BT_INLINE void bt_count_evidence(struct bt_ctx *c, bt_u32 code)
{
	bt_count(c, (enum bt_stat)((bt_u32)BT_S_DETECTIONS + code));
}

static BT_INLINE enum bt_action bt_dropped(struct bt_ctx *c, const struct bt_config *cfg, enum bt_stat why)
{
	if (cfg->flags & BT_C_MONITOR) {
		bt_count(c, BT_S_MONITORED);
		return BT_ACT_PASS;
	}
	bt_count(c, why);
	return BT_ACT_DROP;
}

#endif
