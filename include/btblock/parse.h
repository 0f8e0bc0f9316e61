/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * From a packet to its tuple and payload: Ethernet, up to two VLAN tags, IPv4 with options,
 * IPv6 with extension headers, fragments, TCP, UDP. Nothing is written, nothing is pulled.
 *
 * Lengths: what the IP header says, but never more than the bytes that are there (a short frame
 * carries Ethernet padding; an aggregate of GRO or BIG TCP may say 0).
 */
#ifndef BTBLOCK_PARSE_H
#define BTBLOCK_PARSE_H

#include "btblock/head.h"

enum bt_parsed {
	BT_PARSED,          /* tuple, ports and payload are valid */
	BT_PARSED_FRAGMENT, /* a later fragment: only the addresses are valid */
	BT_PARSED_OTHER,    /* IP, but neither TCP nor UDP: only the addresses are valid */
	BT_PARSED_NONE,     /* not IP, or cut short */
};

struct bt_pkt {
	struct bt_tuple tuple;
	bt_u32 payload_off; /* from the start of the packet */
	bt_u32 payload_len;
	bt_u32 seq, ack; /* TCP */
	bt_u8 tcp_flags;
	bt_u8 pad[3];
};

static BT_INLINE enum bt_parsed bt_parse_l4(struct bt_ctx *c, bt_u32 off, bt_u32 end, bt_u8 proto, struct bt_pkt *p)
{
	bt_u8 h[20];
	bt_u32 hlen;

	p->tuple.proto = proto;
	if (proto == BT_IPPROTO_UDP) {
		if (bt_load(c, off, h, 8))
			return BT_PARSED_NONE;
		hlen = bt_be16(h + 4);
		if (hlen >= 8 && off + hlen < end)
			end = off + hlen;
		hlen = 8;
	} else if (proto == BT_IPPROTO_TCP) {
		if (bt_load(c, off, h, 20))
			return BT_PARSED_NONE;
		hlen = (bt_u32)(h[12] >> 4) * 4;
		if (hlen < 20)
			return BT_PARSED_NONE;
		p->seq = bt_be32(h + 4);
		p->ack = bt_be32(h + 8);
		p->tcp_flags = h[13];
	} else {
		return BT_PARSED_OTHER;
	}
	p->tuple.sport = bt_be16(h);
	p->tuple.dport = bt_be16(h + 2);
	p->payload_off = off + hlen;
	p->payload_len = p->payload_off < end ? end - p->payload_off : 0;
	return BT_PARSED;
}

static BT_INLINE void bt_map_v4(struct bt_addr *a, const bt_u8 *four)
{
	a->w[0] = a->w[1] = a->w[2] = 0;
	a->b[10] = a->b[11] = 0xff;
	a->b[12] = four[0];
	a->b[13] = four[1];
	a->b[14] = four[2];
	a->b[15] = four[3];
}

/* Where the transport header is, once the network header has been read. */
struct bt_l4 {
	bt_u32 off, end;
	bt_u32 proto;
};

static BT_INLINE enum bt_parsed bt_parse_v4(struct bt_ctx *c, bt_u32 off, struct bt_pkt *p, struct bt_l4 *l4)
{
	bt_u8 h[20];
	bt_u32 total = bt_total(c), hlen, len;

	if (bt_load(c, off, h, 20) || h[0] >> 4 != 4)
		return BT_PARSED_NONE;
	hlen = (bt_u32)(h[0] & 15) * 4;
	if (hlen < 20)
		return BT_PARSED_NONE;
	bt_map_v4(&p->tuple.src, h + 12);
	bt_map_v4(&p->tuple.dst, h + 16);
	if (bt_be16(h + 6) & 0x1fff)
		return BT_PARSED_FRAGMENT;
	len = bt_be16(h + 2);
	l4->off = off + hlen;
	l4->end = len && off + len < total ? off + len : total;
	l4->proto = h[9];
	return BT_PARSED;
}

static BT_INLINE enum bt_parsed bt_parse_v6(struct bt_ctx *c, bt_u32 off, struct bt_pkt *p, struct bt_l4 *l4)
{
	bt_u8 h[40];
	bt_u32 total = bt_total(c), len, next;
	int i;

	if (bt_load(c, off, h, 40) || h[0] >> 4 != 6)
		return BT_PARSED_NONE;
	__builtin_memcpy(p->tuple.src.b, h + 8, 16);
	__builtin_memcpy(p->tuple.dst.b, h + 24, 16);
	len = bt_be16(h + 4);
	l4->end = len && off + 40 + len < total ? off + 40 + len : total;
	next = h[6];
	off += 40;
	for (i = 0; i < BT_IPV6_EXT_DEPTH; i++) {
		bt_u8 e[8];

		if (next != BT_IPPROTO_HOPOPTS && next != BT_IPPROTO_ROUTING && next != BT_IPPROTO_DSTOPTS &&
		    next != BT_IPPROTO_FRAGMENT && next != BT_IPPROTO_AH)
			break;
		if (bt_load(c, off, e, 8))
			return BT_PARSED_NONE;
		if (next == BT_IPPROTO_FRAGMENT) {
			if (bt_be16(e + 2) & 0xfff8)
				return BT_PARSED_FRAGMENT;
			off += 8;
		} else if (next == BT_IPPROTO_AH) {
			off += ((bt_u32)e[1] + 2) * 4;
		} else {
			off += ((bt_u32)e[1] + 1) * 8;
		}
		next = e[0];
		off = bt_forget(&p->payload_off, off);
	}
	l4->off = off;
	l4->proto = next;
	return BT_PARSED;
}

/* link_len: 14 for Ethernet, 0 where the packet starts at its IP header. */
static BT_INLINE enum bt_parsed bt_parse(struct bt_ctx *c, bt_u32 link_len, struct bt_pkt *p)
{
	enum bt_parsed result = BT_PARSED_NONE;
	struct bt_l4 l4 = { 0, 0, 0 };
	bt_u32 off = link_len;
	bt_u16 type = 0;
	bt_u8 b[4];
	int i;

	__builtin_memset(p, 0, sizeof(*p));
	if (link_len) {
		if (bt_load(c, link_len - 2, b, 2))
			return BT_PARSED_NONE;
		type = bt_be16(b);
		for (i = 0; i < BT_VLAN_DEPTH; i++) {
			if (type != BT_ETHERTYPE_VLAN && type != BT_ETHERTYPE_QINQ)
				break;
			if (bt_load(c, off, b, 4))
				return BT_PARSED_NONE;
			type = bt_be16(b + 2);
			off += 4;
		}
	} else {
		if (bt_load(c, 0, b, 1))
			return BT_PARSED_NONE;
		type = b[0] >> 4 == 4 ? BT_ETHERTYPE_IPV4 : b[0] >> 4 == 6 ? BT_ETHERTYPE_IPV6 : 0;
	}
	off = bt_forget(&p->payload_off, off);
	if (type == BT_ETHERTYPE_IPV4)
		result = bt_parse_v4(c, off, p, &l4);
	else if (type == BT_ETHERTYPE_IPV6)
		result = bt_parse_v6(c, off, p, &l4);
	if (result != BT_PARSED)
		return result;
	l4.off = bt_forget(&p->payload_off, l4.off);
	l4.end = bt_forget(&p->payload_len, l4.end);
	l4.proto = bt_forget(&p->seq, l4.proto);
	return bt_parse_l4(c, l4.off, l4.end, (bt_u8)l4.proto, p);
}

#endif
