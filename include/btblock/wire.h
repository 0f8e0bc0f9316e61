/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Wire constants and byte-order helpers. Our own, so that neither kernel BTF nor libc headers
 * are needed; every value read from a packet goes through bt_be16/32/64 on bytes.
 */
#ifndef BTBLOCK_WIRE_H
#define BTBLOCK_WIRE_H

#include "btblock/abi.h"

#define BT_INLINE inline __attribute__((always_inline))

enum {
	BT_ETH_LEN = 14,
	BT_ETHERTYPE_IPV4 = 0x0800,
	BT_ETHERTYPE_IPV6 = 0x86dd,
	BT_ETHERTYPE_VLAN = 0x8100, /* 802.1Q */
	BT_ETHERTYPE_QINQ = 0x88a8, /* 802.1ad */
	BT_VLAN_DEPTH = 2,
	BT_IPV6_EXT_DEPTH = 6,
};

enum {
	BT_IPPROTO_HOPOPTS = 0,
	BT_IPPROTO_TCP = 6,
	BT_IPPROTO_UDP = 17,
	BT_IPPROTO_ROUTING = 43,
	BT_IPPROTO_FRAGMENT = 44,
	BT_IPPROTO_AH = 51,
	BT_IPPROTO_DSTOPTS = 60,
};

enum { BT_TCP_FIN = 0x01, BT_TCP_SYN = 0x02, BT_TCP_RST = 0x04, BT_TCP_PSH = 0x08, BT_TCP_ACK = 0x10 };

/*
 * A value by way of memory. In the kernel the verifier then forgets what it knew of it, so paths
 * that differ only in that knowledge become one; in user space it is an ordinary copy.
 */
static BT_INLINE bt_u32 bt_forget(bt_u32 *memory, bt_u32 value)
{
#ifdef __bpf__
	*(volatile bt_u32 *)memory = value;
	return *(volatile bt_u32 *)memory;
#else
	return *memory = value;
#endif
}

/* Results so far are in memory, and are read from there again. */
#ifdef __bpf__
#define BT_BARRIER() asm volatile("" ::: "memory")
#else
#define BT_BARRIER() ((void)0)
#endif

static BT_INLINE bt_u16 bt_be16(const bt_u8 *b)
{
	return (bt_u16)((bt_u16)(b[0] << 8) | b[1]);
}

static BT_INLINE bt_u32 bt_be32(const bt_u8 *b)
{
	return (bt_u32)b[0] << 24 | (bt_u32)b[1] << 16 | (bt_u32)b[2] << 8 | b[3];
}

static BT_INLINE bt_u64 bt_be64(const bt_u8 *b)
{
	return (bt_u64)bt_be32(b) << 32 | bt_be32(b + 4);
}

static BT_INLINE int bt_addr_equal(const struct bt_addr *a, const struct bt_addr *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] && a->w[3] == b->w[3];
}

/* Third word of an IPv4 address in memory: bytes 0, 0, 0xff, 0xff. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BT_MAPPED_V4 0xffff0000u
#else
#define BT_MAPPED_V4 0x0000ffffu
#endif

static BT_INLINE int bt_addr_is_v4(const struct bt_addr *a)
{
	return !a->w[0] && !a->w[1] && a->w[2] == BT_MAPPED_V4;
}

/* The same connection seen from the other side. */
static BT_INLINE void bt_mirror(const struct bt_tuple *t, struct bt_tuple *m)
{
	m->src = t->dst;
	m->dst = t->src;
	m->sport = t->dport;
	m->dport = t->sport;
	m->proto = t->proto;
	m->pad[0] = m->pad[1] = m->pad[2] = 0;
}

#endif
