/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Fast detectors: pure functions from a head to an answer. No state, no maps, constant trip
 * counts. Sources are the BEPs named at each one; what may be concluded is in docs/detection.md.
 */
#ifndef BTBLOCK_DETECT_H
#define BTBLOCK_DETECT_H

#include "btblock/head.h"

/* Eight or four characters as the number bt_be64/bt_be32 reads. */
#define BT_TXT4(a, b, c, d) ((bt_u32)(bt_u8)(a) << 24 | (bt_u32)(bt_u8)(b) << 16 | (bt_u32)(bt_u8)(c) << 8 | (bt_u8)(d))
#define BT_TXT8(a, b, c, d, e, f, g, h) ((bt_u64)BT_TXT4(a, b, c, d) << 32 | BT_TXT4(e, f, g, h))

static BT_INLINE int bt_is_digit(bt_u8 c)
{
	return c >= '0' && c <= '9';
}

/* ------------------------------------------------------------------ peer handshake (BEP 3) */

enum { BT_HANDSHAKE_LEN = 20 };

/* The whole of 13 "BitTorrent protocol" at the start of the head. */
static BT_INLINE int bt_is_handshake(const struct bt_head *h)
{
	return h->len >= BT_HANDSHAKE_LEN && bt_be64(h->b) == BT_TXT8(19, 'B', 'i', 't', 'T', 'o', 'r', 'r') &&
	       bt_be64(h->b + 8) == BT_TXT8('e', 'n', 't', ' ', 'p', 'r', 'o', 't') &&
	       bt_be32(h->b + 16) == BT_TXT4('o', 'c', 'o', 'l');
}

/*
 * Bytes of the handshake's fixed start matched after this packet, which continues at `matched`;
 * 0 when it differs.
 */
static BT_INLINE bt_u8 bt_match_handshake(const struct bt_head *h, bt_u8 matched)
{
	static const bt_u8 text[64] = "\x13"
				      "BitTorrent protocol";
	bt_u32 i, at;

	for (i = 0; i < BT_HANDSHAKE_LEN; i++) {
		at = (i + matched) & 63;
#ifdef __bpf__
		asm volatile("%0 &= 63" : "+r"(at)); /* or the bound is optimised away before the verifier sees it */
#endif
		if (i >= h->len || at >= BT_HANDSHAKE_LEN)
			break;
		if (h->b[i] != text[at])
			return 0;
	}
	return (bt_u8)(matched + i);
}

/* ------------------------------------------------------------------ who really sent it (RFC 9293) */

enum { BT_ANSWER_BEHIND = 1 << 17, BT_ANSWER_AHEAD = 1 << 24 };

/*
 * A segment that acknowledges what the other half-flow, `sent`, sends: its sender gets that, so its address is its own.
 * What comes to a host that never answered can come from anywhere. When `sent` has been looked at for long enough its
 * sequence numbers are no longer followed.
 */
static BT_INLINE int bt_is_answer(const struct bt_flow *sent, bt_u32 ack)
{
	bt_u32 behind = sent->next_seq - ack;

	if (!(sent->flags & BT_F_ORDERED))
		return 0;
	if (!sent->seen)
		return !behind;
	return behind <= BT_ANSWER_BEHIND || (sent->seen >= BT_PUNT_BUDGET && 0 - behind <= BT_ANSWER_AHEAD);
}

/* ------------------------------------------------------------------ DHT (BEP 5, 32, 42) */

/* A KRPC message by its canonical beginning; BT_EV_NONE when it needs the full bencode check. */
static BT_INLINE bt_u8 bt_detect_dht(const struct bt_head *h)
{
	bt_u64 first = bt_be64(h->b);

	if (h->wire_len < 40)
		/* "d1:eli201e3:...e1:t2:aa1:y1:ee": an error can be short */
		return h->len >= 20 && first >> 16 == BT_TXT8(0, 0, 'd', '1', ':', 'e', 'l', 'i') && bt_is_digit(h->b[6]) &&
				       bt_is_digit(h->b[7]) && bt_is_digit(h->b[8]) && h->b[9] == 'e' && bt_is_digit(h->b[10])
			       ? BT_EV_DHT_ERROR
			       : BT_EV_NONE;
	if (bt_be32(h->b + 8) == BT_TXT4('d', '2', '0', ':')) {
		if (first == BT_TXT8('d', '1', ':', 'a', 'd', '2', ':', 'i'))
			return BT_EV_DHT_QUERY;
		if (first == BT_TXT8('d', '1', ':', 'r', 'd', '2', ':', 'i'))
			return BT_EV_DHT_RESPONSE;
	}
	if (first >> 16 == BT_TXT8(0, 0, 'd', '1', ':', 'e', 'l', 'i') && bt_is_digit(h->b[6]) && bt_is_digit(h->b[7]) &&
	    bt_is_digit(h->b[8]) && h->b[9] == 'e' && bt_is_digit(h->b[10]))
		return BT_EV_DHT_ERROR;
	/* BEP 42: the requestor's compact endpoint comes first, 6 or 18 bytes */
	if (first >> 8 == BT_TXT8(0, 'd', '2', ':', 'i', 'p', '6', ':') &&
	    bt_be64(h->b + 13) == BT_TXT8('1', ':', 'r', 'd', '2', ':', 'i', 'd'))
		return BT_EV_DHT_RESPONSE;
	if (first == BT_TXT8('d', '2', ':', 'i', 'p', '1', '8', ':') &&
	    bt_be64(h->b + 26) == BT_TXT8('1', ':', 'r', 'd', '2', ':', 'i', 'd'))
		return BT_EV_DHT_RESPONSE;
	return BT_EV_NONE;
}

/* Could be a bencoded dictionary: worth the full check in user space. */
static BT_INLINE int bt_maybe_bencode(const struct bt_head *h)
{
	return h->wire_len >= 12 && h->b[0] == 'd' && bt_is_digit(h->b[1]) &&
	       (h->b[2] == ':' || (bt_is_digit(h->b[2]) && h->b[3] == ':'));
}

/* ------------------------------------------------------------------ UDP tracker (BEP 15, 41) */

/* '-' two letters or digits, four characters, '-': the usual peer id (BEP 20). */
static BT_INLINE int bt_is_azureus_id(const bt_u8 *b)
{
	bt_u8 x = b[1] | 0x20, y = b[2];

	return b[0] == '-' && b[7] == '-' && x >= 'a' && x <= 'z' &&
	       ((y >= '0' && y <= '9') || (y >= 'A' && y <= 'Z') || (y >= 'a' && y <= 'z') || y == '~') && b[3] > ' ' &&
	       b[3] < 127 && b[4] > ' ' && b[4] < 127 && b[5] > ' ' && b[5] < 127 && b[6] > ' ' && b[6] < 127;
}

static BT_INLINE bt_u8 bt_detect_udp_tracker(const struct bt_head *h)
{
	if (h->len >= 16 && bt_be64(h->b) == 0x41727101980ULL && bt_be32(h->b + 8) == 0)
		return BT_EV_TRACKER_UDP_CONNECT;
	/* Without its connect only the full structure counts: action 1, a known peer-id shape, a legal event,
	 * num_want -1 or small, and byte counts below 2^48. */
	if (h->wire_len >= 98 && h->len == BT_HEAD_LEN && bt_be32(h->b + 8) == 1 && bt_is_azureus_id(h->b + 36) &&
	    bt_be32(h->b + 80) <= 3 && (bt_be32(h->b + 92) == 0xffffffffu || bt_be32(h->b + 92) <= 10000) &&
	    bt_be16(h->b + 56) == 0 && bt_be16(h->b + 72) == 0)
		return BT_EV_TRACKER_UDP_ANNOUNCE;
	return BT_EV_NONE;
}

/* ------------------------------------------------------------------ the DHT of Azureus, Vuze and BiglyBT */

/*
 * Its packets are those of UDP trackers with actions of their own (BiglyBT: DHTUDPPacketRequest, DHTUDPPacketReply,
 * DHTTransportUDP). Both kinds have, from byte 16 on, the protocol's version (nodes refuse what is older than 51), the
 * vendor and the network.
 */
enum { BT_AZ_ACTION = 1024, BT_AZ_ACTIONS = 16, BT_AZ_ERROR = 1032, BT_AZ_VERSION = 51, BT_AZ_VERSION_MAX = 63 };

static BT_INLINE int bt_is_azureus_version(bt_u8 version)
{
	return version >= BT_AZ_VERSION && version <= BT_AZ_VERSION_MAX;
}

static BT_INLINE bt_u8 bt_detect_azureus_dht(const struct bt_head *h)
{
	bt_u32 reply = bt_be32(h->b), request = bt_be32(h->b + 8);

	if (h->len < 26 || !bt_is_azureus_version(h->b[16]) || h->b[17] > 1 || bt_be32(h->b + 18) >= 16)
		return BT_EV_NONE;
	/* action, transaction id, the request's connection id, whose top bit is set */
	if (reply - BT_AZ_ACTION < BT_AZ_ACTIONS && h->b[8] & 0x80)
		return reply == BT_AZ_ERROR ? BT_EV_DHT_ERROR : BT_EV_DHT_RESPONSE;
	/* connection id, action, transaction id; then the sender's own version, its address (behind its length) and port,
	 * its instance and its clock: milliseconds since 1970, until the year 2039 */
	if (!(h->b[0] & 0x80) || request - BT_AZ_ACTION >= BT_AZ_ACTIONS || !bt_is_azureus_version(h->b[22]))
		return BT_EV_NONE;
	if ((h->b[23] == 4 && h->len >= 42 && bt_be32(h->b + 34) >> 8 == 1) ||
	    (h->b[23] == 16 && h->len >= 54 && bt_be32(h->b + 46) >> 8 == 1))
		return BT_EV_DHT_QUERY;
	return BT_EV_NONE;
}

/* ------------------------------------------------------------------ LSD (BEP 14, 26) */

static BT_INLINE int bt_is_lsd(const struct bt_tuple *t, const struct bt_head *h)
{
	if (t->proto != BT_IPPROTO_UDP || t->dport != 6771)
		return 0;
	if (bt_be64(h->b) != BT_TXT8('B', 'T', '-', 'S', 'E', 'A', 'R', 'C'))
		return 0;
	/* To 239.192.152.143, ff15::efc0:988f, or straight to a neighbour: the method has no other use. */
	return 1;
}

/* ------------------------------------------------------------------ uTP (BEP 29) */

enum { BT_UTP_DATA, BT_UTP_FIN, BT_UTP_STATE, BT_UTP_RESET, BT_UTP_SYN };

struct bt_utp {
	bt_u32 header_len; /* with extensions */
	bt_u32 diff;
	bt_u32 wnd;
	bt_u16 id, seq, ack;
	bt_u8 type;
	bt_u8 pad;
};

/* The header and its extension chain; 0 when it does not hold together. */
static BT_INLINE int bt_parse_utp(const struct bt_head *h, struct bt_utp *u)
{
	bt_u32 at = 20, i;
	bt_u8 ext;

	if (h->len < 20 || (h->b[0] & 15) != 1 || h->b[0] >> 4 > BT_UTP_SYN)
		return 0;
	u->type = h->b[0] >> 4;
	u->id = bt_be16(h->b + 2);
	u->diff = bt_be32(h->b + 8);
	u->wnd = bt_be32(h->b + 12);
	u->seq = bt_be16(h->b + 16);
	u->ack = bt_be16(h->b + 18);
	ext = h->b[1];
	for (i = 0; i < 3; i++) {
		bt_u8 len;

		if (!ext)
			break;
		if (at + 2 > h->len || at >= BT_HEAD_LEN - 2)
			return 0;
		len = h->b[at + 1];
		ext = h->b[at];
		if (!len)
			return 0;
		at += 2 + (bt_u32)len;
		if (at > h->wire_len)
			return 0;
	}
	if (ext)
		return 0;
	u->header_len = at;
	return 1;
}

/* Five bytes: a peer handshake, or an extended message of less than 16 MiB (BEP 3, 10). */
static BT_INLINE int bt_begins_peer(const bt_u8 *b)
{
	return b[0] == 19 || (!b[0] && b[4] == 20);
}

/* What it carries begins like a peer's handshake or one of its messages: worth a look where no SYN was seen. */
static BT_INLINE int bt_is_utp_peer(const struct bt_head *h, const struct bt_utp *u)
{
	bt_u32 at = u->header_len;

	if (u->type != BT_UTP_DATA || at >= h->len || at > BT_HEAD_LEN - 5)
		return 0;
#ifdef __bpf__
	asm volatile("%0 &= 127" : "+r"(at));
	if (at > BT_HEAD_LEN - 5)
		return 0;
#endif
	return bt_begins_peer(h->b + at);
}

/* Every field of a connection request as the implementations send it: no delay measured yet is 0, or INT_MAX in libutp. */
static BT_INLINE int bt_is_utp_syn(const struct bt_head *h, const struct bt_utp *u)
{
	return u->type == BT_UTP_SYN && h->wire_len == u->header_len && (u->diff == 0 || u->diff == 0x7fffffffu) && u->ack == 0;
}

/* ------------------------------------------------------------------ SOCKS UDP (RFC 1928, section 7) */

/* Offset of the datagram inside, or 0. */
static BT_INLINE bt_u32 bt_socks_udp_offset(const struct bt_head *h)
{
	bt_u32 off = 0;

	if (h->len < 24 || h->b[0] || h->b[1] || h->b[2])
		return 0;
	if (h->b[3] == 1)
		off = 10;
	else if (h->b[3] == 4)
		off = 22;
	else if (h->b[3] == 3)
		off = 7 + (bt_u32)h->b[4];
	return off < h->wire_len ? off : 0;
}

/* ------------------------------------------------------------------ randomness */

/* In each byte the number of its bits that are set. */
static BT_INLINE bt_u64 bt_bits_of_each(bt_u64 v)
{
	v -= v >> 1 & 0x5555555555555555ULL;
	v = (v & 0x3333333333333333ULL) + (v >> 2 & 0x3333333333333333ULL);
	return (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
}

/*
 * Uniformly random bytes by two counts over a full head: bits set (3.4 to 4.6 a byte, Wu et al.,
 * USENIX Security 2023) and bytes with the top bit (text has none, random bytes half; 4.7 sigma).
 * Necessary for an encrypted peer, never sufficient.
 */
static BT_INLINE int bt_looks_random(const struct bt_head *h)
{
	bt_u64 bits = 0, high = 0, v; /* counts in each byte, at most 12 * 8 */
	bt_u32 i;

	if (h->len < BT_HEAD_LEN)
		return 0;
	/* a length in front of what is encrypted: LDAP with SASL, SSH, SMB; RLPx; records of two bytes in either order */
	if (bt_be32(h->b) <= 0xffff || bt_be16(h->b) + 2u == h->wire_len || h->b[0] + 256u * h->b[1] + 2u == h->wire_len)
		return 0;
#ifdef __clang__
#pragma clang loop unroll(full)
#endif
	for (i = 0; i < BT_HEAD_LEN; i += 8) {
		/* one load; the order of the bytes does not matter */
		__builtin_memcpy(&v, __builtin_assume_aligned(h->b + i, 8), 8);
		high += v >> 7 & 0x0101010101010101ULL;
		bits += bt_bits_of_each(v);
	}
	bits = (bits & 0x00ff00ff00ff00ffULL) + (bits >> 8 & 0x00ff00ff00ff00ffULL);
	bits = bits * 0x0001000100010001ULL >> 48;
	high = high * 0x0101010101010101ULL >> 56;
	return bits >= 327 && bits <= 441 && high >= 25 && high <= 71;
}

/* ------------------------------------------------------------------ what is certainly something else */

static BT_INLINE int bt_is_dns(const struct bt_tuple *t, const struct bt_head *h)
{
	bt_u16 flags = bt_be16(h->b + 2), questions = bt_be16(h->b + 4);

	if (t->sport != 53 && t->dport != 53 && t->sport != 5353 && t->dport != 5353 && t->sport != 5355 && t->dport != 5355)
		return 0;
	/* opcode 0..6, the Z bit clear, at most one question but for multicast, few records */
	return h->len >= 17 && (flags >> 11 & 15) <= 6 && !(flags & 0x40) && questions <= 16 && bt_be16(h->b + 6) <= 256 &&
	       bt_be16(h->b + 8) <= 256 && bt_be16(h->b + 10) <= 256 && h->b[12] <= 63;
}

static BT_INLINE int bt_is_ntp(const struct bt_tuple *t, const struct bt_head *h) /* RFC 5905 */
{
	return (t->sport == 123 || t->dport == 123) && h->wire_len >= 48 && (h->b[0] & 7) >= 1 && (h->b[0] >> 3 & 7) <= 4;
}

/* UDP datagrams that settle what their flow is. */
static BT_INLINE int bt_is_other_udp(const struct bt_head *h)
{
	bt_u32 first = bt_be32(h->b), version = bt_be32(h->b + 1);

	/* QUIC long header (RFC 9000, 9369, drafts, Google) */
	if ((h->b[0] & 0xc0) == 0xc0 && h->wire_len >= 40 &&
	    (version == 1 || version == 0x6b3343cfu || version >> 8 == 0xff0000u || version >> 24 == 'Q'))
		return 1;
	/* STUN (RFC 8489) */
	if (h->wire_len >= 20 && h->b[0] < 4 && bt_be32(h->b + 4) == 0x2112a442u)
		return 1;
	/* DTLS (RFC 6347, 9147): record type, version, first handshake records */
	if (h->wire_len >= 13 && h->b[0] >= 20 && h->b[0] <= 25 && h->b[1] == 0xfe && h->b[2] >= 0xfc)
		return 1;
	/* WireGuard: types 1 to 4, reserved zero, exact sizes */
	if (h->b[1] == 0 && h->b[2] == 0 && h->b[3] == 0 &&
	    ((h->b[0] == 1 && h->wire_len == 148) || (h->b[0] == 2 && h->wire_len == 92) || (h->b[0] == 3 && h->wire_len == 64)))
		return 1;
	/* SIP, SSDP and other HTTP-shaped discovery */
	if (first == BT_TXT4('S', 'I', 'P', '/') || first == BT_TXT4('M', '-', 'S', 'E') ||
	    first == BT_TXT4('N', 'O', 'T', 'I') || first == BT_TXT4('H', 'T', 'T', 'P') ||
	    first == BT_TXT4('R', 'E', 'G', 'I') || first == BT_TXT4('I', 'N', 'V', 'I') || first == BT_TXT4('O', 'P', 'T', 'I'))
		return 1;
	return 0;
}

static BT_INLINE int bt_is_others_datagram(const struct bt_tuple *t, const struct bt_head *h)
{
	return bt_is_other_udp(h) || bt_is_ntp(t, h) || bt_is_dns(t, h);
}

/* TCP beginnings that settle what their half-flow is. HTTP requests are not among them. */
static BT_INLINE int bt_is_other_tcp(const struct bt_head *h)
{
	bt_u32 first = bt_be32(h->b);

	/* TLS record (RFC 8446): handshake or alert or data, version 3.x, sane length, known handshake type */
	if (h->b[0] == 0x16 && h->b[1] == 3 && h->b[2] <= 4 && h->len >= 6 && bt_be16(h->b + 3) <= 0x4800 &&
	    (h->b[5] == 1 || h->b[5] == 2))
		return 1;
	if (h->b[0] == 0x15 && h->b[1] == 3 && h->b[2] <= 4 && bt_be16(h->b + 3) == 2)
		return 1;
	switch (first) {
	case BT_TXT4('S', 'S', 'H', '-'):
	case BT_TXT4('H', 'T', 'T', 'P'):
	case BT_TXT4('R', 'F', 'B', ' '):
	case BT_TXT4('P', 'R', 'I', ' '): /* HTTP/2 with prior knowledge */
	case BT_TXT4('2', '2', '0', ' '): /* SMTP, FTP */
	case BT_TXT4('2', '2', '0', '-'):
	case BT_TXT4('E', 'H', 'L', 'O'):
	case BT_TXT4('+', 'O', 'K', ' '):
	case BT_TXT4('*', ' ', 'O', 'K'):
	case BT_TXT4('G', 'N', 'U', 'T'): /* Gnutella */
	case BT_TXT4(14, 'S', 'w', 'a'):  /* Delivery Optimization, "Swarm protocol" */
		return 1;
	default:
		return 0;
	}
}

/* ------------------------------------------------------------------ worth user space's time */

static BT_INLINE int bt_is_http_request(const struct bt_head *h)
{
	switch (bt_be32(h->b)) {
	case BT_TXT4('G', 'E', 'T', ' '):
	case BT_TXT4('P', 'O', 'S', 'T'):
	case BT_TXT4('H', 'E', 'A', 'D'):
	case BT_TXT4('P', 'U', 'T', ' '):
	case BT_TXT4('O', 'P', 'T', 'I'):
	case BT_TXT4('D', 'E', 'L', 'E'):
	case BT_TXT4('P', 'A', 'T', 'C'):
		return h->len >= 4;
	default:
		return 0;
	}
}

/* A request whose target has a query, or does not end within the head: it may be a tracker's. */
static BT_INLINE int bt_http_has_query(const struct bt_head *h)
{
	bt_u32 i;

	if (bt_be32(h->b) != BT_TXT4('G', 'E', 'T', ' '))
		return 0;
	for (i = 4; i < BT_HEAD_LEN; i++) {
		if (i >= h->len || h->b[i] == '?')
			return 1;
		if (h->b[i] == '\r' || h->b[i] == '\n')
			return 0;
	}
	return 1;
}

/* SOCKS 4 or 5 or HTTP CONNECT as the first bytes of a connection. */
static BT_INLINE int bt_is_proxy_request(const struct bt_head *h)
{
	if (h->b[0] == 5 && h->b[1] >= 1 && h->b[1] <= 16 && h->wire_len == 2u + h->b[1])
		return 1;
	if (h->b[0] == 4 && (h->b[1] == 1 || h->b[1] == 2) && h->len >= 9 && h->wire_len <= 600 && bt_be16(h->b + 2))
		return 1;
	return bt_be64(h->b) == BT_TXT8('C', 'O', 'N', 'N', 'E', 'C', 'T', ' ');
}

/* A frame with the beginning of a WebSocket client's message: text or binary, masked (RFC 6455, 5.2), compressed or not. */
static BT_INLINE int bt_is_client_frame(const struct bt_head *h)
{
	bt_u8 kind = h->b[0] & 0x3f; /* without FIN and RSV1 (RFC 7692) */

	return (kind == 1 || kind == 2) && h->b[1] & 0x80;
}

/* One of a whole text of 126 bytes to 64 KiB, as a tracker's client sends it: rare enough where no request was seen. */
static BT_INLINE int bt_is_long_frame(const struct bt_head *h)
{
	return (h->b[0] & 0xbf) == 0x81 && h->b[1] == 0xfe;
}

/* The header of one peer message with a length that fits its id (BEP 3, 6, 10, 52): proves nothing alone. */
static BT_INLINE int bt_maybe_message(const struct bt_head *h)
{
	bt_u32 len = bt_be32(h->b);
	bt_u8 id = h->b[4];

	if (h->len < 5 || len > 0x20009)
		return 0;
	if (id <= 3 || id == 14 || id == 15)
		return len == 1;
	if (id == 4 || id == 13 || id == 17)
		return len == 5;
	if (id == 5)
		return len >= 2;
	if (id == 6 || id == 8 || id == 16)
		return len == 13;
	if (id == 7)
		return len > 9;
	if (id == 9)
		return len == 3;
	if (id == 20)
		return len > 2;
	return id >= 21 && id <= 23 && len >= 49;
}

/* ------------------------------------------------------------------ names */

/* The start of a TLS ClientHello (RFC 8446, 4.1.2), or as much of it as a first segment of a few bytes holds. */
static BT_INLINE int bt_is_hello(const struct bt_head *h)
{
	return h->b[0] == 0x16 && (h->len < 2 || h->b[1] == 3) && (h->len < 3 || h->b[2] <= 4) && (h->len < 6 || h->b[5] == 1);
}

static BT_INLINE int bt_hello_ends(const struct bt_head *h)
{
	return h->len >= 9 && 9 + (bt_be32(h->b + 5) & 0xffffff) <= h->wire_len;
}

/* A query (RFC 1035, 4.1.1) to a resolver, with one question. */
static BT_INLINE int bt_is_dns_query(const struct bt_tuple *t, const struct bt_head *h)
{
	return t->dport == 53 && h->len >= 17 && (bt_be16(h->b + 2) & 0xf800) == 0 && bt_be16(h->b + 4) == 1 && h->b[12] <= 63;
}

/* ------------------------------------------------------------------ all of it for one packet */

/*
 * What a head is, taken alone. Judging (inspect.h) adds what the half-flow and its client are.
 * Each answer goes to memory before the next question, see BT_BARRIER.
 */
struct bt_facts {
	struct bt_utp utp;
	bt_u32 socks_off; /* offset of a datagram inside a SOCKS UDP header, or 0 */
	bt_u8 evidence;   /* DHT, tracker or LSD by structure alone, or BT_EV_NONE */
	bt_u8 azureus;    /* of its DHT: BT_EV_DHT_*, or BT_EV_NONE */
	bt_u8 is_utp, is_utp_syn, is_utp_peer;
	bt_u8 is_bencode; /* may be */
	bt_u8 is_query;   /* of the DNS */
	bt_u8 is_other;   /* certainly another protocol */
	bt_u8 is_handshake;
	bt_u8 matched; /* bytes of a handshake that the half-flow has matched with this packet */
	bt_u8 is_http, has_query;
	bt_u8 is_proxy;
	bt_u8 is_message;              /* may be */
	bt_u8 is_frame, is_long_frame; /* of a WebSocket client, if this is one */
	bt_u8 is_random;
	bt_u8 is_hello, hello_ends;
};

static BT_INLINE void bt_udp_facts(const struct bt_tuple *t, const struct bt_head *h, struct bt_facts *x)
{
	x->evidence = bt_detect_dht(h);
	BT_BARRIER();
	if (x->evidence == BT_EV_NONE)
		x->evidence = bt_detect_udp_tracker(h);
	BT_BARRIER();
	x->azureus = bt_detect_azureus_dht(h);
	BT_BARRIER();
	if (bt_is_lsd(t, h))
		x->evidence = BT_EV_LSD_ANNOUNCE;
	BT_BARRIER();
	x->is_utp = (bt_u8)bt_parse_utp(h, &x->utp);
	BT_BARRIER();
	x->is_utp_syn = (bt_u8)(x->is_utp && bt_is_utp_syn(h, &x->utp));
	BT_BARRIER();
	x->is_utp_peer = (bt_u8)(x->is_utp && bt_is_utp_peer(h, &x->utp));
	BT_BARRIER();
	x->is_bencode = (bt_u8)bt_maybe_bencode(h);
	BT_BARRIER();
	x->socks_off = bt_socks_udp_offset(h);
	BT_BARRIER();
	x->is_query = (bt_u8)bt_is_dns_query(t, h);
	BT_BARRIER();
	x->is_other = (bt_u8)bt_is_others_datagram(t, h);
	BT_BARRIER();
}

/* matched: bytes of the handshake this half-flow had matched before this packet. */
static BT_INLINE void bt_tcp_facts(const struct bt_head *h, bt_u8 matched, struct bt_facts *x)
{
	x->is_handshake = (bt_u8)bt_is_handshake(h);
	BT_BARRIER();
	x->matched = bt_match_handshake(h, matched);
	BT_BARRIER();
	x->is_other = (bt_u8)bt_is_other_tcp(h);
	BT_BARRIER();
	x->is_http = (bt_u8)bt_is_http_request(h);
	BT_BARRIER();
	x->has_query = (bt_u8)bt_http_has_query(h);
	BT_BARRIER();
	x->is_proxy = (bt_u8)bt_is_proxy_request(h);
	BT_BARRIER();
	x->is_message = (bt_u8)bt_maybe_message(h);
	BT_BARRIER();
	x->is_frame = (bt_u8)bt_is_client_frame(h);
	BT_BARRIER();
	x->is_long_frame = (bt_u8)bt_is_long_frame(h);
	BT_BARRIER();
	x->is_random = (bt_u8)bt_looks_random(h);
	BT_BARRIER();
	x->is_hello = (bt_u8)bt_is_hello(h);
	BT_BARRIER();
	x->hello_ends = (bt_u8)bt_hello_ends(h);
	BT_BARRIER();
}

#endif
