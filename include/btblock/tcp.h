/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Judging a TCP segment: what its bytes prove alone (detect.h), a handshake in pieces, HTTP, proxies, and the turns of
 * Message Stream Encryption (mse.h).
 */
#ifndef BTBLOCK_TCP_H
#define BTBLOCK_TCP_H

#include "btblock/mse.h"

enum { BT_HTTP_SEGMENTS = 32 }; /* pieces of one request that user space is given */
enum { BT_HELLO_SEGMENTS = 3 }; /* and of a ClientHello, after the first */
enum { BT_FRAME_SEGMENTS = 3 }; /* and of a WebSocket message */

/* A GET has no body: its last segment ends with the empty line. */
static BT_INLINE int bt_ends_request(struct bt_ctx *c, const struct bt_pkt *p)
{
	bt_u8 tail[4];

	return p->payload_len >= 4 && !bt_load(c, p->payload_off + p->payload_len - 4, tail, 4) &&
	       bt_be32(tail) == BT_TXT4('\r', '\n', '\r', '\n');
}

/*
 * The connections of libtorrent's SSL torrents ask for an info-hash in hex, 40 digits, as server name (RFC 6066). With
 * OpenSSL that is the first extension of the hello. User space reads the name itself.
 */
static BT_INLINE int bt_hello_names_hash(struct bt_ctx *c, const struct bt_pkt *p, const struct bt_head *h)
{
	bt_u32 at = p->payload_off + 44 + h->b[43]; /* after the session id */
	bt_u8 x[9];

	if (bt_load(c, at, x, 2))
		return 0;
	at += 2u + bt_be16(x); /* cipher suites */
	if (bt_load(c, at, x, 1))
		return 0;
	at += 1u + x[0] + 2; /* compression methods, length of the extensions */
	/* type of the extension, its length, that of its list, type of the name, its length */
	return !bt_load(c, at, x, 9) && !bt_be16(x) && !x[6] && bt_be16(x + 7) == 40;
}

static BT_INLINE enum bt_judgement bt_judge_tcp(struct bt_ctx *c, struct bt_scratch *s)
{
	const struct bt_pkt *p = &s->pkt;
	struct bt_flow *f = &s->flow;
	struct bt_facts *x = &s->facts;
	int starts;

	if (bt_mse_is_open(f) && bt_run_mse_open(c, s)) {
		s->evidence = BT_EV_MSE_HANDSHAKE;
		return BT_J_PROVES;
	}
	/* A segment from before what was seen is a retransmission, or the stream's start overtaken by
	 * what follows it; after a gap nothing continues. */
	if (f->flags & BT_F_ORDERED) {
		if ((int)(p->seq - f->next_seq) < 0) {
			/* the verdict on what is sent again may still be under way */
			if (!bt_is_handshake(&s->head))
				return f->punted ? BT_J_PUNT : BT_J_NOTHING;
			s->evidence = BT_EV_TCP_HANDSHAKE;
			return BT_J_PROVES;
		}
		if (p->seq != f->next_seq)
			f->matched = 0;
	}
	f->next_seq = p->seq + p->payload_len;
	f->flags |= BT_F_ORDERED | (s->mirror.flags & BT_F_PROXY);
	if (f->seen >= BT_PUNT_BUDGET && f->verdict != BT_V_HTTP && !f->matched)
		return BT_J_NOTHING;
	bt_find_tcp_facts(s);
	/* An inner stream may begin with any payload of a proxied connection. */
	starts = !f->seen || (f->flags & BT_F_PROXY);

	if (!starts && !f->matched)
		x->matched = 0;
	f->matched = x->matched;
	if ((starts && x->is_handshake) || f->matched >= BT_HANDSHAKE_LEN) {
		s->evidence = BT_EV_TCP_HANDSHAKE;
		return BT_J_PROVES;
	}
	if (f->matched)
		return BT_J_PUNT;
	if (!f->seen && x->is_hello && !(f->flags & BT_F_PROXY) &&
	    (bt_wants_names(c) || (bt_can_punt(c) && bt_hello_names_hash(c, p, &s->head)))) {
		f->mse = BT_MSE_OVER;
		f->want = x->hello_ends ? 0 : BT_HELLO_SEGMENTS;
		return BT_J_PUNT; /* user space settles it */
	}
	if (!f->seen && x->is_other && !(f->flags & BT_F_PROXY)) /* a proxy answers in HTTP */
		return BT_J_OTHER;
	if (x->is_http && (starts || f->verdict == BT_V_HTTP)) {
		/* A web seed's request (BEP 19) has no query, and a connection of its own. */
		int look = x->has_query || (!f->seen && s->head.b[0] == 'G');

		f->verdict = BT_V_HTTP;
		f->want = look && !bt_ends_request(c, p) ? BT_HTTP_SEGMENTS : 0;
		return look ? BT_J_PUNT : BT_J_NOTHING;
	}
	if (!f->seen && p->payload_len < 4 && s->head.b[0] == 'G') { /* a request line cut short */
		f->verdict = BT_V_HTTP;
		f->want = BT_HTTP_SEGMENTS;
		return BT_J_PUNT;
	}
	if (!f->seen && x->is_proxy) {
		f->flags |= BT_F_PROXY;
		f->want = 4;
		return BT_J_PUNT;
	}
	/* The inner stream of a proxied connection has its turns while user space looks at it, too. */
	if ((f->verdict != BT_V_HTTP && !f->want) || (f->flags & BT_F_PROXY)) {
		if (bt_run_mse_turn(c, s)) {
			s->evidence = BT_EV_MSE_HANDSHAKE;
			return BT_J_PROVES;
		}
	}
	if (f->want) {
		f->want--;
		if (f->verdict == BT_V_HTTP && bt_ends_request(c, p))
			f->want = 0;
		return BT_J_PUNT;
	}
	/* A tracker's WebSocket: its client's first message is an announce, and so is every later one. */
	if (f->verdict == BT_V_HTTP ? x->is_frame && f->seen < BT_PUNT_BUDGET : x->is_long_frame && !f->seen) {
		f->verdict = BT_V_HTTP;
		f->want = BT_FRAME_SEGMENTS;
		return BT_J_PUNT;
	}
	if (f->verdict == BT_V_HTTP)
		return BT_J_NOTHING;
	if (x->is_message) {
		f->want = 3;
		return BT_J_PUNT;
	}
	return BT_J_NOTHING;
}

#endif
