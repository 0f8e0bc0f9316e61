// SPDX-License-Identifier: MIT
#include "bpf/Maps.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>
#include <vector>

namespace btblock::bpf {

Result<void> Maps::watch(const Fd& epoch) {
    if (!epoch)
        return errno_error("map bt_epoch");
    auto counter = Epoch::adopt(epoch);
    if (!counter)
        return counter.error();
    bans.watched_by(*counter);
    sockets.watched_by(*counter);
    clients.watched_by(*counter);
    allow.watched_by(*counter);
    return {};
}

Result<Counters> Maps::stats() const {
    const int cpus = libbpf_num_possible_cpus();
    if (cpus < 1)
        return error("cannot read the number of possible CPUs");
    std::vector<bt_percpu> of_cpus(static_cast<std::size_t>(cpus));
    constexpr __u32 zero = 0;
    if (bpf_map_lookup_elem(stats_fd.get(), &zero, of_cpus.data()) < 0)
        return errno_error("map bt_stats: lookup");
    Counters sums{};
    for (__u32 i = 0; i < sums.size(); ++i) {
        for (const bt_percpu& cpu : of_cpus)
            sums[i] += cpu.stats[i];
        auto own = user_stats.lookup(i);
        if (!own)
            return own.error();
        sums[i] += own->value_or(0);
    }
    return sums;
}

Result<void> Maps::add_stat(bt_stat which, std::uint64_t amount) const {
    auto value = user_stats.lookup(which);
    if (!value)
        return value.error();
    return user_stats.update(which, value->value_or(0) + amount);
}

std::uint64_t Maps::memory() const {
    std::uint64_t bytes = 0;
    for (const int fd : {bans.fd(), flows.fd(), sockets.fd(), peers.fd(), clients.fd(), allow.fd(), inside.fd(),
                         config.fd(), user_stats.fd(), stats_fd.get(), events_fd.get()})
        bytes += map_memory(fd);
    return bytes;
}

Result<bt_config> Maps::read_config() const {
    auto value = config.lookup(0);
    if (!value)
        return value.error();
    return value->value_or(bt_config{});
}

Result<void> Maps::write_config(const bt_config& value) const {
    return config.update(0, value);
}

Result<Maps> open_pinned_maps(const std::string& instance) {
    const Pins pins{instance};
    if (access(pins.abi_dir().c_str(), X_OK) < 0 && errno == EACCES)
        return error("reading the pinned maps needs root (or access to " + pins.abi_dir() + ")");
    if (!maps_pinned(pins)) {
        std::string others;
        for (const std::string& dir : other_abi_dirs(pins))
            others += (others.empty() ? "" : ", ") + dir;
        if (!others.empty())
            return error("instance '" + instance + "' was left by another version of btblock: its pins are in " +
                             others + ", and this version reads " + pins.abi_dir() +
                             "; `btblock run` takes them over, `btblock detach` removes them",
                         ExitCode::daemon_unreachable);
        return error("instance '" + instance + "' is not installed: nothing is pinned under " + pins.abi_dir() +
                         " (start it with `btblock run`)",
                     ExitCode::daemon_unreachable);
    }
    Maps maps;
    std::string failure;
    const auto open = [&]<class M>(M& map, const char* name) {
        auto opened = M::open_pinned(pins.map(name));
        if (opened)
            map = std::move(*opened);
        else if (failure.empty())
            failure = opened.error().message;
    };
    open(maps.bans, "bt_bans");
    open(maps.flows, "bt_flows");
    open(maps.sockets, "bt_sockets");
    open(maps.peers, "bt_peers");
    open(maps.clients, "bt_clients");
    open(maps.allow, "bt_allow");
    open(maps.inside, "bt_inside");
    open(maps.relays, "bt_relays");
    open(maps.config, "bt_config");
    open(maps.user_stats, "bt_user_stats");
    maps.stats_fd = Fd(bpf_obj_get(pins.map("bt_stats").c_str()));
    if (!maps.stats_fd && failure.empty())
        failure = errno_error(pins.map("bt_stats")).message;
    maps.events_fd = Fd(bpf_obj_get(pins.map("bt_events").c_str()));
    if (!maps.events_fd && failure.empty())
        failure = errno_error(pins.map("bt_events")).message;
    if (const auto watched = maps.watch(Fd(bpf_obj_get(pins.map("bt_epoch").c_str()))); !watched && failure.empty())
        failure = watched.error().message;
    if (!failure.empty())
        return error(failure);
    return maps;
}

} // namespace btblock::bpf
