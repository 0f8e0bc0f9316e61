/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What is known of addresses: bans, exempt ports, condemned sockets, learned peers, clients that gave themselves away.
 * Units and byte order are those of abi.h.
 */
#ifndef BTBLOCK_KNOWN_H
#define BTBLOCK_KNOWN_H

#include "btblock/packet_state.h"

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

static BT_INLINE int bt_client_is_active(struct bt_ctx *c, const struct bt_addr *client, bt_u64 now)
{
	const struct bt_client *known = bt_client_find(c, client);

	return known && known->active_until_ns > now;
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

#endif
