/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The packet path: what is done with one parsed packet, in order. The kernel runs this on BPF
 * maps, `btblock analyze` and the tests run the very same code on tables in memory.
 *
 *   settled half-flows -> bans -> bare TCP segments -> half-flow verdict -> condemned sockets -> budget -> detectors
 *
 * The includer defines struct bt_ctx and, before including this file, BT_HAVE_CTX and:
 *   bt_load, bt_total                               see head.h
 *   bt_u64 bt_now(c)                                CLOCK_MONOTONIC, coarse is enough
 *   const struct bt_config *bt_settings(c)          NULL: pass everything
 *   void bt_count(c, enum bt_stat)
 *   bt_u32 bt_owner(c)                              ifindex << 1 | egress
 *   int bt_can_punt(c)                              may this hook hand packets to user space
 *   int bt_is_inside(c, addr), bt_is_allowed(c, addr), bt_is_relay(c, addr)
 *   bt_{ban,flow,socket,peer,client,fanout}_find(c, key)   pointer to the live entry, or NULL
 *   bt_{flow,socket,peer,client,fanout}_store(c, key, val) 0, or negative when there is no room
 *   struct bt_scratch *bt_scratch_get(c)             room that does not fit the kernel's 512-byte stack, or NULL
 *   void bt_find_udp_facts(scratch), bt_find_tcp_facts(scratch)
 *                                                   bt_udp_facts, bt_tcp_facts on what the scratch holds
 *   bt_u16 bt_epoch_now(c), bt_epoch_advance(c)     number of the last change that can stop a running flow: something
 *                                                   was banned or condemned, or a client
 *                                                   became active. Never 0
 *   int bt_flow_rate_ok(c)                          flood guard: may a new half-flow be made now
 *   void bt_emit(c, pkt, kind, evidence mask, action, client_is)
 * and may define BT_STAGE, see below.
 * All tables forget on their own; every expiry is checked here, at use.
 */
#ifndef BTBLOCK_INSPECT_H
#define BTBLOCK_INSPECT_H

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

/* Which end of the packet is the client: the inside one; between two inside hosts, the sender. */
static BT_INLINE bt_u8 bt_client_side(struct bt_ctx *c, const struct bt_tuple *t)
{
	if (bt_is_inside(c, &t->src))
		return BT_SIDE_SRC;
	return bt_is_inside(c, &t->dst) ? BT_SIDE_DST : BT_SIDE_NONE;
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

/* ------------------------------------------------------------------ bans */

static BT_INLINE int bt_ban_applies(struct bt_ctx *c, const struct bt_addr *a, bt_u16 port)
{
	struct bt_ban *ban = bt_ban_find(c, a);
	bt_u32 i;

	if (!ban && !bt_addr_is_v4(a)) {
		struct bt_addr net = *a;

		net.w[2] = net.w[3] = 0;
		ban = bt_ban_find(c, &net);
		if (ban && !(ban->flags & BT_BAN_SUBNET64))
			ban = 0;
	}
	if (!ban || ban->expires_ns <= bt_now(c))
		return 0;
	if (ban->port_count) {
		for (i = 0; i < BT_BAN_PORTS; i++)
			if (i < ban->port_count && ban->ports[i] == port)
				break;
		if (i == BT_BAN_PORTS)
			return 0;
	}
	if (bt_is_allowed(c, a))
		return 0;
	ban->hits++;
	return 1;
}

static BT_INLINE int bt_is_banned(struct bt_ctx *c, const struct bt_tuple *t)
{
	return bt_ban_applies(c, &t->src, t->sport) || bt_ban_applies(c, &t->dst, t->dport);
}

static BT_INLINE int bt_banned(struct bt_ctx *c, const struct bt_scratch *s)
{
	return bt_is_banned(c, &s->pkt.tuple);
}
BT_STAGE(banned)

/* Either port is one of the configuration's whitelist. */
static BT_INLINE int bt_exempt_port(struct bt_ctx *c, struct bt_scratch *s)
{
	const struct bt_config *cfg = bt_settings(c);
	const struct bt_tuple *t = &s->pkt.tuple;
	bt_u32 i;

	for (i = 0; cfg && i < BT_WHITELIST_PORTS; i++) {
		if (i >= cfg->port_count)
			break;
		if (cfg->ports[i] == t->sport || cfg->ports[i] == t->dport)
			return 1;
	}
	return 0;
}
BT_STAGE(exempt_port)

/* ------------------------------------------------------------------ what clients gave away */

static BT_INLINE void bt_endpoint_of(struct bt_endpoint *e, const struct bt_addr *a, bt_u16 port)
{
	e->addr = *a;
	e->port = port;
	e->proto = BT_IPPROTO_UDP;
	e->pad = 0;
}

/* The condemned socket with this number, or 0. */
static BT_INLINE struct bt_mark *bt_socket_live(struct bt_ctx *c, const struct bt_addr *a, bt_u16 port, bt_u64 now)
{
	struct bt_endpoint e;
	struct bt_mark *mark;

	bt_endpoint_of(&e, a, port);
	mark = bt_socket_find(c, &e);
	return mark && mark->expires_ns > now ? mark : 0;
}

/* Use keeps it condemned. */
static BT_INLINE void bt_socket_used(struct bt_mark *mark, bt_u64 now)
{
	mark->hits++;
	mark->expires_ns = now + BT_SOCKET_TTL_NS;
}

static BT_INLINE void bt_condemn(struct bt_ctx *c, const struct bt_addr *a, bt_u16 port, bt_u8 code, bt_u64 now)
{
	struct bt_mark mark = { now + BT_SOCKET_TTL_NS, 0, BT_EV_BIT(code), 0 };
	struct bt_endpoint e;

	bt_endpoint_of(&e, a, port);
	if (bt_socket_store(c, &e, &mark))
		return;
	bt_epoch_advance(c);
	bt_count(c, BT_S_CONDEMNED);
}

static BT_INLINE void bt_peer_of(struct bt_peer_key *k, const struct bt_addr *client, const struct bt_addr *peer, bt_u16 port)
{
	k->client = *client;
	k->peer = *peer;
	k->port = port;
	k->pad = 0;
}

/* Only from what the client itself sent: a forged sender must not teach us anything. */
static BT_INLINE void bt_learn(struct bt_ctx *c, const struct bt_tuple *t, bt_u64 now)
{
	struct bt_mark mark = { now + BT_PEER_TTL_NS, 0, BT_EV_BIT(BT_EV_SOCKET_CONDEMNED), 0 };
	struct bt_peer_key k;
	struct bt_mark *known;

	bt_peer_of(&k, &t->src, &t->dst, t->dport);
	known = bt_peer_find(c, &k);
	if (known) {
		known->expires_ns = mark.expires_ns;
		return;
	}
	if (!bt_peer_store(c, &k, &mark))
		bt_count(c, BT_S_LEARNED);
}

static BT_INLINE int bt_peer_live(struct bt_ctx *c, const struct bt_addr *client, const struct bt_addr *peer, bt_u16 port,
				  bt_u64 now)
{
	struct bt_peer_key k;
	struct bt_mark *mark;

	bt_peer_of(&k, client, peer, port);
	mark = bt_peer_find(c, &k);
	if (!mark || mark->expires_ns <= now)
		return 0;
	mark->hits++;
	return 1;
}

/* Ports that carry what everyone needs: never closed because of a number alone. */
static BT_INLINE int bt_is_common_port(bt_u16 port)
{
	return port == 53 || port == 123 || port == 443 || port == 3478;
}

static BT_INLINE struct bt_client *bt_new_client(struct bt_ctx *c, bt_u64 now)
{
	struct bt_scratch *scratch = bt_scratch_get(c);

	if (!scratch)
		return 0;
	__builtin_memset(&scratch->client, 0, sizeof(scratch->client));
	scratch->client.first_seen_ns = now;
	return &scratch->client;
}

static BT_INLINE void bt_client_seen(struct bt_ctx *c, const struct bt_addr *client, bt_u8 code, bt_u64 now)
{
	struct bt_client *known = bt_client_find(c, client);
	int was_active = known && known->active_until_ns > now;

	if (known) {
		known->active_until_ns = now + BT_CLIENT_TTL_NS;
		known->evidence |= BT_EV_BIT(code);
		known->detections++;
	} else {
		struct bt_client *fresh = bt_new_client(c, now);

		if (!fresh)
			return;
		fresh->active_until_ns = now + BT_CLIENT_TTL_NS;
		fresh->evidence = BT_EV_BIT(code);
		fresh->detections = 1;
		bt_client_store(c, client, fresh);
	}
	if (!was_active)
		bt_epoch_advance(c); /* its encrypted connections are judged by that */
}

/* ------------------------------------------------------------------ UDP detectors with state */

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

/* One datagram, plain or taken out of its SOCKS header; s->facts says what it looks like. */
static BT_INLINE int bt_judge_datagram(struct bt_ctx *c, struct bt_scratch *s)
{
	struct bt_flow *f = &s->flow, *m = &s->mirror;
	struct bt_utp *u = &s->facts.utp;

	if (s->facts.evidence != BT_EV_NONE) {
		s->evidence = s->facts.evidence;
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

/* User space looks at names, and can have this packet. Where not, what carries them is as clean as ever. */
static BT_INLINE int bt_wants_names(struct bt_ctx *c)
{
	const struct bt_config *cfg = bt_settings(c);

	return cfg && cfg->flags & BT_C_NAMES && bt_can_punt(c) && cfg->lease_until_ns > bt_now(c);
}

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

/* ------------------------------------------------------------------ TCP detectors with state */

/*
 * Message Stream Encryption by its turns (docs/detection.md, "mse.handshake"): both first turns
 * 96 to 608 random bytes, then 56 to 636. A turn may come in several segments. bt_flow.mse says how
 * far it went.
 */
enum {
	BT_MSE_FIRST = 96,
	BT_MSE_FIRST_MAX = 608,
	BT_MSE_ANSWER = 56,
	BT_MSE_ANSWER_MAX = 636,
	BT_MSE_PEER = 68,  /* a peer handshake (BEP 3) */
	BT_MSE_SHORT = 24, /* shorter segments are too short for others */
};
enum bt_mse_fit { BT_FIT_NOTHING, BT_FIT_OPENING, BT_FIT_BROKEN };

static BT_INLINE int bt_is_mse_first(bt_u32 len)
{
	return len >= BT_MSE_FIRST && len <= BT_MSE_FIRST_MAX;
}

/* eDonkey's obfuscation exchanges keys of the same size, with paddings of at most 15 bytes. */
static BT_INLINE int bt_is_ed2k(bt_u32 first, bt_u32 second)
{
	return first > BT_MSE_FIRST && first <= BT_MSE_FIRST + 17 && second > BT_MSE_FIRST + 6 && second <= BT_MSE_FIRST + 22;
}

static BT_INLINE enum bt_mse_fit bt_mse_grammar(struct bt_scratch *s)
{
	struct bt_flow *f = &s->flow, *m = &s->mirror;
	bt_u32 len = s->head.wire_len > 0xffff ? 0xffff : s->head.wire_len, mine = f->turn_len;
	bt_u8 was = f->turn, other = m->turn;
	int fits = 1;

	/* In a proxied connection the turns count from its inner stream's first random flight. */
	if ((f->flags & BT_F_PROXY) && !(m->flags & BT_F_RANDOM))
		other = 0;
	if (s->facts.is_random && !(f->flags & BT_F_RANDOM) && (!was || (f->flags & BT_F_PROXY))) {
		f->flags |= BT_F_RANDOM;
		was = 0;
	}
	if (was && other < was) { /* the turn goes on */
		f->turn_len = mine + len > 0xffff ? 0xffff : (bt_u16)(mine + len);
	} else {
		f->turn = (bt_u8)(other + 1);
		f->turn_len = (bt_u16)len;
	}
	if (!(f->flags & m->flags & BT_F_RANDOM) || f->mse == BT_MSE_OVER)
		return BT_FIT_NOTHING;
	if (f->turn == 2) {
		fits = !bt_is_mse_first(m->turn_len) || f->turn_len <= BT_MSE_FIRST_MAX;
	} else if (f->turn == 3) {
		if (was == 1 && bt_is_ed2k(mine, m->turn_len)) {
			f->mse = BT_MSE_OVER; /* says nothing about its client's others */
			return BT_FIT_NOTHING;
		}
		if (was == 1 && bt_is_mse_first(mine) && bt_is_mse_first(m->turn_len)) {
			f->mse = BT_MSE_KEYS;
			s->mse_first = (bt_u16)mine;
		}
		fits = f->mse != BT_MSE_NONE && f->turn_len <= BT_MSE_ANSWER_MAX;
	} else if (f->turn == 5 && was == 3) {
		fits = mine >= BT_MSE_ANSWER;
		if (len == BT_MSE_PEER || mine == BT_MSE_ANSWER + BT_MSE_PEER)
			f->flags |= BT_F_FITTING;
	}
	if (!fits) {
		f->mse = BT_MSE_OVER;
		return BT_FIT_BROKEN;
	}
	if (f->turn != 3 || f->turn_len < BT_MSE_ANSWER)
		return BT_FIT_NOTHING;
	f->mse = BT_MSE_OPEN;
	return BT_FIT_OPENING;
}

/*
 * What makes an MSE-shaped opening proof: its client gave itself away, and has no random-looking
 * streams with other turns. MSE has no others, but a protocol of messages without any visible form
 * fits by chance every so often. Whoever talks to many hosts may do so by such a protocol, and ports
 * that everyone needs take more than a shape.
 */
static BT_INLINE int bt_mse_proves(struct bt_ctx *c, struct bt_scratch *s, const struct bt_client *client, bt_u64 now)
{
	return client && client->active_until_ns > now && (client->evidence & ~BT_EV_BIT(BT_EV_FANOUT)) &&
	       client->random_until_ns <= now && !bt_run_exempt_port(c, s);
}

/*
 * Paddings are of random lengths, and a client keeps one connection to a peer: four openings in a row
 * with the same first turn, or four to the same port of a host within a minute each, are a program
 * that asks its server, or its servers in turn.
 */
enum { BT_MSE_SAME = 3, BT_MSE_AGAIN_S = 60 };

static BT_INLINE bt_u32 bt_peer_hash(const struct bt_addr *a, bt_u16 port)
{
	return ((a->w[0] * 31 + a->w[1]) * 31 + a->w[2]) * 31 + a->w[3] * 0x9e3779b1u + port * 0x85ebca6bu;
}

static BT_INLINE int bt_mse_repeats(struct bt_scratch *s, struct bt_client *k, bt_u32 peer, bt_u64 now)
{
	struct bt_mse_end *end = &k->mse_ends[peer >> 29];
	bt_u32 now_s = (bt_u32)(now / BT_NSEC_PER_SEC), again = end->seen & 3, same;
	int recent = ((now_s - (end->seen >> 2)) & 0x3fffffff) < BT_MSE_AGAIN_S;

	if (end->peer == peer || !recent || !again) { /* or the place is taken by one that was asked again */
		again = end->peer == peer && recent ? again + (again < BT_MSE_SAME) : 0;
		end->peer = peer;
		end->seen = now_s << 2 | again;
	} else {
		again = 0;
	}
	again = bt_forget(&s->again, again);
	same = s->mse_first == k->mse_first && s->mse_first != BT_MSE_FIRST ? k->mse_same + 1u : 0;
	same = bt_forget(&s->same, same);
	k->mse_first = s->mse_first;
	k->mse_same = (bt_u16)(same > BT_MSE_SAME ? (bt_u32)BT_MSE_SAME : same);
	return same >= BT_MSE_SAME || again == BT_MSE_SAME;
}

static BT_INLINE int bt_mse_turn(struct bt_ctx *c, struct bt_scratch *s)
{
	const struct bt_tuple *t = &s->pkt.tuple;
	const struct bt_addr *inside, *outside;
	bt_u64 now = bt_now(c);
	struct bt_client *client;
	struct bt_flow *mirror;
	bt_u8 side, known;
	enum bt_mse_fit fit;

	s->mse_first = 0;
	fit = bt_mse_grammar(s);
	if (fit == BT_FIT_NOTHING)
		return 0;
	side = bt_client_side(c, t);
	if (side == BT_SIDE_NONE)
		return 0;
	mirror = bt_flow_find(c, &s->mirror_tuple);
	if (mirror)
		mirror->mse = s->flow.mse; /* either side may be the one that asks */
	inside = side == BT_SIDE_SRC ? &t->src : &t->dst;
	outside = side == BT_SIDE_SRC ? &t->dst : &t->src;
	client = bt_client_find(c, inside);
	known = client != 0;
	if (!known)
		client = bt_new_client(c, now);
	if (!client)
		return 0;
	if (fit == BT_FIT_BROKEN ||
	    (s->mse_first && bt_mse_repeats(s, client, bt_peer_hash(outside, side == BT_SIDE_SRC ? t->dport : t->sport), now)))
		client->random_until_ns = now + BT_CLIENT_TTL_NS;
	if (!known)
		bt_client_store(c, inside, client);
	return fit == BT_FIT_OPENING && bt_mse_proves(c, s, client, now);
}
BT_STAGE(mse_turn)

/*
 * RC4 hides what the messages say, not how long they are (BEP 3): a request is 17 bytes, "have" 9, a
 * piece message of one block 13 + 16384. Three signs, either side may show any:
 *
 * - A write ends, by its PSH, after a whole number of piece messages. Few ends are tried.
 * - Between two requests as many whole blocks came as the first of them asked for. Few are tried.
 *   Either may happen to anybody's download, once in some thousand. So it takes one more length that fits, of either
 *   side: a segment that is too short for a frame with a length and a tag ("unchoke", "interested" are 5 bytes), or
 *   the dialler's handshake, alone in the fifth turn (68 bytes) or with the third (56 + 68, without padding).
 * - Segments of nothing but requests, each with a few "have", of several lengths, one of them bare,
 *   which is too short for a frame of authenticated encryption; and whenever one leaves, its side has
 *   got no more blocks than it had asked for, and at least two in five of them. This needs neither
 *   ends of writes nor a path without a relay. Two bare ones suffice in connections to two hosts.
 */
enum {
	BT_PIECE_HEAD = 13,
	BT_PIECE_LEN = 13 + 16384,
	BT_REQUEST_LEN = 17,
	BT_HAVE_LEN = 9,
	BT_MSE_RUNS = 6,       /* ends of writes that are tried */
	BT_ASKS = 5,           /* segments of requests in a row */
	BT_ASK_LENGTHS = 4,    /* of so many lengths */
	BT_ASKS_LONG = 8,      /* or so many, of two lengths */
	BT_ASK_FIRST = 6 * 17, /* a row begins with few: longer ones may be another message by chance */
	BT_ASK_BARE = 34,
	BT_ASK_MAX = 1024,
	BT_ASK_HAVES = 2,                 /* "have" in such a segment */
	BT_ASK_HAVES_MAX = 8,             /* in one that does not count, but ends no row: pieces come from other peers, too */
	BT_ASK_BEFORE = 6 * BT_PIECE_LEN, /* bytes of blocks asked for before the row, and of other messages */
	BT_ASK_HOSTS = 2,                 /* connections that began to ask */
	BT_ASK_MISSES = 8,                /* small segments of other lengths that are allowed for */
	BT_MSE_LOOK = 96,                 /* payload packets of a half-flow that are looked at for it */
};

static BT_INLINE int bt_mse_write(const struct bt_pkt *p, struct bt_flow *f)
{
	bt_u32 end = p->seq + p->payload_len, run;

	if (!f->run_seq)
		f->run_seq = p->seq;
	if (!(p->tcp_flags & BT_TCP_PSH) || f->runs >= BT_MSE_RUNS)
		return 0;
	run = end - f->run_seq;
	if (run == BT_PIECE_HEAD) /* its block follows in a write of its own */
		return 0;
	if (run < BT_PIECE_LEN) { /* other messages, or the start of a block that is written in parts */
		if (run < 1024)
			f->run_seq = end;
		return 0;
	}
	f->runs++;
	return run % BT_PIECE_LEN == 0;
}

/*
 * Whoever asks when the last of what it asked for has come got a whole number of piece messages
 * since, as many as it had sent requests for, and a few "have".
 */
static BT_INLINE int bt_mse_got(const struct bt_pkt *p, struct bt_flow *f)
{
	bt_u32 got = f->got_ack ? p->ack - f->got_ack : 0, blocks = got / BT_PIECE_LEN, asked = f->asked, rest;

	if (f->got_ack && !got) {
		f->asked = asked + p->payload_len > 0xffff ? 0xffff : (bt_u16)(asked + p->payload_len);
		return 0;
	}
	f->got_ack = p->ack;
	f->asked = p->payload_len > 0xffff ? 0xffff : (bt_u16)p->payload_len;
	rest = asked - blocks * BT_REQUEST_LEN; /* wraps when less was asked for */
	if (!blocks || rest > BT_ASK_HAVES_MAX * BT_HAVE_LEN || f->runs >= BT_MSE_RUNS)
		return 0;
	f->runs++;
	return got % BT_PIECE_LEN == 0;
}

/* The fewest "have" (9 bytes) that make up this length together with requests (17 each); 17: none do. */
static BT_INLINE bt_u32 bt_haves_in(bt_u32 len)
{
	bt_u32 haves = len % BT_REQUEST_LEN * 2 % BT_REQUEST_LEN; /* twice 9 is 1 modulo 17 */

	return len < BT_REQUEST_LEN + BT_HAVE_LEN * haves ? 17 : haves;
}

enum bt_asks { BT_ASKS_NONE, BT_ASKS_BEGIN /* two bare requests, with blocks between */, BT_ASKS_ROW };

static BT_INLINE enum bt_asks bt_mse_asks(struct bt_ctx *c, struct bt_scratch *s)
{
	const struct bt_pkt *p = &s->pkt;
	struct bt_flow *f = &s->flow;
	bt_u64 asked = p->seq - f->ask_seq, got = p->ack - f->ask_ack; /* since the first of the row */
	bt_u32 haves = bt_haves_in(p->payload_len);
	bt_u64 lengths;

	(void)c;
	if (f->misses >= BT_ASK_MISSES || p->payload_len <= BT_HAVE_LEN || p->payload_len > BT_ASK_MAX)
		return BT_ASKS_NONE;
	if (haves > BT_ASK_HAVES_MAX) {
		f->asks = 0;
		f->misses++;
		return BT_ASKS_NONE;
	}
	if (haves > BT_ASK_HAVES && p->payload_len % (BT_REQUEST_LEN + BT_HAVE_LEN) /* blocks that are whole pieces */)
		return BT_ASKS_NONE;
	if (f->asks && got * BT_REQUEST_LEN > asked * BT_PIECE_LEN + BT_ASK_BEFORE * BT_REQUEST_LEN) {
		f->asks = 0; /* more than was asked for */
		f->misses++;
	}
	if (f->asks && 5 * got * BT_REQUEST_LEN < 2 * asked * BT_PIECE_LEN) {
		if (f->asks > 1)
			return BT_ASKS_NONE; /* they are still to come */
		f->asks = 0;                 /* what began the row may have been something else of that length */
	}
	if (!f->asks) {
		if (p->payload_len > BT_ASK_FIRST)
			return BT_ASKS_NONE;
		f->ask_seq = p->seq;
		f->ask_ack = p->ack;
		f->ask_lengths = 0;
	}
	f->ask_lengths |= p->payload_len <= BT_ASK_BARE ? 1 : 2u << (p->payload_len * 0x9e3779b1u >> 27) % 31;
	if (++f->asks == 2 && f->ask_lengths == 1)
		return BT_ASKS_BEGIN;
	lengths = bt_bits_of_each(f->ask_lengths) * 0x0101010101010101ULL >> 56;
	if (!(f->ask_lengths & 1) || lengths < (f->asks < BT_ASKS_LONG ? BT_ASK_LENGTHS : 2))
		return BT_ASKS_NONE;
	return f->asks >= BT_ASKS ? BT_ASKS_ROW : BT_ASKS_NONE;
}
BT_STAGE(mse_asks)

/* Connections to two hosts began so, one after the other. */
static BT_INLINE int bt_ask_elsewhere(struct bt_client *k, const struct bt_addr *peer, bt_u64 now)
{
	bt_u32 now_s = (bt_u32)(now / BT_NSEC_PER_SEC), host = bt_peer_hash(peer, 0);

	if (now_s - k->ask_seen_s > (bt_u32)(BT_CLIENT_TTL_NS / BT_NSEC_PER_SEC))
		k->ask_hosts = 0;
	if (!k->ask_hosts || k->ask_peer != host)
		k->ask_hosts++;
	k->ask_peer = host;
	k->ask_seen_s = now_s;
	return k->ask_hosts >= BT_ASK_HOSTS;
}

/* An opening was there; its client may have given itself away since, and what follows may. */
static BT_INLINE int bt_mse_open(struct bt_ctx *c, struct bt_scratch *s)
{
	const struct bt_pkt *p = &s->pkt;
	const struct bt_tuple *t = &p->tuple;
	struct bt_flow *f = &s->flow;
	bt_u8 side = bt_client_side(c, t);
	struct bt_client *client;
	bt_u64 now = bt_now(c);
	int asks, whole;

	if (side == BT_SIDE_NONE)
		return 0;
	client = bt_client_find(c, side == BT_SIDE_SRC ? &t->src : &t->dst);
	if (bt_mse_proves(c, s, client, now))
		return 1;
	if (f->seen >= BT_MSE_LOOK || ((f->flags & BT_F_ORDERED) && (int)(p->seq - f->next_seq) < 0))
		return 0;
	if (p->payload_len < BT_MSE_SHORT)
		f->flags |= BT_F_FITTING;
	whole = bt_mse_write(p, f) | bt_mse_got(p, f);
	if (whole && (f->flags | s->mirror.flags) & BT_F_FITTING)
		return 1;
	asks = bt_run_mse_asks(c, s);
	if (asks == BT_ASKS_BEGIN && client)
		return bt_ask_elsewhere(client, side == BT_SIDE_SRC ? &t->dst : &t->src, now);
	return asks == BT_ASKS_ROW;
}
BT_STAGE(mse_open)

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

	if (f->mse == BT_MSE_OPEN && bt_run_mse_open(c, s)) {
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

/* ------------------------------------------------------------------ the path */

/* The tuple is used again: what was known about its last connection is not about this one. */
static BT_INLINE void bt_renew_flow(struct bt_flow *f)
{
	if (f) {
		bt_u32 owner = f->owner;

		__builtin_memset(f, 0, sizeof(*f));
		f->owner = owner;
	}
}

static BT_INLINE void bt_new_flow(struct bt_ctx *c, struct bt_scratch *s, bt_u64 now)
{
	__builtin_memset(&s->flow, 0, sizeof(s->flow));
	s->flow.owner = bt_owner(c);
	s->flow.last_seen_ns = now;
	bt_count(c, BT_S_NEW_FLOWS);
}

/* s->mirror: what is known of the other direction. */
static BT_INLINE void bt_load_mirror(struct bt_ctx *c, struct bt_scratch *s)
{
	const struct bt_flow *mirror;

	bt_mirror(&s->pkt.tuple, &s->mirror_tuple);
	mirror = bt_flow_find(c, &s->mirror_tuple);
	if (mirror)
		s->mirror = *mirror;
	else
		__builtin_memset(&s->mirror, 0, sizeof(s->mirror));
}

/* A TCP segment without payload: connection attempts to learned peers, and new life for a reused tuple. */
static BT_INLINE enum bt_action bt_inspect_bare(struct bt_ctx *c, struct bt_scratch *s)
{
	const struct bt_config *cfg = bt_settings(c);
	const struct bt_pkt *p = &s->pkt;
	const struct bt_tuple *t = &p->tuple;
	struct bt_flow *found;
	bt_u64 now;
	bt_u8 code;

	if (!cfg || !(p->tcp_flags & BT_TCP_SYN))
		return BT_ACT_PASS;
	now = bt_now(c);
	found = bt_flow_find(c, t);
	bt_renew_flow(found);
	if (p->tcp_flags & BT_TCP_ACK) {
		if (!found && bt_is_inside(c, &t->src) && bt_flow_rate_ok(c)) {
			bt_new_flow(c, s, now);
			s->flow.next_seq = p->seq + 1;
			s->flow.flags = BT_F_ORDERED; /* who answers this is where it says */
			bt_flow_store(c, t, &s->flow);
		}
		return BT_ACT_PASS;
	}
	if (bt_peer_live(c, &t->src, &t->dst, t->dport, now))
		code = BT_EV_PEER_LEARNED;
	else if (!bt_is_common_port(t->dport) && bt_socket_live(c, &t->dst, t->dport, now))
		code = BT_EV_SOCKET_CONDEMNED; /* clients listen for TCP on the number of their UDP port */
	else
		return BT_ACT_PASS;
	if (bt_is_allowed(c, &t->src) || bt_is_allowed(c, &t->dst))
		return BT_ACT_PASS;
	bt_count_evidence(c, code);
	bt_emit(c, p, BT_K_DETECTION, BT_EV_BIT(code), cfg->flags & BT_C_MONITOR ? BT_ACT_PASS : BT_ACT_DROP,
		bt_client_side(c, t));
	return bt_dropped(c, cfg, BT_S_DROP_PEER);
}
BT_STAGE(inspect_bare)

/* A datagram to or from a condemned socket. */
static BT_INLINE int bt_is_condemned(struct bt_ctx *c, const struct bt_tuple *t)
{
	bt_u64 now = bt_now(c);

	if (bt_socket_live(c, &t->src, t->sport, now))
		return !bt_is_allowed(c, &t->dst);
	return bt_socket_live(c, &t->dst, t->dport, now) && !bt_is_allowed(c, &t->src);
}

static BT_INLINE int bt_socket_applies(struct bt_ctx *c, const struct bt_scratch *s)
{
	return bt_is_condemned(c, &s->pkt.tuple);
}
BT_STAGE(socket_applies)

/*
 * It goes on, and where it sends to is learned: `shown` is the evidence of that half-flow. A tracker is no
 * peer; what else its host offers, on the same number even, is its own.
 */
static BT_INLINE void bt_use_socket(struct bt_ctx *c, const struct bt_tuple *t, bt_u32 shown)
{
	bt_u64 now = bt_now(c);
	struct bt_mark *sender = bt_socket_live(c, &t->src, t->sport, now);
	struct bt_mark *mark = sender ? sender : bt_socket_live(c, &t->dst, t->dport, now);

	if (mark)
		bt_socket_used(mark, now);
	if (sender && !(shown & BT_EV_UDP_TRACKER))
		bt_learn(c, t, now);
}

static BT_INLINE int bt_socket_goes_on(struct bt_ctx *c, const struct bt_scratch *s)
{
	bt_use_socket(c, &s->pkt.tuple, s->flow.evidence);
	return 0;
}
BT_STAGE(socket_goes_on)

/*
 * What certainly is another protocol: the number of a socket that is closed by now was given to another program, whose
 * lookups and calls are its own.
 */
static BT_INLINE int bt_is_of_others(struct bt_ctx *c, struct bt_scratch *s)
{
	s->facts.evidence = BT_EV_NONE;
	if (bt_load_head(c, s->pkt.payload_off, s->pkt.payload_len, &s->head))
		return 0;
	bt_find_udp_facts(s);
	return s->facts.is_other && s->facts.evidence == BT_EV_NONE;
}

/* One event about what was decided: s->evidence, s->side, s->unasked. */
static BT_INLINE int bt_tell(struct bt_ctx *c, struct bt_scratch *s)
{
	const struct bt_config *cfg = bt_settings(c);
	bt_u32 code = s->evidence;

	if (!cfg || code >= BT_EV_COUNT)
		return 0;
	bt_count_evidence(c, code);
	bt_emit(c, &s->pkt, BT_K_DETECTION, BT_EV_BIT(code), cfg->flags & BT_C_MONITOR ? BT_ACT_PASS : BT_ACT_DROP,
		(bt_u8)(s->side | s->unasked));
	return 0;
}
BT_STAGE(tell)

/*
 * From outside, and nobody asked for it: what the inside sends is judged by itself. Otherwise a forged packet could
 * close an inside service, accuse a client, or get its alleged sender banned.
 */
static BT_INLINE int bt_unasked(const struct bt_scratch *s, bt_u8 code)
{
	if (s->side != BT_SIDE_DST)
		return 0;
	if (s->pkt.tuple.proto == BT_IPPROTO_UDP)
		return code != BT_EV_UTP_PAIR && code != BT_EV_UTP_DATA;
	return !bt_is_answer(&s->mirror, s->pkt.ack);
}

/* What a packet that can be believed says about its client and, if it is a datagram, about its socket. */
static BT_INLINE int bt_accuse(struct bt_ctx *c, struct bt_scratch *s)
{
	const struct bt_tuple *t = &s->pkt.tuple;
	const struct bt_addr *client = s->side == BT_SIDE_SRC ? &t->src : &t->dst;
	bt_u8 code = (bt_u8)s->evidence;
	bt_u64 now = bt_now(c);

	bt_client_seen(c, client, code, now);
	if (t->proto != BT_IPPROTO_UDP || code == BT_EV_LSD_ANNOUNCE)
		return 0;
	bt_condemn(c, client, s->side == BT_SIDE_SRC ? t->sport : t->dport, code, now);
	if (s->side == BT_SIDE_SRC && !(BT_EV_BIT(code) & BT_EV_UDP_TRACKER))
		bt_learn(c, t, now);
	return 0;
}
BT_STAGE(accuse)

/* The half-flow is BitTorrent: remember that for both directions, for its client, and tell. */
static BT_INLINE int bt_convict(struct bt_ctx *c, struct bt_scratch *s)
{
	bt_u8 code = (bt_u8)s->evidence;

	if (code >= BT_EV_COUNT)
		return 0;
	s->flow.verdict = BT_V_BLOCKED;
	s->flow.evidence |= BT_EV_BIT(code);
	s->side = bt_client_side(c, &s->pkt.tuple);
	s->unasked = bt_unasked(s, code) ? BT_SIDE_UNASKED : 0;
	BT_BARRIER();
	if (!s->unasked) {
		struct bt_flow *mirror = bt_flow_find(c, &s->mirror_tuple);

		if (mirror) {
			mirror->verdict = BT_V_BLOCKED;
			mirror->evidence |= BT_EV_BIT(code);
		} else {
			bt_flow_store(c, &s->mirror_tuple, &s->flow);
		}
		if (s->side != BT_SIDE_NONE && code != BT_EV_SOCKET_CONDEMNED)
			bt_run_accuse(c, s);
	}
	if (s->flow.leaky && code >= BT_EV_DHT_QUERY && code <= BT_EV_TRACKER_UDP_SCRAPE)
		bt_count(c, code <= BT_EV_DHT_ERROR ? BT_S_LEAKED_DHT : BT_S_LEAKED_UDP_TRACKER);
	bt_run_tell(c, s);
	return 0;
}
BT_STAGE(convict)

/*
 * A TCP connection that was open before its peer was learned, or before the number that its client listens on was that
 * of a condemned socket.
 */
static BT_INLINE int bt_given_away(struct bt_ctx *c, struct bt_scratch *s)
{
	const struct bt_tuple *t = &s->pkt.tuple;
	bt_u64 now = bt_now(c);

	s->evidence = BT_EV_NONE;
	if (bt_peer_live(c, &t->src, &t->dst, t->dport, now) || bt_peer_live(c, &t->dst, &t->src, t->sport, now))
		s->evidence = BT_EV_PEER_LEARNED;
	else if (!s->is_new && ((!bt_is_common_port(t->sport) && bt_socket_live(c, &t->src, t->sport, now)) ||
				(!bt_is_common_port(t->dport) && bt_socket_live(c, &t->dst, t->dport, now))))
		s->evidence = BT_EV_SOCKET_CONDEMNED; /* and nothing has shown what else it could be */
	if (s->evidence == BT_EV_NONE || bt_is_allowed(c, &t->src) || bt_is_allowed(c, &t->dst))
		return 0;
	bt_load_mirror(c, s);
	return 1;
}
BT_STAGE(given_away)

static BT_INLINE void bt_judge(struct bt_ctx *c, struct bt_scratch *s)
{
	if (s->pkt.tuple.proto == BT_IPPROTO_UDP) {
		s->judgement = bt_judge_udp(c, s);
	} else if (s->is_new && bt_run_given_away(c, s)) {
		s->judgement = BT_J_PROVES;
	} else {
		s->judgement = bt_judge_tcp(c, s);
	}
}

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

/* Its packets pass here, and only a ban or a condemned socket can change that. */
static BT_INLINE int bt_flow_is_settled(struct bt_ctx *c, const struct bt_flow *f)
{
	if (f->verdict == BT_V_CLEAN || f->verdict == BT_V_ALLOWED)
		return 1;
	if (f->verdict == BT_V_BLOCKED)
		return 0;
	/* Judged where it was first seen, or looked at for long enough. */
	return f->owner != bt_owner(c) || (f->seen >= BT_PUNT_BUDGET && f->verdict != BT_V_HTTP && !f->matched &&
					   (f->mse != BT_MSE_OPEN || f->seen >= BT_MSE_LOOK));
}

static BT_INLINE enum bt_action bt_pass_settled(struct bt_flow *f, bt_u16 epoch)
{
	if (f->epoch != epoch)
		f->epoch = epoch;
	return BT_ACT_PASS;
}

/* A payload packet whose half-flow is still open: judge it and act. */
static BT_INLINE enum bt_action bt_inspect_open(struct bt_ctx *c, const struct bt_config *cfg, struct bt_scratch *s, bt_u64 now)
{
	struct bt_pkt *p = &s->pkt;
	struct bt_flow *f = &s->flow, *found;
	int punt;

	if (bt_load_head(c, p->payload_off, p->payload_len, &s->head)) {
		bt_count(c, BT_S_PARSE_SKIPPED);
		return BT_ACT_PASS;
	}
	bt_load_mirror(c, s);
	bt_judge(c, s);
	BT_BARRIER();
	if (s->is_new && s->judgement == BT_J_NOTHING && f->verdict == BT_V_UNKNOWN)
		bt_run_fan_out(c, s);
	if (f->seen < 255)
		f->seen++;
	if (!f->first_len)
		f->first_len = p->payload_len > 0xffff ? 0xffff : (bt_u16)p->payload_len;

	if (s->judgement == BT_J_PROVES) {
		bt_run_convict(c, s);
	} else if (s->judgement == BT_J_OTHER) {
		f->verdict = BT_V_CLEAN;
		bt_count(c, BT_S_CLEAN_EARLY);
	}
	punt = s->judgement == BT_J_PUNT && bt_can_punt(c) && cfg->lease_until_ns > now;
	if (s->judgement == BT_J_PUNT)
		f->punted = 1;
	if (s->judgement == BT_J_PUNT && !punt && !(bt_owner(c) & 1 && cfg->flags & BT_C_FILTERED)) {
		f->leaky = 1; /* what it was will only be known later, if ever */
		bt_count(c, BT_S_PUNT_NO_LEASE);
	}
	found = bt_flow_find(c, &p->tuple);
	if (found)
		*found = *f;
	else if (!bt_flow_rate_ok(c) || bt_flow_store(c, &p->tuple, f))
		bt_count(c, BT_S_FLOOD_SKIPPED);

	if (s->judgement == BT_J_PROVES)
		return bt_dropped(c, cfg, BT_S_DROP_DETECTED);
	if (punt) {
		bt_count(c, BT_S_PUNTED);
		return BT_ACT_PUNT;
	}
	return BT_ACT_PASS;
}

/* s->pkt holds the parsed packet. */
static BT_INLINE enum bt_action bt_inspect(struct bt_ctx *c, enum bt_parsed parsed, struct bt_scratch *s)
{
	const struct bt_config *cfg = bt_settings(c);
	const struct bt_pkt *p = &s->pkt;
	struct bt_flow *found;
	bt_u16 epoch;
	bt_u64 now;

	if (!cfg)
		return BT_ACT_PASS;
	bt_count(c, BT_S_SEEN);
	if (parsed == BT_PARSED_NONE) {
		bt_count(c, BT_S_PARSE_SKIPPED);
		return BT_ACT_PASS;
	}
	now = bt_now(c);
	epoch = bt_epoch_now(c); /* before the look-ups: what changes meanwhile counts as not looked up */
	found = parsed == BT_PARSED ? bt_flow_find(c, &p->tuple) : 0;
	/* Most packets end here: nothing was banned or condemned since their half-flow was settled. */
	if (found && found->epoch == epoch && now - found->last_seen_ns <= BT_NSEC_PER_SEC && !(p->tcp_flags & BT_TCP_SYN)) {
		if (found->verdict == BT_V_BLOCKED && p->payload_len)
			return bt_dropped(c, cfg, BT_S_DROP_FLOW);
		if (bt_flow_is_settled(c, found))
			return BT_ACT_PASS;
	}
	if (bt_run_banned(c, s))
		return bt_dropped(c, cfg, BT_S_DROP_BAN);
	if (parsed != BT_PARSED) {
		bt_count(c, parsed == BT_PARSED_FRAGMENT ? BT_S_FRAGMENTS : BT_S_PARSE_SKIPPED);
		return BT_ACT_PASS;
	}
	if (p->tuple.proto == BT_IPPROTO_TCP && (!p->payload_len || (p->tcp_flags & BT_TCP_SYN))) {
		if (bt_run_inspect_bare(c, s) != BT_ACT_PASS)
			return BT_ACT_DROP;
	}
	if (!p->payload_len)
		return BT_ACT_PASS;

	if (found && p->tuple.proto == BT_IPPROTO_UDP && now - found->last_seen_ns > BT_UDP_IDLE_NS) {
		__builtin_memset(found, 0, sizeof(*found));
		found->owner = bt_owner(c);
	}
	if (found) {
		/* written once a second, not for every packet: other CPUs read this line */
		if (now - found->last_seen_ns > BT_NSEC_PER_SEC) {
			found->last_seen_ns = now;
			if (found->verdict == BT_V_BLOCKED && p->tuple.proto == BT_IPPROTO_UDP) {
				s->flow.evidence = found->evidence;
				bt_run_socket_goes_on(c, s);
			}
			s->is_new = 0;
			if (found->verdict == BT_V_UNKNOWN && p->tuple.proto == BT_IPPROTO_TCP && bt_run_given_away(c, s)) {
				s->flow = *found;
				/* before anything is stored, to which its entry may give way */
				found->verdict = BT_V_BLOCKED;
				found->evidence |= BT_EV_BIT(s->evidence & 31);
				found->epoch = epoch;
				bt_run_convict(c, s);
				return bt_dropped(c, cfg, BT_S_DROP_FLOW);
			}
		}
		if (found->verdict == BT_V_BLOCKED) {
			found->epoch = epoch;
			return bt_dropped(c, cfg, BT_S_DROP_FLOW);
		}
		if (found->verdict == BT_V_CLEAN || found->verdict == BT_V_ALLOWED)
			return bt_pass_settled(found, epoch);
	}
	if (p->tuple.proto == BT_IPPROTO_UDP && bt_run_socket_applies(c, s) && !bt_is_of_others(c, s)) {
		/* from now on the half-flow's own verdict says it: one look-up, and one event */
		bt_mirror(&p->tuple, &s->mirror_tuple);
		if (found)
			s->flow = *found;
		else
			bt_new_flow(c, s, now);
		if (s->facts.evidence < BT_EV_COUNT)
			s->flow.evidence |= BT_EV_BIT(s->facts.evidence);
		bt_run_socket_goes_on(c, s);
		s->evidence = BT_EV_SOCKET_CONDEMNED;
		bt_run_convict(c, s);
		if (bt_flow_rate_ok(c))
			bt_flow_store(c, &p->tuple, &s->flow);
		return bt_dropped(c, cfg, BT_S_DROP_SOCKET);
	}
	if (found) {
		if (bt_flow_is_settled(c, found)) {
			if (found->mse != BT_MSE_OPEN || found->epoch == epoch)
				return bt_pass_settled(found, epoch);
			found->epoch = epoch;
		}
		s->flow = *found;
	} else {
		bt_new_flow(c, s, now);
	}
	s->is_new = !s->flow.seen;
	if (s->is_new) {
		if (bt_is_allowed(c, &p->tuple.src) || bt_is_allowed(c, &p->tuple.dst) ||
		    ((cfg->flags & BT_C_STRICT_PORTS) && bt_run_exempt_port(c, s))) {
			s->flow.verdict = BT_V_ALLOWED;
			bt_flow_store(c, &p->tuple, &s->flow);
			return BT_ACT_PASS;
		}
	}
	BT_BARRIER();
	return bt_inspect_open(c, cfg, s, now);
}

/* XDP: only what is known already. A bare TCP segment or a new flow is TC's business. */
static BT_INLINE enum bt_action bt_inspect_early(struct bt_ctx *c, enum bt_parsed parsed, const struct bt_tuple *t)
{
	const struct bt_config *cfg = bt_settings(c);

	if (!cfg || parsed == BT_PARSED_NONE || (cfg->flags & (BT_C_MONITOR | BT_C_REJECT)))
		return BT_ACT_PASS; /* TC drops it, and describes what is to be answered */
	if (bt_is_banned(c, t)) {
		bt_count(c, BT_S_SEEN);
		return bt_dropped(c, cfg, BT_S_DROP_BAN);
	}
	if (parsed == BT_PARSED && t->proto == BT_IPPROTO_UDP && bt_is_condemned(c, t)) {
		const struct bt_flow *found = bt_flow_find(c, t);

		/* Another program's, or it may be: TC has a look. */
		if (found ? found->verdict == BT_V_CLEAN || found->verdict == BT_V_ALLOWED
			  : bt_is_common_port(t->sport) || bt_is_common_port(t->dport))
			return BT_ACT_PASS;
		bt_use_socket(c, t, found ? found->evidence : 0);
		bt_count(c, BT_S_SEEN);
		return bt_dropped(c, cfg, BT_S_DROP_SOCKET);
	}
	return BT_ACT_PASS;
}

#endif
