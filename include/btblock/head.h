/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * head: the first BT_HEAD_LEN payload bytes of a packet plus its true payload length.
 * Bytes beyond `len` are zero. All that the fast detectors ever look at.
 *
 * The includer provides, for its own struct bt_ctx (a packet under inspection):
 *   int bt_load(struct bt_ctx *c, bt_u32 offset, void *to, bt_u32 length)   0, or negative when out of range
 *   bt_u32 bt_total(const struct bt_ctx *c)                                 bytes in the packet
 */
#ifndef BTBLOCK_HEAD_H
#define BTBLOCK_HEAD_H

#include "btblock/wire.h"

struct bt_head {
	bt_u32 len;      /* valid bytes of b, at most BT_HEAD_LEN */
	bt_u32 wire_len; /* payload bytes of the packet */
	bt_u8 b[BT_HEAD_LEN] __attribute__((aligned(8)));
};

#ifdef BT_HAVE_CTX
/* Loads the head of the payload at offset; 0, or negative when the packet is shorter than it says. */
static BT_INLINE int bt_load_head(struct bt_ctx *c, bt_u32 offset, bt_u32 payload_len, struct bt_head *h)
{
	bt_u32 n = payload_len < BT_HEAD_LEN ? payload_len : (bt_u32)BT_HEAD_LEN;

	__builtin_memset(h, 0, sizeof(*h));
	h->wire_len = payload_len;
	h->len = n;
	if (n == BT_HEAD_LEN)
		return bt_load(c, offset, h->b, BT_HEAD_LEN);
	/* Linux 6.1 does not learn n >= 1 from n != 0; n - 1 < limit it does. */
	n -= 1;
#ifdef __bpf__
	asm volatile("" : "+r"(n));
#endif
	if (n >= BT_HEAD_LEN)
		return -1;
	return bt_load(c, offset, h->b, n + 1);
}
#endif

#endif
