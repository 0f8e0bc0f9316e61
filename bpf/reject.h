/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * action = reject: a dropped packet is described to the daemon, which answers both ends. The
 * packet itself is dropped as ever: no mark or rule has to hold for it not to leave.
 */
#ifndef BTBLOCK_REJECT_H
#define BTBLOCK_REJECT_H

#include "env.h"

static BT_INLINE void bt_describe(struct bt_ctx *c, const struct bt_pkt *p)
{
	const struct bt_config *cfg = bt_settings(c);
	struct bt_percpu *w = c->cpu;
	bt_u64 now = bt_now(c);
	struct bt_reject *r;

	if (!cfg || !(cfg->flags & BT_C_REJECT) || cfg->lease_until_ns <= now)
		return;
	if (p->tuple.proto == BT_IPPROTO_TCP && (p->tcp_flags & BT_TCP_RST))
		return;
	if (now - w->reject_window_ns > BT_NSEC_PER_SEC) {
		w->reject_window_ns = now;
		w->rejects = 0;
	}
	if (++w->rejects > BT_REJECT_RATE)
		return;
	r = bpf_ringbuf_reserve(&bt_rejects, sizeof(*r), 0);
	if (!r)
		return;
	r->tuple = p->tuple;
	r->seq = p->seq;
	r->ack = p->ack;
	r->payload_len = p->payload_len;
	r->tcp_flags = p->tcp_flags;
	r->pad[0] = r->pad[1] = r->pad[2] = 0;
	bpf_ringbuf_submit(r, 0);
}

__attribute__((noinline)) int bt_describe_stage(__u32 hook, __u32 ifindex)
{
	struct bt_ctx c = { 0, hook, ifindex, bt_this_cpu() };
	struct bt_scratch *scratch = bt_scratch_get(&c);

	if (scratch && c.cpu)
		bt_describe(&c, &scratch->pkt);
	return 0;
}

#endif
