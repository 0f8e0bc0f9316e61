/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Judging a datagram: what its bytes prove alone (detect.h), uTP (BEP 29) with its half-flow, mirror and client, and
 * both inside SOCKS.
 */
#ifndef BTBLOCK_UDP_H
#define BTBLOCK_UDP_H

#include "btblock/known.h"

/*
 * A strict uTP SYN of a client that is active already, or the second one of the same socket to
 * another endpoint: nothing else sends these 20 exact bytes around from one port.
 */
static BT_INLINE int bt_utp_dialler(struct bt_ctx *c, struct bt_scratch *s)
{
	const struct bt_tuple *t = &s->pkt.tuple;
	bt_u64 now = bt_now(c);
	struct bt_client *client = bt_client_find(c, &t->src);
	int fresh = 0;

	if (client && client->active_until_ns > now)
		return 1;
	if (!client) {
		if (!bt_is_inside(c, &t->src))
			return 0;
		client = bt_new_client(c, now);
		if (!client)
			return 0;
		fresh = 1;
	}
	if (client->syn_until_ns > now && client->syn_sport == t->sport &&
	    (client->syn_dport != t->dport || !bt_addr_equal(&client->syn_peer, &t->dst)))
		return 1;
	client->syn_peer = t->dst;
	client->syn_sport = t->sport;
	client->syn_dport = t->dport;
	client->syn_until_ns = now + BT_UDP_IDLE_NS;
	if (fresh)
		bt_client_store(c, &t->src, client);
	return 0;
}
BT_STAGE(utp_dialler)

/* The DHT of Azureus is that of a torrent once the client runs one; Kademlia on its own distributes other things, too. */
static BT_INLINE int bt_azureus_client(struct bt_ctx *c, struct bt_scratch *s)
{
	const struct bt_tuple *t = &s->pkt.tuple;
	bt_u8 side = bt_client_side(c, t);

	return side != BT_SIDE_NONE && bt_client_is_active(c, side == BT_SIDE_SRC ? &t->src : &t->dst, bt_now(c));
}
BT_STAGE(azureus_client)

/* One datagram, plain or taken out of its SOCKS header; s->facts says what it looks like. */
static BT_INLINE int bt_judge_datagram(struct bt_ctx *c, struct bt_scratch *s)
{
	struct bt_flow *f = &s->flow, *m = &s->mirror;
	struct bt_utp *u = &s->facts.utp;

	if (s->facts.evidence != BT_EV_NONE) {
		s->evidence = s->facts.evidence;
		return BT_J_PROVES;
	}
	if (s->facts.azureus != BT_EV_NONE && bt_run_azureus_client(c, s)) {
		s->evidence = s->facts.azureus;
		return BT_J_PROVES;
	}
	if (!s->facts.is_utp)
		return BT_J_NOTHING;
	if (s->facts.is_utp_syn) {
		f->flags |= BT_F_UTP_SYN;
		f->utp_id = u->id;
		f->utp_seq = u->seq;
		if (!bt_run_utp_dialler(c, s))
			return BT_J_NOTHING;
		s->evidence = BT_EV_UTP_SYN;
		return BT_J_PROVES;
	}
	if (u->type == BT_UTP_SYN)
		return BT_J_NOTHING;
	/* STATE answers SYN: same connection id, and it acknowledges the SYN's sequence number */
	if (u->type == BT_UTP_STATE && (m->flags & BT_F_UTP_SYN) && u->id == m->utp_id && u->ack == m->utp_seq &&
	    s->head.wire_len == u->header_len) {
		s->evidence = BT_EV_UTP_PAIR;
		return BT_J_PROVES;
	}
	/* Running connection: the ids differ by one, and each side's last packet acknowledges the other's */
	if ((m->flags & BT_F_UTP_SEEN) && u->ack && u->wnd && u->seq != u->ack && m->utp_ack &&
	    (bt_u16)(m->utp_seq - u->ack) < 128 && (bt_u16)(u->seq - m->utp_ack) < 128 &&
	    ((bt_u16)(u->id - m->utp_id) == 1 || (bt_u16)(m->utp_id - u->id) == 1)) {
		s->evidence = BT_EV_UTP_DATA;
		return BT_J_PROVES;
	}
	f->flags |= BT_F_UTP_SEEN;
	if (!(f->flags & BT_F_UTP_SYN)) {
		f->utp_id = u->id;
		f->utp_seq = u->seq;
		f->utp_ack = u->ack;
	}
	return BT_J_NOTHING;
}
BT_STAGE(judge_datagram)

static BT_INLINE enum bt_judgement bt_judge_udp(struct bt_ctx *c, struct bt_scratch *s)
{
	const struct bt_pkt *p = &s->pkt;
	bt_u32 inner = 0;

	bt_find_udp_facts(s);
	/* The plain reading comes first: a tracker's answer looks like a SOCKS header. */
	if (s->facts.evidence == BT_EV_NONE && !s->facts.is_utp)
		inner = s->facts.socks_off;
	if (inner) {
		if (bt_load_head(c, p->payload_off + inner, p->payload_len - inner, &s->head))
			return BT_J_NOTHING;
		bt_find_udp_facts(s);
	}
	s->judgement = (bt_u32)bt_run_judge_datagram(c, s);
	BT_BARRIER();
	if (s->judgement != BT_J_NOTHING)
		return (enum bt_judgement)s->judgement;
	if (s->facts.is_bencode || s->facts.is_utp_peer || (s->facts.is_query && !inner && bt_wants_names(c)))
		return BT_J_PUNT;
	return s->facts.is_other && !s->flow.seen && !inner ? BT_J_OTHER : BT_J_NOTHING;
}

#endif
