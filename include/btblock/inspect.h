/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The packet path: what is done with one parsed packet, in order. The kernel runs this on BPF
 * maps, `btblock analyze` and the tests run the very same code on tables in memory.
 *
 *   settled half-flows -> bans -> SYNs -> half-flow verdict -> condemned sockets -> budget -> detectors
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
 *                                                   was banned or condemned, a client became active, or an
 *                                                   active one dialled a second encrypted peer. Never 0
 *   int bt_flow_rate_ok(c)                          flood guard: may a new half-flow be made now
 *   void bt_emit(c, pkt, kind, evidence mask, action, client_is)
 * and may define BT_STAGE, see packet_state.h.
 * All tables forget on their own; every expiry is checked here, at use.
 */
#ifndef BTBLOCK_INSPECT_H
#define BTBLOCK_INSPECT_H

#include "btblock/fanout.h"
#include "btblock/tcp.h"
#include "btblock/udp.h"

/* The tuple is used again: what was known about its last connection is not about this one, nor where it came in. */
static BT_INLINE void bt_renew_flow(struct bt_ctx *c, struct bt_flow *f)
{
	if (f) {
		bt_u32 owner = bt_owner(c) & 1 ? f->owner : bt_owner(c);

		__builtin_memset(f, 0, sizeof(*f));
		f->owner = owner;
	}
}

/* What egress judged, since nothing guarded brought it in, ingress judges from now on, where it comes by. */
static BT_INLINE void bt_take_over(struct bt_ctx *c, struct bt_flow *f)
{
	if (!f->owner || (f->owner & 1 && !(bt_owner(c) & 1)))
		f->owner = bt_owner(c);
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

/* A SYN: connection attempts to learned peers, and new life for a reused tuple. */
static BT_INLINE enum bt_action bt_inspect_syn(struct bt_ctx *c, struct bt_scratch *s)
{
	const struct bt_config *cfg = bt_settings(c);
	const struct bt_pkt *p = &s->pkt;
	const struct bt_tuple *t = &p->tuple;
	struct bt_flow *found;
	bt_u64 now;
	bt_u8 code;

	if (!cfg)
		return BT_ACT_PASS;
	now = bt_now(c);
	found = bt_flow_find(c, t);
	bt_renew_flow(c, found);
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
BT_STAGE(inspect_syn)

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
			bt_u32 owner = s->flow.owner;

			s->flow.owner = 0; /* whichever hook sees it */
			bt_flow_store(c, &s->mirror_tuple, &s->flow);
			s->flow.owner = owner;
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

/* Its packets pass here, and only a ban or a condemned socket can change that. */
static BT_INLINE int bt_flow_is_settled(struct bt_ctx *c, const struct bt_flow *f)
{
	if (f->verdict == BT_V_CLEAN || f->verdict == BT_V_ALLOWED)
		return 1;
	if (f->verdict == BT_V_BLOCKED)
		return 0;
	/* Judged where it was first seen, or looked at for long enough. */
	return f->owner != bt_owner(c) || (f->seen >= BT_PUNT_BUDGET && f->verdict != BT_V_HTTP && !f->matched &&
					   (!bt_mse_is_open(f) || f->seen >= BT_MSE_LOOK));
}

static BT_INLINE enum bt_action bt_pass_settled(struct bt_flow *f, bt_u16 epoch)
{
	if (f->epoch != epoch)
		f->epoch = epoch;
	return BT_ACT_PASS;
}

/*
 * A packet without payload, that no ban stops. Bare TCP segments keep their half-flow's look-ups fresh, but while it is
 * open its seconds are counted by payload, and UDP's idle time always.
 */
static BT_INLINE enum bt_action bt_pass_bare(struct bt_flow *f, const struct bt_tuple *t, bt_u16 epoch, bt_u64 now)
{
	if (!f || t->proto != BT_IPPROTO_TCP || (f->verdict == BT_V_UNKNOWN && f->seen))
		return BT_ACT_PASS;
	if (bt_since(f->last_seen_ns, now) > BT_NSEC_PER_SEC)
		f->last_seen_ns = now;
	return bt_pass_settled(f, epoch);
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
	f->epoch = s->epoch;
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
	int known; /* nothing was banned or condemned since this half-flow's last packet */
	int condemned;

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
	s->epoch = epoch;
	if (found)
		bt_take_over(c, found);
	known = found && found->epoch == epoch && bt_since(found->last_seen_ns, now) <= BT_NSEC_PER_SEC &&
		!(p->tcp_flags & BT_TCP_SYN);
	if (known) { /* most packets end here */
		if (!p->payload_len)
			return BT_ACT_PASS;
		if (found->verdict == BT_V_BLOCKED)
			return bt_dropped(c, cfg, BT_S_DROP_FLOW);
		if (bt_flow_is_settled(c, found))
			return BT_ACT_PASS;
	} else if (bt_run_banned(c, s)) {
		return bt_dropped(c, cfg, BT_S_DROP_BAN);
	}
	if (parsed != BT_PARSED) {
		bt_count(c, parsed == BT_PARSED_FRAGMENT ? BT_S_FRAGMENTS : BT_S_PARSE_SKIPPED);
		return BT_ACT_PASS;
	}
	if (p->tcp_flags & BT_TCP_SYN) {
		if (bt_run_inspect_syn(c, s) != BT_ACT_PASS)
			return BT_ACT_DROP;
		if (!p->payload_len)
			return BT_ACT_PASS;
	}
	if (!p->payload_len)
		return bt_pass_bare(found, &p->tuple, epoch, now);

	if (found && p->tuple.proto == BT_IPPROTO_UDP && bt_since(found->last_seen_ns, now) > BT_UDP_IDLE_NS) {
		__builtin_memset(found, 0, sizeof(*found));
		found->owner = bt_owner(c);
	}
	if (found) {
		/* written once a second, not for every packet: other CPUs read this line */
		if (bt_since(found->last_seen_ns, now) > BT_NSEC_PER_SEC) {
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
	condemned = p->tuple.proto == BT_IPPROTO_UDP && !known && bt_run_socket_applies(c, s);
	if (condemned && bt_is_of_others(c, s)) {
		s->epoch = 0; /* the next datagram may be the socket's own */
		condemned = 0;
	}
	if (condemned) {
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
			if (!bt_mse_is_open(found) || found->epoch == epoch)
				return bt_pass_settled(found, s->epoch);
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
