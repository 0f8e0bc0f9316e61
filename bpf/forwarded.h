/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * A packet that a guarded device brings in and another one takes out meets both hooks within microseconds, on one CPU,
 * and what egress would find out about it, ingress knows already, unless its addresses were translated meanwhile. So
 * ingress leaves a note of what it let pass, which egress takes away.
 */
#ifndef BTBLOCK_FORWARDED_H
#define BTBLOCK_FORWARDED_H

#include "env.h"

enum { BT_NOTES = 8 };

struct bt_note {
	struct bt_tuple tuple;
	__u32 seq;
	__u32 payload_len;
	__u32 ifindex; /* that brought it in; 0: taken away */
	__u32 tcp_flags;
	__u64 tick; /* of the CPU's clock, see bt_percpu */
};

struct bt_notes {
	struct bt_note note[BT_NOTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct bt_notes);
	__uint(max_entries, 1);
} bt_passed SEC(".maps");

/* Devices hand packets up in batches, so the segments of one connection have to differ. */
static BT_INLINE struct bt_note *bt_note_of(const struct bt_pkt *p)
{
	const struct bt_tuple *t = &p->tuple;
	__u32 zero = 0, hash = (t->src.w[3] + t->dst.w[3] * 3 + ((__u32)t->sport << 16 | t->dport) + p->seq) * 0x9e3779b1u;
	struct bt_notes *notes = bpf_map_lookup_elem(&bt_passed, &zero);

	return notes ? &notes->note[hash >> 29] : 0;
}

/* Not static: as the stages of env.h. */
__attribute__((noinline)) int bt_note_passed(__u32 ifindex)
{
	struct bt_percpu *cpu = bt_this_cpu();
	struct bt_scratch *s = bt_scratch_get(0);
	struct bt_note *n = s ? bt_note_of(&s->pkt) : 0;

	if (!n || !cpu)
		return 0;
	n->tuple = s->pkt.tuple;
	n->seq = s->pkt.seq;
	n->payload_len = s->pkt.payload_len;
	n->tcp_flags = s->pkt.tcp_flags;
	n->ifindex = ifindex;
	n->tick = cpu->tick;
	return 0;
}

/* Whether ingress has just let this packet pass, as it is. `from`: the device that brought it in, 0 for none. */
__attribute__((noinline)) int bt_note_taken(__u32 from)
{
	struct bt_ctx c = { 0, BT_HOOK_EGRESS, 0, bt_this_cpu() };
	struct bt_scratch *s = bt_scratch_get(0);
	struct bt_note *n = s ? bt_note_of(&s->pkt) : 0;
	const struct bt_pkt *p;

	if (!n || !c.cpu)
		return 0;
	p = &s->pkt;
	(void)bt_now(&c); /* sets the tick */
	if (!from || n->ifindex != from || n->tick != c.cpu->tick || n->seq != p->seq || n->payload_len != p->payload_len ||
	    n->tcp_flags != p->tcp_flags || n->tuple.sport != p->tuple.sport || n->tuple.dport != p->tuple.dport ||
	    n->tuple.proto != p->tuple.proto || !bt_addr_equal(&n->tuple.src, &p->tuple.src) ||
	    !bt_addr_equal(&n->tuple.dst, &p->tuple.dst))
		return 0;
	n->ifindex = 0;
	return 1;
}

#endif
