/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * bt_parse for the headers that nearly every packet has, read where they are instead of copied:
 * no VLAN tag, IPv4 without options or IPv6 without extension headers, no fragment, TCP or UDP.
 * Says what include/btblock/parse.h would say, or nothing.
 */
#ifndef BTBLOCK_PLAIN_H
#define BTBLOCK_PLAIN_H

#include <bpf/bpf_endian.h>

#include "env.h"

/* Whole words: what is written byte by byte and then read as words has to wait for the store. */
static BT_INLINE __u16 bt_read16(const __u8 *at)
{
	return bpf_ntohs(*(const __u16 *)at);
}

static BT_INLINE __u32 bt_read32(const __u8 *at)
{
	return bpf_ntohl(*(const __u32 *)at);
}

static BT_INLINE void bt_read_v4(struct bt_addr *a, const __u8 *at)
{
	a->w[0] = a->w[1] = 0;
	a->w[2] = BT_MAPPED_V4;
	a->w[3] = *(const __u32 *)at;
}

static BT_INLINE void bt_read_v6(struct bt_addr *a, const __u8 *at)
{
	const __u32 *w = (const __u32 *)at;

	a->w[0] = w[0];
	a->w[1] = w[1];
	a->w[2] = w[2];
	a->w[3] = w[3];
}

/* What is plain about a packet: where its transport header is, and where the datagram ends by its IP header. */
struct bt_plain {
	__u32 off, end;
};

/* 0 with *t and *where filled, or negative: not plain, or not in reach. */
static BT_INLINE int bt_plain_tuple(const __u8 *data, const __u8 *data_end, __u32 link_len, struct bt_tuple *t,
				    struct bt_plain *where)
{
	const __u8 *ip = data + link_len, *l4;
	__u32 type, len, need;

	if (ip + 20 > data_end)
		return -1;
	type = link_len ? bt_read16(data + link_len - 2) : ip[0] >> 4 == 4 ? BT_ETHERTYPE_IPV4 : BT_ETHERTYPE_IPV6;
	if (type == BT_ETHERTYPE_IPV4) {
		if (ip[0] != 0x45 || (bt_read16(ip + 6) & 0x3fff))
			return -1;
		bt_read_v4(&t->src, ip + 12);
		bt_read_v4(&t->dst, ip + 16);
		t->proto = ip[9];
		where->off = link_len + 20;
		len = bt_read16(ip + 2);
		where->end = len ? link_len + len : 0;
	} else if (type == BT_ETHERTYPE_IPV6) {
		if (ip + 40 > data_end || ip[0] >> 4 != 6)
			return -1;
		bt_read_v6(&t->src, ip + 8);
		bt_read_v6(&t->dst, ip + 24);
		t->proto = ip[6];
		where->off = link_len + 40;
		len = bt_read16(ip + 4);
		where->end = len ? where->off + len : 0;
	} else {
		return -1;
	}
	if (t->proto != BT_IPPROTO_UDP && t->proto != BT_IPPROTO_TCP)
		return -1;
	need = t->proto == BT_IPPROTO_UDP ? 8 : 20;
	l4 = data + where->off;
	if (l4 + need > data_end)
		return -1;
	t->sport = bt_read16(l4);
	t->dport = bt_read16(l4 + 2);
	t->pad[0] = t->pad[1] = t->pad[2] = 0;
	return 0;
}

/* 0 with *p filled, or negative. */
static BT_INLINE int bt_parse_plain(const __u8 *data, const __u8 *data_end, __u32 total, __u32 link_len, struct bt_pkt *p)
{
	struct bt_plain where;
	const __u8 *l4;
	__u32 len;

	if (bt_plain_tuple(data, data_end, link_len, &p->tuple, &where))
		return -1;
	if (!where.end || where.end > total)
		where.end = total;
	l4 = data + where.off;
	p->seq = p->ack = 0;
	p->tcp_flags = 0;
	if (p->tuple.proto == BT_IPPROTO_UDP) {
		if (l4 + 8 > data_end)
			return -1;
		len = bt_read16(l4 + 4);
		if (len >= 8 && where.off + len < where.end)
			where.end = where.off + len;
		where.off += 8;
	} else {
		if (l4 + 20 > data_end || l4[12] >> 4 < 5)
			return -1;
		where.off += (__u32)(l4[12] >> 4) * 4;
		p->seq = bt_read32(l4 + 4);
		p->ack = bt_read32(l4 + 8);
		p->tcp_flags = l4[13];
	}
	p->payload_off = where.off;
	p->payload_len = where.off < where.end ? where.end - where.off : 0;
	p->pad[0] = p->pad[1] = p->pad[2] = 0;
	return 0;
}

#endif
