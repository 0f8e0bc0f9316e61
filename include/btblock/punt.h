/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The punt filter: which packets of a hook before TC egress user space should see.
 *
 * TC egress can drop but not hand over to user space. So the firewall asks this filter about
 * packets that no guarded device brought in but a guarded device will take out: forwarded ones,
 * and with scope = output those of programs on this machine. The questions are those of
 * bt_judge_udp() and bt_judge_tcp() whose answer is BT_J_PUNT; what the kernel proves by itself is
 * left to TC egress. The tuple is the one before source NAT, which TC egress does not know, so
 * what user space blocked is dropped here, too.
 *
 * It runs in process context as well, where a packet from the network can interrupt it: all it
 * needs is on its own stack, none in the scratch.
 *
 * Besides what inspect.h asks for, the includer provides:
 *   bt_asked_find(c, tuple), bt_asked_store(c, tuple, flow)   the filter's own table of half-flows
 */
#ifndef BTBLOCK_PUNT_H
#define BTBLOCK_PUNT_H

#include "btblock/inspect.h"

/*
 * User space's verdict on the tuple, or a condemned socket as this hook knows it. What goes to the ports that everyone
 * needs may be another program's by now (bt_is_of_others()): TC egress looks at that.
 */
static BT_INLINE int bt_filter_blocked(struct bt_ctx *c, const struct bt_tuple *t)
{
	struct bt_flow *f = bt_flow_find(c, t);
	struct bt_mark *mark;
	bt_u64 now = bt_now(c);

	if (f && f->verdict == BT_V_BLOCKED && (t->proto == BT_IPPROTO_TCP || bt_since(f->last_seen_ns, now) <= BT_UDP_IDLE_NS)) {
		if (bt_since(f->last_seen_ns, now) > BT_NSEC_PER_SEC)
			f->last_seen_ns = now;
		return 1;
	}
	if (t->proto != BT_IPPROTO_UDP || bt_is_common_port(t->dport))
		return 0;
	mark = bt_socket_live(c, &t->src, t->sport, now);
	if (!mark || bt_is_allowed(c, &t->src) || bt_is_allowed(c, &t->dst))
		return 0;
	bt_socket_used(mark, now);
	return 1;
}

static BT_INLINE int bt_filter_names(struct bt_ctx *c)
{
	const struct bt_config *cfg = bt_settings(c);

	return cfg && cfg->flags & BT_C_NAMES;
}

/* bt_is_utp_peer() for at most one extension: old kernels read the stack at constant offsets only. */
static BT_INLINE int bt_filter_utp(struct bt_ctx *c, const struct bt_pkt *p, const struct bt_head *h)
{
	bt_u32 at = 20;
	bt_u8 begin[5];

	if (h->b[0] != (BT_UTP_DATA << 4 | 1))
		return 0;
	if (h->b[1]) {
		if (h->b[20] || (h->b[21] != 4 && h->b[21] != 8))
			return 0;
		at += 2u + h->b[21];
	}
	return !bt_load(c, p->payload_off + at, begin, 5) && bt_begins_peer(begin);
}

static BT_INLINE int bt_filter_udp(struct bt_ctx *c, const struct bt_pkt *p, struct bt_head *h)
{
	bt_u32 inner = bt_socks_udp_offset(h);

	if (bt_is_dns_query(&p->tuple, h) && bt_filter_names(c))
		return 1;
	if (inner && bt_load_head(c, p->payload_off + inner, p->payload_len - inner, h))
		return 0;
	if (!inner && bt_filter_utp(c, p, h))
		return 1;
	return bt_maybe_bencode(h) && bt_detect_dht(h) == BT_EV_NONE;
}

static BT_INLINE int bt_filter_http(struct bt_ctx *c, const struct bt_pkt *p, const struct bt_head *h, struct bt_flow *f)
{
	f->verdict = BT_V_HTTP;
	f->want = 0;
	if (!bt_http_has_query(h) && (f->seen || h->b[0] != 'G'))
		return 0;
	if (!bt_ends_request(c, p))
		f->want = BT_HTTP_SEGMENTS;
	return 1;
}

static BT_INLINE int bt_filter_tcp(struct bt_ctx *c, const struct bt_pkt *p, const struct bt_head *h, struct bt_flow *f)
{
	int starts = !f->seen || (f->flags & BT_F_PROXY);

	if (f->flags & BT_F_ORDERED) {
		if ((int)(p->seq - f->next_seq) < 0)
			return f->punted; /* sent again */
		if (p->seq != f->next_seq)
			f->matched = 0;
	}
	f->next_seq = p->seq + p->payload_len;
	f->flags |= BT_F_ORDERED;
	if (bt_is_handshake(h))
		return 0;
	if (starts || f->matched) {
		f->matched = bt_match_handshake(h, f->matched);
		if (f->matched)
			return 1;
	}
	if (!f->seen && bt_is_hello(h) && (bt_filter_names(c) || bt_hello_names_hash(c, p, h))) {
		f->want = bt_hello_ends(h) ? 0 : BT_HELLO_SEGMENTS;
		return 1;
	}
	if (!f->seen && bt_is_other_tcp(h)) {
		f->verdict = BT_V_CLEAN;
		return 0;
	}
	if (bt_is_http_request(h) && (starts || f->verdict == BT_V_HTTP))
		return bt_filter_http(c, p, h, f);
	if (!f->seen && p->payload_len < 4 && h->b[0] == 'G') {
		f->verdict = BT_V_HTTP;
		f->want = BT_HTTP_SEGMENTS;
		return 1;
	}
	if (!f->seen && bt_is_proxy_request(h)) {
		f->flags |= BT_F_PROXY;
		f->want = 4;
		return 1;
	}
	if (f->want) {
		f->want--;
		if (f->verdict == BT_V_HTTP && bt_ends_request(c, p))
			f->want = 0;
		return 1;
	}
	if (f->verdict == BT_V_HTTP ? bt_is_client_frame(h) && f->seen < BT_PUNT_BUDGET : bt_is_long_frame(h) && !f->seen) {
		f->verdict = BT_V_HTTP;
		f->want = BT_FRAME_SEGMENTS;
		return 1;
	}
	if (f->verdict != BT_V_HTTP && bt_maybe_message(h)) {
		f->want = 3;
		return 1;
	}
	return 0;
}

/* A payload packet that is not blocked. */
static BT_INLINE int bt_filter_asks(struct bt_ctx *c, const struct bt_pkt *p)
{
	const struct bt_config *cfg = bt_settings(c);
	struct bt_flow fresh, *f;
	struct bt_head h;
	bt_u64 now = bt_now(c);
	int asks;

	if (!cfg || cfg->lease_until_ns <= now)
		return 0;
	f = bt_asked_find(c, &p->tuple);
	if (f && p->tuple.proto == BT_IPPROTO_UDP && bt_since(f->last_seen_ns, now) > BT_UDP_IDLE_NS)
		bt_renew_flow(c, f);
	if (f && (f->verdict == BT_V_CLEAN || f->verdict == BT_V_ALLOWED ||
		  (f->seen >= BT_PUNT_BUDGET && f->verdict != BT_V_HTTP && !f->matched)))
		return 0;
	if (bt_load_head(c, p->payload_off, p->payload_len, &h))
		return 0;
	if (!f) {
		__builtin_memset(&fresh, 0, sizeof(fresh));
		if (bt_is_allowed(c, &p->tuple.src) || bt_is_allowed(c, &p->tuple.dst))
			fresh.verdict = BT_V_ALLOWED;
		if (!bt_flow_rate_ok(c) || bt_asked_store(c, &p->tuple, &fresh)) {
			bt_count(c, BT_S_FLOOD_SKIPPED);
			return 0;
		}
		f = bt_asked_find(c, &p->tuple);
		if (!f || f->verdict == BT_V_ALLOWED)
			return 0;
	}
	f->last_seen_ns = now;
	asks = p->tuple.proto == BT_IPPROTO_UDP ? bt_filter_udp(c, p, &h) : bt_filter_tcp(c, p, &h, f);
	if (f->seen < 255)
		f->seen++;
	if (asks) {
		f->punted = 1;
		bt_count(c, BT_S_PUNTED);
	}
	return asks;
}

/* Whether the firewall has to do with this packet: it is blocked, or user space should see it. */
static BT_INLINE int bt_filter_takes(struct bt_ctx *c)
{
	const struct bt_config *cfg = bt_settings(c);
	struct bt_pkt p;

	if (!cfg || bt_parse(c, 0, &p) != BT_PARSED)
		return 0;
	if (p.tuple.proto == BT_IPPROTO_TCP && (p.tcp_flags & BT_TCP_SYN)) {
		bt_renew_flow(c, bt_asked_find(c, &p.tuple));
		bt_renew_flow(c, bt_flow_find(c, &p.tuple));
	}
	if (!p.payload_len)
		return 0;
	if (!(cfg->flags & BT_C_MONITOR) && bt_filter_blocked(c, &p.tuple))
		return 1;
	return bt_filter_asks(c, &p);
}

/* Which of the two it was; *p is the packet then. */
static BT_INLINE int bt_filter_drops(struct bt_ctx *c, struct bt_pkt *p)
{
	const struct bt_config *cfg = bt_settings(c);

	if (!cfg || (cfg->flags & BT_C_MONITOR) || bt_parse(c, 0, p) != BT_PARSED || !p->payload_len ||
	    !bt_filter_blocked(c, &p->tuple))
		return 0;
	bt_count(c, bt_flow_find(c, &p->tuple) ? BT_S_DROP_FLOW : BT_S_DROP_SOCKET);
	return 1;
}

#endif
