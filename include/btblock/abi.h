/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Everything that crosses the border between the kernel programs and user space:
 * map keys and values, events, counters and constants.
 *
 * One C subset, compiled by clang -target bpf and by g++. No pointers, no bit fields,
 * no padding that the compiler chooses: every struct is pinned by static_asserts below,
 * and changing one means changing BT_ABI (the number is part of the pin directory).
 *
 * Units and byte order: times are nanoseconds of CLOCK_MONOTONIC; ports, lengths and
 * sequence numbers are in host byte order; addresses are 16 bytes in network byte order,
 * IPv4 as ::ffff:a.b.c.d.
 */
#ifndef BTBLOCK_ABI_H
#define BTBLOCK_ABI_H

#define BT_ABI 7

typedef unsigned char bt_u8;
typedef unsigned short bt_u16;
typedef unsigned int bt_u32;
typedef unsigned long long bt_u64;

#ifdef __cplusplus
#define BT_STATIC_ASSERT(cond, text) static_assert(cond, text)
#else
#define BT_STATIC_ASSERT(cond, text) _Static_assert(cond, text)
#endif

/* ------------------------------------------------------------------ limits */

enum {
	BT_HEAD_LEN = 96,     /* payload bytes the kernel looks at */
	BT_REJECT_RATE = 100, /* answers to dropped packets a second and CPU */
	BT_PUNT_BUDGET = 8,   /* payload packets of a half-flow that are inspected */
	BT_BAN_PORTS = 8,     /* endpoints a ban entry can name */
	BT_COMMENT_LEN = 48,  /* operator's comment on a ban or allow entry, NUL-terminated */
};

#define BT_NSEC_PER_SEC 1000000000ULL
#define BT_UDP_IDLE_NS (120 * BT_NSEC_PER_SEC)   /* an idle UDP tuple is a new flow after this */
#define BT_SOCKET_TTL_NS (900 * BT_NSEC_PER_SEC) /* condemned socket, refreshed by use */
#define BT_PEER_TTL_NS (900 * BT_NSEC_PER_SEC)   /* learned peer of a client */
#define BT_CLIENT_TTL_NS (900 * BT_NSEC_PER_SEC) /* a client counts as BitTorrent-active this long */
#define BT_FANOUT_NS (60 * BT_NSEC_PER_SEC)      /* window of the fan-out sketch */
#define BT_DEFAULT_MARK 0x20000000u

/* ------------------------------------------------------------------ addresses and tuples */

struct bt_addr {
	union {
		bt_u8 b[16];
		bt_u32 w[4];
	};
};

/* A half-flow's key: the 5-tuple exactly as seen at the hook, before any NAT. */
struct bt_tuple {
	struct bt_addr src, dst;
	bt_u16 sport, dport;
	bt_u8 proto; /* IPPROTO_TCP or IPPROTO_UDP */
	bt_u8 pad[3];
};

/* Key of bt_sockets: one transport endpoint. */
struct bt_endpoint {
	struct bt_addr addr;
	bt_u16 port;
	bt_u8 proto;
	bt_u8 pad;
};

/* Key of bt_peers: a remote ip:port that this client was seen to use or to be told about. */
struct bt_peer_key {
	struct bt_addr client;
	struct bt_addr peer;
	bt_u16 port;
	bt_u16 pad;
};

/* Key of the longest-prefix maps bt_allow and bt_inside. IPv4 prefixes count from bit 96. */
struct bt_lpm_key {
	bt_u32 prefixlen; /* 0..128 */
	struct bt_addr addr;
};

/* ------------------------------------------------------------------ evidence */

/* The stable evidence codes; their names follow below. A set of them is a mask of 1u << code. */
enum bt_evidence {
	BT_EV_TCP_HANDSHAKE,
	BT_EV_TCP_MESSAGE,
	BT_EV_TCP_EXTENSION,
	BT_EV_TCP_FAST,
	BT_EV_MSE_HANDSHAKE,
	BT_EV_UTP_SYN,
	BT_EV_UTP_PAIR,
	BT_EV_UTP_DATA,
	BT_EV_DHT_QUERY,
	BT_EV_DHT_RESPONSE,
	BT_EV_DHT_ERROR,
	BT_EV_TRACKER_UDP_CONNECT,
	BT_EV_TRACKER_UDP_ANNOUNCE,
	BT_EV_TRACKER_UDP_SCRAPE,
	BT_EV_TRACKER_HTTP,
	BT_EV_TRACKER_SNI,
	BT_EV_WEBSEED_HTTP,
	BT_EV_CLIENT_AGENT,
	BT_EV_LSD_ANNOUNCE,
	BT_EV_SOCKS_CONNECT,
	BT_EV_SIGNATURE,
	BT_EV_ENTROPY,
	BT_EV_FANOUT,
	BT_EV_SOCKET_CONDEMNED,
	BT_EV_PEER_LEARNED,
	BT_EV_BAN,
	BT_EV_COUNT,
	BT_EV_NONE = 255,
};

#define BT_EV_BIT(code) (1u << (code))
#define BT_EV_UDP_TRACKER                                                                                                        \
	(BT_EV_BIT(BT_EV_TRACKER_UDP_CONNECT) | BT_EV_BIT(BT_EV_TRACKER_UDP_ANNOUNCE) | BT_EV_BIT(BT_EV_TRACKER_UDP_SCRAPE))

/* In the order of enum bt_evidence: what people and programs read. */
#define BT_EVIDENCE_NAMES                                                                                                        \
	"tcp.handshake", "tcp.message", "tcp.extension", "tcp.fast", "mse.handshake", "utp.syn", "utp.pair", "utp.data",         \
		"dht.query", "dht.response", "dht.error", "tracker.udp.connect", "tracker.udp.announce", "tracker.udp.scrape",   \
		"tracker.http", "tracker.sni", "webseed.http", "client.agent", "lsd.announce", "socks.connect", "signature",     \
		"entropy", "fanout", "socket.condemned", "peer.learned", "ban"

/* ------------------------------------------------------------------ map values */

enum bt_verdict {
	BT_V_UNKNOWN, /* still looking */
	BT_V_CLEAN,   /* proved to be another protocol, or budget spent */
	BT_V_ALLOWED, /* an allowlisted address takes part */
	BT_V_HTTP,    /* HTTP requests: every one is looked at (keep-alive) */
	BT_V_BLOCKED, /* BitTorrent: payload is dropped */
};

enum {                         /* bt_flow.flags */
       BT_F_RANDOM = 1 << 0,   /* the stream began with uniformly random bytes */
       BT_F_UTP_SYN = 1 << 1,  /* sent a strict uTP SYN: utp_id, utp_seq hold it */
       BT_F_UTP_SEEN = 1 << 2, /* sent something of uTP shape: utp_id, utp_seq hold it */
       BT_F_PROXY = 1 << 3,    /* SOCKS or HTTP CONNECT: an inner stream starts later */
       BT_F_ORDERED = 1 << 4,  /* next_seq is valid */
       BT_F_FITTING = 1 << 5,  /* sent a length that is rare but for encrypted peers, see mse.h */
       BT_F_GREETED = 1 << 6,  /* dialler: its encrypted peer handshake had the length and place of one */
       BT_F_SECOND = 1 << 7,   /* dialler: its client had dialled two ends in such a way */
};

/* bt_flow.mse: how far the turns of Message Stream Encryption fitted. */
enum {
	BT_MSE_NONE,
	BT_MSE_KEYS, /* dialler: both first turns were random and of the right length */
	BT_MSE_OPEN, /* both half-flows: so was the third */
	BT_MSE_OVER, /* it is not */
	BT_MSE_ED2K, /* both half-flows: open, but the first two may be eDonkey's */
};

/* Value of bt_flows. */
struct bt_flow {
	bt_u64 last_seen_ns;
	bt_u32 owner;     /* the hook that judges it: ifindex << 1 | egress; 0: the next that sees it */
	bt_u32 next_seq;  /* TCP: sequence number after the last in-order payload */
	bt_u32 evidence;  /* mask, once blocked or weighed */
	bt_u16 first_len; /* length of the first payload packet, saturated */
	bt_u16 turn_len;  /* bytes sent since the mirror last spoke, saturated */
	union {
		bt_u16 utp_id; /* UDP: connection id of the remembered uTP packet */
		bt_u16 asked;  /* TCP: bytes sent since got_ack was acknowledged, saturated */
	};
	bt_u16 utp_seq; /* sequence number of it */
	bt_u16 utp_ack; /* what it acknowledged */
	bt_u8 runs;     /* TCP: ends of writes, and answers, looked at for piece messages */
	bt_u8 misses;   /* TCP: small segments that cannot be piece requests */
	bt_u32 run_seq; /* TCP: where the current write began */
	bt_u32 ask_seq; /* TCP: the first segment of piece requests in a row, and what it acknowledged */
	bt_u32 ask_ack;
	bt_u32 ask_lengths; /* sketch of the lengths in that row */
	bt_u8 verdict;      /* enum bt_verdict */
	bt_u8 seen;         /* payload packets inspected */
	bt_u8 matched;      /* bytes of the peer handshake matched so far */
	bt_u8 flags;
	bt_u8 turn;     /* number of this side's current turn: 1, 3, 5 dialler, 2, 4 answerer */
	bt_u8 want;     /* following payload packets that user space still wants */
	bt_u8 leaky;    /* a packet passed that user space should have seen */
	bt_u8 punted;   /* a packet was one for user space */
	bt_u8 mse;      /* BT_MSE_* */
	bt_u8 asks;     /* TCP: segments in that row */
	bt_u16 epoch;   /* when bans and condemned sockets were last looked up in vain, see bt_epoch; 0: never */
	bt_u32 got_ack; /* TCP: what was acknowledged when this side asked last; 0: it did not */
};

enum {                           /* bt_ban.flags */
       BT_BAN_SUBNET64 = 1 << 0, /* IPv6: the key is a /64, host part zero */
       BT_BAN_MANUAL = 1 << 1,   /* added by the operator */
};

/* Value of bt_bans (key: struct bt_addr). No ports named: the whole address is banned. */
struct bt_ban {
	bt_u64 created_ns;
	bt_u64 expires_ns; /* ~0: never */
	bt_u64 hits;       /* packets dropped, approximate */
	bt_u32 evidence;
	bt_u16 flags;
	bt_u16 port_count;
	bt_u16 ports[BT_BAN_PORTS];
	char comment[BT_COMMENT_LEN];
};

/* Value of bt_sockets, bt_peers: what is known until when. */
struct bt_mark {
	bt_u64 expires_ns;
	bt_u64 hits;
	bt_u32 evidence;
	bt_u32 pad;
};

enum { BT_MSE_ENDS = 8 };

/* A remote end that a client dialled with MSE-shaped openings: of those whose hashes begin alike the last, or one that was
 * asked again. */
struct bt_mse_end {
	bt_u32 peer; /* hash of address and port */
	bt_u32 seen; /* seconds << 2 | openings after the first, each within a minute, saturated at 3 */
};

/* Value of bt_clients (key: struct bt_addr of an inside address). */
struct bt_client {
	bt_u64 active_until_ns;
	bt_u64 first_seen_ns;
	bt_u64 dropped;          /* packets */
	bt_u32 evidence;         /* everything proved so far */
	bt_u32 detections;       /* flows */
	struct bt_addr syn_peer; /* remote end of the last strict uTP SYN */
	bt_u64 syn_until_ns;
	bt_u16 syn_sport; /* the socket that sent it */
	bt_u16 syn_dport;
	bt_u16 mse_first; /* its last MSE-shaped opening: length of the first turn */
	bt_u16 mse_same;  /* openings in a row with that length, after the first; saturated at 3 */
	struct bt_mse_end mse_ends[BT_MSE_ENDS];
	bt_u32 ask_peer;        /* hash of the host of the last connection that began to ask for blocks */
	bt_u32 ask_seen_s;      /* when */
	bt_u32 ask_hosts;       /* changes of it in a row, each within the client's time to live */
	bt_u32 mse_end;         /* hash of the last host that it dialled with such an opening; 0: none */
	bt_u32 mse_end_s;       /* when */
	bt_u32 mse_turned_s;    /* when that was another one than shortly before; 0: never */
	bt_u64 random_until_ns; /* until then: it has random-looking streams that are not MSE */
};

/* Value of bt_allow. */
struct bt_allow {
	bt_u64 expires_ns; /* ~0: never */
	char comment[BT_COMMENT_LEN];
};

enum {                             /* bt_config.flags */
       BT_C_MONITOR = 1 << 0,      /* count and report, drop nothing */
       BT_C_STRICT_PORTS = 1 << 1, /* whitelisted ports are exempt from everything */
       BT_C_FILTERED = 1 << 2,     /* what reaches TC egress has passed the punt filter (punt.h) */
       BT_C_REJECT = 1 << 3,       /* the daemon answers what is dropped */
       BT_C_NAMES = 1 << 4,        /* user space looks at the names in TLS hellos and DNS queries */
};

enum { BT_WHITELIST_PORTS = 32 };

/* Value of bt_config (one entry): what the daemon may change while programs run. */
struct bt_config {
	bt_u64 lease_until_ns; /* punt only before this */
	bt_u32 flags;
	bt_u32 mark;          /* the punt bit */
	bt_u32 event_rate;    /* events a second and CPU */
	bt_u32 new_flow_rate; /* new half-flows a second and CPU before the flood guard acts */
	bt_u32 port_count;
	bt_u16 ports[BT_WHITELIST_PORTS];
	bt_u16 fanout_hosts; /* distinct hosts and ports in a window that make a fan-out; 0: do not look */
	bt_u16 fanout_ports;
};

/*
 * Value of bt_fanouts (key: struct bt_addr of an inside address): how many remote hosts and ports it opened
 * unrecognised flows to, by linear counting in two bitmaps (Whang et al. 1990). 32 distinct values set 30 of 256 bits.
 */
enum { BT_FANOUT_WORDS = 4 };

struct bt_fanout {
	bt_u64 window_ns; /* start */
	bt_u64 hosts[BT_FANOUT_WORDS];
	bt_u64 ports[BT_FANOUT_WORDS];
	bt_u16 host_bits; /* set in hosts */
	bt_u16 port_bits;
	bt_u32 told; /* this window's fan-out was reported */
};

/* ------------------------------------------------------------------ events */

enum bt_event_kind { BT_K_DETECTION = 1, BT_K_CONDEMN = 2 };
enum bt_hook { BT_HOOK_XDP, BT_HOOK_INGRESS, BT_HOOK_EGRESS, BT_HOOK_QUEUE, BT_HOOK_OUTPUT, BT_HOOK_OFFLINE };
enum bt_action { BT_ACT_PASS, BT_ACT_DROP, BT_ACT_PUNT };

/* Record of the ring buffer bt_events. */
struct bt_event {
	bt_u64 time_ns;
	bt_u32 ifindex;
	bt_u32 evidence;       /* mask */
	struct bt_tuple tuple; /* direction of the packet that decided */
	bt_u16 payload_len;
	bt_u8 kind;      /* enum bt_event_kind */
	bt_u8 hook;      /* enum bt_hook */
	bt_u8 action;    /* enum bt_action: what was done to the packet */
	bt_u8 monitor;   /* 1: monitor mode, a drop was only counted */
	bt_u8 client_is; /* 0 unknown, 1 tuple.src is inside, 2 tuple.dst is inside */
	bt_u8 unasked;   /* 1: from outside, and no answer to the inside: its sender may be forged */
};

/* Record of the ring buffer bt_rejects: a dropped packet whose ends are to be told. */
struct bt_reject {
	struct bt_tuple tuple; /* of the packet, as seen at the hook */
	bt_u32 seq, ack;       /* TCP */
	bt_u32 payload_len;
	bt_u8 tcp_flags;
	bt_u8 pad[3];
};

/* ------------------------------------------------------------------ counters */

enum bt_stat {
	BT_S_SEEN, /* packets that reached a TC hook or, if dropped there, XDP */
	BT_S_DROP_BAN,
	BT_S_DROP_SOCKET,
	BT_S_DROP_PEER,
	BT_S_DROP_FLOW,     /* later packets of a blocked half-flow */
	BT_S_DROP_DETECTED, /* packets that decided */
	BT_S_PUNTED,
	BT_S_PUNT_NO_LEASE, /* would have been punted, but no daemon */
	BT_S_NEW_FLOWS,
	BT_S_FLOOD_SKIPPED, /* no half-flow made: rate guard or full map */
	BT_S_CLEAN_EARLY,
	BT_S_PARSE_SKIPPED, /* neither TCP nor UDP over IP, or cut short */
	BT_S_FRAGMENTS,     /* non-first fragments: bans only */
	BT_S_EVENTS_SENT,
	BT_S_EVENTS_LOST,    /* ring full */
	BT_S_EVENTS_LIMITED, /* rate limit */
	BT_S_QUEUE_DROPPED,  /* verdicts of the daemon */
	BT_S_QUEUE_PASSED,
	BT_S_CONDEMNED,  /* sockets */
	BT_S_LEARNED,    /* peers */
	BT_S_MONITORED,  /* drops that monitor mode let pass */
	BT_S_LEAKED_DHT, /* control packets recognised only after an earlier one had passed */
	BT_S_LEAKED_UDP_TRACKER,
	BT_S_LEAKED_HTTP,
	BT_S_LEAKED_LSD,
	BT_S_REJECTED,   /* dropped packets that were answered (action = reject) */
	BT_S_DETECTIONS, /* first of BT_EV_COUNT counters, one per evidence code */
	BT_S_COUNT = BT_S_DETECTIONS + 26,
};

/* Value of bt_stats (one entry per CPU): what a packet on this CPU may write without asking anyone. */
struct bt_percpu {
	bt_u64 stats[BT_S_COUNT]; /* by enum bt_stat */
	bt_u64 tick;              /* jiffies when now_ns was read */
	bt_u64 now_ns;
	bt_u64 flow_window_ns; /* starts of the rate windows, and what they have counted */
	bt_u64 event_window_ns;
	bt_u64 reject_window_ns;
	bt_u32 flows;
	bt_u32 events;
	bt_u32 rejects;
	bt_u32 pad;
};

BT_STATIC_ASSERT(BT_EV_COUNT == 26, "BT_S_COUNT follows BT_EV_COUNT");
BT_STATIC_ASSERT(sizeof(struct bt_addr) == 16, "bt_addr");
BT_STATIC_ASSERT(sizeof(struct bt_tuple) == 40, "bt_tuple");
BT_STATIC_ASSERT(sizeof(struct bt_endpoint) == 20, "bt_endpoint");
BT_STATIC_ASSERT(sizeof(struct bt_peer_key) == 36, "bt_peer_key");
BT_STATIC_ASSERT(sizeof(struct bt_lpm_key) == 20, "bt_lpm_key");
BT_STATIC_ASSERT(sizeof(struct bt_allow) == 56, "bt_allow");
BT_STATIC_ASSERT(sizeof(struct bt_flow) == 64, "bt_flow");
BT_STATIC_ASSERT(sizeof(struct bt_ban) == 96, "bt_ban");
BT_STATIC_ASSERT(sizeof(struct bt_mark) == 24, "bt_mark");
BT_STATIC_ASSERT(sizeof(struct bt_client) == 160, "bt_client");
BT_STATIC_ASSERT(sizeof(struct bt_config) == 96, "bt_config");
BT_STATIC_ASSERT(sizeof(struct bt_fanout) == 80, "bt_fanout");
BT_STATIC_ASSERT(sizeof(struct bt_percpu) == 8 * BT_S_COUNT + 56, "bt_percpu");
BT_STATIC_ASSERT(sizeof(struct bt_event) == 64, "bt_event");
BT_STATIC_ASSERT(sizeof(struct bt_reject) == 56, "bt_reject");

#endif
