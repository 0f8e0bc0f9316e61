// SPDX-License-Identifier: MIT
// The maps that the kernel programs and user space share, by the names of bpf/maps.h.
#pragma once

#include "bpf/Epoch.h"
#include "bpf/Map.h"
#include "bpf/Pins.h"
#include "btblock/abi.h"

#include <array>
#include <cstdint>

namespace btblock::bpf {

using Counters = std::array<std::uint64_t, BT_S_COUNT>;

struct Maps {
    WatchedMap<bt_addr, bt_ban> bans;
    Map<bt_tuple, bt_flow> flows;
    Map<bt_tuple, bt_flow> asked; // half-flows of the punt filter; not pinned
    WatchedMap<bt_endpoint, bt_mark> sockets;
    Map<bt_peer_key, bt_mark> peers;
    WatchedMap<bt_addr, bt_client> clients;
    WatchedMap<bt_lpm_key, bt_allow> allow;
    Map<bt_lpm_key, bt_u32> inside;
    Map<bt_lpm_key, bt_u32> relays;
    Map<bt_u32, bt_config> config;
    Map<bt_u32, bt_u64> user_stats; // counters of the daemon, indexed by bt_stat like the kernel's
    Fd stats_fd;                    // the kernel's: one bt_percpu per CPU
    Fd events_fd;                   // ring buffer of bt_event
    Fd rejects_fd;                  // ring buffer of bt_reject; not pinned

    // Couples the watched maps with the map bt_epoch. Whoever fills this struct calls it once.
    Result<void> watch(const Fd& epoch);

    // Sums over the CPUs and over kernel and daemon.
    [[nodiscard]] Result<Counters> stats() const;
    // Adds to a counter of the daemon. Read-modify-write: only the daemon's main thread calls it.
    Result<void> add_stat(bt_stat which, std::uint64_t amount) const;

    // Kernel memory of all maps, in bytes.
    [[nodiscard]] std::uint64_t memory() const;

    [[nodiscard]] Result<bt_config> read_config() const;
    Result<void> write_config(const bt_config& value) const;
};

// The pinned maps of a running or stopped instance. Without pins the error says so with
// ExitCode::daemon_unreachable.
Result<Maps> open_pinned_maps(const std::string& instance);

} // namespace btblock::bpf
