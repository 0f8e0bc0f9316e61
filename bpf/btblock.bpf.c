// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The programs: one entry per hook and link type, nothing else. The path is in
 * include/btblock/inspect.h, the maps in maps.h, what both need from the kernel in env.h.
 */
#include "forwarded.h"
#include "plain.h"
#include "reject.h"
#include "btblock/punt.h"

#define BT_TC_NEXT (-1) /* TC_ACT_UNSPEC: other people's programs still run */
#define BT_TC_DROP 2    /* TC_ACT_SHOT */

static BT_INLINE int bt_tc(struct __sk_buff *skb, __u32 link_len, __u32 hook)
{
	struct bt_ctx c = { skb, hook, skb->ifindex, bt_this_cpu() };
	const struct bt_config *cfg = bt_settings(&c);
	struct bt_scratch *scratch = bt_scratch_get(&c);
	enum bt_parsed parsed = BT_PARSED;

	/* Marked already: the same packet on a stacked device (VLAN on its parent, bridge on its port). */
	if (!cfg || !c.cpu || !scratch || (skb->mark & cfg->mark))
		return BT_TC_NEXT;
	if (bt_parse_plain((const __u8 *)(long)skb->data, (const __u8 *)(long)skb->data_end, skb->len, link_len, &scratch->pkt))
		parsed = bt_parse(&c, link_len, &scratch->pkt);
	if (hook == BT_HOOK_EGRESS && parsed == BT_PARSED && bt_note_taken(skb->ingress_ifindex)) {
		bt_count(&c, BT_S_SEEN);
		return BT_TC_NEXT;
	}
	switch (bt_inspect(&c, parsed, scratch)) {
	case BT_ACT_DROP:
		if (parsed == BT_PARSED && (cfg->flags & BT_C_REJECT))
			bt_describe_stage(c.hook, c.ifindex);
		return BT_TC_DROP;
	case BT_ACT_PUNT:
		skb->mark |= cfg->mark;
		return BT_TC_NEXT;
	default:
		if (hook == BT_HOOK_INGRESS && parsed == BT_PARSED)
			bt_note_passed(c.ifindex);
		return BT_TC_NEXT;
	}
}

SEC("tc")
int bt_ingress_l2(struct __sk_buff *skb)
{
	return bt_tc(skb, BT_ETH_LEN, BT_HOOK_INGRESS);
}

SEC("tc")
int bt_ingress_l3(struct __sk_buff *skb)
{
	return bt_tc(skb, 0, BT_HOOK_INGRESS);
}

SEC("tc")
int bt_egress_l2(struct __sk_buff *skb)
{
	return bt_tc(skb, BT_ETH_LEN, BT_HOOK_EGRESS);
}

SEC("tc")
int bt_egress_l3(struct __sk_buff *skb)
{
	return bt_tc(skb, 0, BT_HOOK_EGRESS);
}

SEC("xdp")
int bt_xdp(struct xdp_md *xdp)
{
	struct bt_ctx c = { xdp, BT_HOOK_XDP, xdp->ingress_ifindex, bt_this_cpu() };
	const __u8 *data = (const __u8 *)(long)xdp->data, *end = (const __u8 *)(long)xdp->data_end;
	enum bt_parsed parsed = BT_PARSED;
	struct bt_tuple tuple, *t = &tuple;
	struct bt_plain where;

	if (!c.cpu)
		return XDP_PASS;
	if (bt_plain_tuple(data, end, BT_ETH_LEN, t, &where)) {
		struct bt_scratch *scratch = bt_scratch_get(&c);

		if (!scratch)
			return XDP_PASS;
		parsed = bt_parse(&c, BT_ETH_LEN, &scratch->pkt);
		t = &scratch->pkt.tuple;
	}
	return bt_inspect_early(&c, parsed, t) == BT_ACT_DROP ? XDP_DROP : XDP_PASS;
}

/* Matches of the firewall (xt_bpf), which answer 1 or 0. The packet starts at its IP header. */
SEC("socket")
int bt_pass_filter(struct __sk_buff *skb)
{
	struct bt_ctx c = { skb, BT_HOOK_OUTPUT, 0, bt_this_cpu() };

	return !c.cpu || !bt_filter_takes(&c);
}

SEC("socket")
int bt_drop_filter(struct __sk_buff *skb)
{
	struct bt_ctx c = { skb, BT_HOOK_OUTPUT, 0, bt_this_cpu() };
	struct bt_pkt p;

	if (!c.cpu || !bt_filter_drops(&c, &p))
		return 0;
	bt_describe(&c, &p);
	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
