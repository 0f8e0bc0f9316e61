/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The maps. Sizes marked "set at load" come from the configuration's capacity.* keys. */
#ifndef BTBLOCK_MAPS_H
#define BTBLOCK_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "btblock/abi.h"

/* Banned addresses. Only user space writes; it makes room itself, so no LRU that forgets idle bans. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct bt_addr);
	__type(value, struct bt_ban);
	__uint(max_entries, 65536); /* set at load */
	__uint(map_flags, BPF_F_NO_PREALLOC);
} bt_bans SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct bt_tuple);
	__type(value, struct bt_flow);
	__uint(max_entries, 262144); /* set at load */
} bt_flows SEC(".maps");

/* Half-flows as the punt filter knows them, before source NAT. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct bt_tuple);
	__type(value, struct bt_flow);
	__uint(max_entries, 32768);
} bt_asked SEC(".maps");

/* Condemned UDP sockets of inside hosts. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct bt_endpoint);
	__type(value, struct bt_mark);
	__uint(max_entries, 65536); /* set at load */
} bt_sockets SEC(".maps");

/* Learned peers, each for one client only. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct bt_peer_key);
	__type(value, struct bt_mark);
	__uint(max_entries, 65536); /* set at load, as bt_sockets */
} bt_peers SEC(".maps");

/* Inside hosts that showed BitTorrent. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct bt_addr);
	__type(value, struct bt_client);
	__uint(max_entries, 16384);
} bt_clients SEC(".maps");

/* How many hosts and ports inside hosts opened unrecognised flows to, in the last minute. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct bt_addr);
	__type(value, struct bt_fanout);
	__uint(max_entries, 16384);
} bt_fanouts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct bt_lpm_key);
	__type(value, struct bt_allow);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} bt_allow SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct bt_lpm_key);
	__type(value, __u32);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} bt_inside SEC(".maps");

/* Relay networks of games and calls: flows to them do not count for a fan-out. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct bt_lpm_key);
	__type(value, __u32);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} bt_relays SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct bt_config);
	__uint(max_entries, 1);
} bt_config SEC(".maps");

/* Counts what was banned, condemned or no longer allowed: running flows look those tables up again. User space maps
 * it, so that both sides can add to it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
} bt_epoch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct bt_percpu);
	__uint(max_entries, 1);
} bt_stats SEC(".maps");

/* Counters of the daemon, same indexes: what user space adds must not race with the kernel's. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, BT_S_COUNT);
} bt_user_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} bt_events SEC(".maps");

/* Dropped packets whose ends are to be told, for action = reject. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} bt_rejects SEC(".maps");

#endif
