/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Message Stream Encryption (docs/detection.md, "The turns of ..."): the turns of its opening, and what the lengths, which
 * RC4 leaves as they are, say afterwards.
 */
#ifndef BTBLOCK_MSE_H
#define BTBLOCK_MSE_H

#include "btblock/known.h"

/*
 * The opening: both first turns 96 to 608 random bytes, then 56 to 636. A turn may come in several
 * segments. bt_flow.mse says how far it went.
 */
enum {
	BT_MSE_FIRST = 96,
	BT_MSE_FIRST_MAX = 608,
	BT_MSE_ANSWER = 56,
	BT_MSE_ANSWER_MAX = 636,
	BT_MSE_PEER = 68,  /* a peer handshake (BEP 3) */
	BT_MSE_SHORT = 24, /* shorter segments are too short for others */
};
enum bt_mse_fit { BT_FIT_NOTHING, BT_FIT_OPENING, BT_FIT_ED2K, BT_FIT_BROKEN };

static BT_INLINE int bt_is_mse_first(bt_u32 len)
{
	return len >= BT_MSE_FIRST && len <= BT_MSE_FIRST_MAX;
}

/*
 * eDonkey's obfuscation exchanges keys of the same size, with paddings of at most 15 bytes. One opening of MSE in a
 * thousand looks like it by chance. It proves nothing then, but what follows may.
 */
static BT_INLINE int bt_is_ed2k(bt_u32 first, bt_u32 second)
{
	return first > BT_MSE_FIRST && first <= BT_MSE_FIRST + 17 && second > BT_MSE_FIRST + 6 && second <= BT_MSE_FIRST + 22;
}

static BT_INLINE int bt_mse_is_open(const struct bt_flow *f)
{
	return f->mse == BT_MSE_OPEN || f->mse == BT_MSE_ED2K;
}

static BT_INLINE enum bt_mse_fit bt_mse_grammar(struct bt_scratch *s)
{
	struct bt_flow *f = &s->flow, *m = &s->mirror;
	bt_u32 len = s->head.wire_len > 0xffff ? 0xffff : s->head.wire_len, mine = f->turn_len;
	bt_u8 was = f->turn, other = m->turn;
	int fits = 1, greets = 0;

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
			f->mse = BT_MSE_ED2K;
		} else if (was == 1 && bt_is_mse_first(mine) && bt_is_mse_first(m->turn_len)) {
			f->mse = BT_MSE_KEYS;
			s->mse_first = (bt_u16)mine;
		}
		fits = f->mse != BT_MSE_NONE && f->turn_len <= BT_MSE_ANSWER_MAX;
	} else if (f->turn == 5 && was == 3) {
		fits = mine >= BT_MSE_ANSWER;
		greets = len == BT_MSE_PEER;
		if (greets || mine == BT_MSE_ANSWER + BT_MSE_PEER)
			f->flags |= BT_F_FITTING | BT_F_GREETED;
	}
	if (!fits) {
		int broken = f->mse != BT_MSE_ED2K;

		f->mse = BT_MSE_OVER;
		return broken ? BT_FIT_BROKEN : BT_FIT_ED2K;
	}
	if (greets && f->mse == BT_MSE_OPEN)
		return BT_FIT_OPENING;
	if (f->turn != 3 || f->turn_len < BT_MSE_ANSWER)
		return BT_FIT_NOTHING;
	/* Transmission may send the last byte of its padding with it */
	if (len == BT_MSE_ANSWER + BT_MSE_PEER && f->turn_len <= len + 1)
		f->flags |= BT_F_FITTING | BT_F_GREETED;
	if (f->mse == BT_MSE_ED2K)
		return BT_FIT_ED2K;
	f->mse = BT_MSE_OPEN;
	return BT_FIT_OPENING;
}

/*
 * What makes an MSE-shaped opening suspect: its client gave itself away, and has no random-looking
 * streams with other turns. MSE has no others, but a protocol of messages without any visible form
 * fits by chance every so often. Whoever talks to many hosts may do so by such a protocol, and ports
 * that everyone needs take more than a shape.
 */
static BT_INLINE int bt_mse_suspect(struct bt_ctx *c, struct bt_scratch *s, const struct bt_client *client, bt_u64 now)
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

static BT_INLINE int bt_mse_again(struct bt_scratch *s, struct bt_client *k, bt_u32 peer, bt_u64 now)
{
	struct bt_mse_end *end = &k->mse_ends[peer >> 29];
	bt_u32 now_s = (bt_u32)(now / BT_NSEC_PER_SEC), again = end->seen & 3;
	int recent = ((now_s - (end->seen >> 2)) & 0x3fffffff) < BT_MSE_AGAIN_S;

	if (end->peer == peer || !recent || !again) { /* or the place is taken by one that was asked again */
		again = end->peer == peer && recent ? again + (again < BT_MSE_SAME) : 0;
		end->peer = peer;
		end->seen = now_s << 2 | again;
	} else {
		again = 0;
	}
	again = bt_forget(&s->again, again);
	return again == BT_MSE_SAME;
}

static BT_INLINE int bt_mse_same(struct bt_scratch *s, struct bt_client *k)
{
	bt_u32 same = s->mse_first == k->mse_first && s->mse_first != BT_MSE_FIRST ? k->mse_same + 1u : 0;

	same = bt_forget(&s->same, same);
	k->mse_first = s->mse_first;
	k->mse_same = (bt_u16)(same > BT_MSE_SAME ? (bt_u32)BT_MSE_SAME : same);
	return same >= BT_MSE_SAME;
}

/*
 * And what proves it: its peer handshake had the length and place of one, or the client dialled two hosts in that way. A
 * program that has a server beside a torrent does neither. Behind a proxy there is one host only.
 */
static BT_INLINE int bt_mse_proves(const struct bt_scratch *s)
{
	return (s->flow.flags | s->mirror.flags) & (BT_F_GREETED | BT_F_SECOND | BT_F_PROXY);
}

static BT_INLINE int bt_mse_recent(bt_u32 when_s, bt_u64 now)
{
	return when_s && (bt_u32)(now / BT_NSEC_PER_SEC) - when_s <= (bt_u32)(BT_CLIENT_TTL_NS / BT_NSEC_PER_SEC);
}

/* Whom it dials is its own choice. */
static BT_INLINE int bt_mse_dials(struct bt_ctx *c, struct bt_scratch *s, struct bt_client *k, bt_u64 now)
{
	const struct bt_tuple *t = &s->pkt.tuple;
	bt_u32 host = bt_peer_hash(&t->dst, 0), now_s = (bt_u32)(now / BT_NSEC_PER_SEC);

	if (k->mse_end != host && bt_mse_recent(k->mse_end_s, now)) {
		if (!bt_mse_recent(k->mse_turned_s, now))
			bt_epoch_advance(c); /* connections that were looked at for long enough are judged once more */
		k->mse_turned_s = now_s;
	}
	k->mse_end = host;
	k->mse_end_s = now_s;
	return bt_mse_again(s, k, bt_peer_hash(&t->dst, t->dport), now);
}

static BT_INLINE int bt_mse_turn(struct bt_ctx *c, struct bt_scratch *s)
{
	const struct bt_tuple *t = &s->pkt.tuple;
	const struct bt_addr *inside;
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
	if (fit == BT_FIT_ED2K)
		return 0; /* nor does it say anything about its client's others */
	inside = side == BT_SIDE_SRC ? &t->src : &t->dst;
	client = bt_client_find(c, inside);
	known = client != 0;
	if (!known)
		client = bt_new_client(c, now);
	if (!client)
		return 0;
	if (fit == BT_FIT_BROKEN || (s->mse_first && bt_mse_same(s, client)) ||
	    (s->mse_first && side == BT_SIDE_SRC && bt_mse_dials(c, s, client, now)))
		client->random_until_ns = now + BT_CLIENT_TTL_NS;
	if (!known)
		bt_client_store(c, inside, client);
	if (bt_mse_recent(client->mse_turned_s, now))
		s->flow.flags |= BT_F_SECOND;
	return fit == BT_FIT_OPENING && bt_mse_suspect(c, s, client, now) && bt_mse_proves(s);
}
BT_STAGE(mse_turn)

/*
 * RC4 hides what the messages say, not how long they are (BEP 3): a request is 17 bytes, "have" 9, a
 * piece message of one block 13 + 16384. Three signs, either side may show any:
 *
 * - A write ends, by its PSH, after a whole number of piece messages. Few ends are tried.
 * - Between two requests as many whole blocks came as the first of them asked for. Few are tried.
 *   Either may happen to anybody's download, once in some thousand. So, unless its client is suspect, it takes one more
 *   length that fits, of either side: a segment that is too short for a frame with a length and a tag ("unchoke",
 *   "interested" are 5 bytes), or the dialler's handshake, alone in the fifth turn (68 bytes) or with the third (56 + 68,
 *   without padding).
 * - Segments of nothing but requests, each with a few "have", of several lengths, one of them bare,
 *   which is too short for a frame of authenticated encryption; and whenever one leaves, its side has
 *   got no more blocks than it had asked for, and at least two in five of them. This needs neither
 *   ends of writes nor a path without a relay. Two bare ones suffice in connections to two hosts,
 *   after the dialler's handshake at its place, or of a suspect client.
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
 * since, as many as it had sent requests for, and a few "have". If only the head of one has come, its block is still to
 * come.
 */
static BT_INLINE int bt_mse_got(const struct bt_pkt *p, struct bt_flow *f)
{
	bt_u32 got = f->got_ack ? p->ack - f->got_ack : 0, blocks = got / BT_PIECE_LEN, asked = f->asked, rest;

	if (f->got_ack && (!got || got == BT_PIECE_HEAD)) {
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

/* "interested" and the like, "have", a request: too short for frames with a length and a tag (BEP 3). */
static BT_INLINE int bt_is_short_message(bt_u32 len)
{
	return len == 5 || len == BT_HAVE_LEN || len == BT_REQUEST_LEN;
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
	int fresh, suspect, asks, whole, flags;

	if (side == BT_SIDE_NONE)
		return 0;
	client = bt_client_find(c, side == BT_SIDE_SRC ? &t->src : &t->dst);
	fresh = f->seen < BT_MSE_LOOK && !((f->flags & BT_F_ORDERED) && (int)(p->seq - f->next_seq) < 0);
	if (fresh && p->payload_len < BT_MSE_SHORT)
		f->flags |= BT_F_FITTING;
	suspect = f->mse == BT_MSE_OPEN && bt_mse_suspect(c, s, client, now);
	if (suspect && bt_mse_recent(client->mse_turned_s, now))
		f->flags |= BT_F_SECOND;
	if (suspect && bt_mse_proves(s))
		return 1;
	/* a message, not the end of another one: it begins a turn */
	if (suspect && fresh && bt_is_short_message(p->payload_len) && s->mirror.turn > f->turn)
		return 1;
	if (!fresh)
		return 0;
	whole = bt_mse_write(p, f) | bt_mse_got(p, f);
	flags = f->flags | s->mirror.flags;
	if (whole && (suspect || flags & BT_F_FITTING))
		return 1;
	asks = bt_run_mse_asks(c, s);
	if (asks == BT_ASKS_BEGIN && (suspect || flags & BT_F_GREETED))
		return 1;
	if (asks == BT_ASKS_BEGIN && client)
		return bt_ask_elsewhere(client, side == BT_SIDE_SRC ? &t->dst : &t->src, now);
	return asks == BT_ASKS_ROW;
}
BT_STAGE(mse_open)

#endif
