// SPDX-License-Identifier: MIT
#include "bpf/Object.h"

#include "btblock.skel.h"

#include <algorithm>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <string_view>
#include <unistd.h>
#include <vector>

namespace btblock::bpf {

namespace {

// Maps that outlive a run: what is enforced, what is counted, what others may read.
constexpr std::array<const char*, 13> pinned_maps{"bt_bans",       "bt_flows",  "bt_sockets", "bt_peers", "bt_clients",
                                                  "bt_allow",      "bt_inside", "bt_config",  "bt_stats", "bt_events",
                                                  "bt_user_stats", "bt_relays", "bt_epoch"};

// A pinned map with its sizes; empty when there is none.
struct OldMap {
    Fd fd;
    bpf_map_info info{};

    static OldMap open(const std::string& path) {
        OldMap map{Fd(bpf_obj_get(path.c_str()))};
        __u32 length = sizeof map.info;
        if (map.fd && bpf_obj_get_info_by_fd(map.fd.get(), &map.info, &length) < 0)
            map.fd.reset();
        return map;
    }
};

// Entries of the old map go to the new one. Keys are the same in every ABI, values have grown at their end if at all.
template <class K, class V> Result<void> copy_entries(const OldMap& from, int to, const std::string& capacity_key) {
    std::vector<std::byte> value(std::max<std::size_t>(from.info.value_size, sizeof(V)));
    K key{};
    K next{};
    for (const K* at = nullptr; bpf_map_get_next_key(from.fd.get(), at, &next) == 0; at = &key) {
        key = next;
        std::fill(value.begin(), value.end(), std::byte{});
        if (bpf_map_lookup_elem(from.fd.get(), &key, value.data()) == 0 &&
            bpf_map_update_elem(to, &key, value.data(), BPF_ANY) < 0)
            return errno_error(capacity_key + " is too small for what is in force; copying it");
    }
    return {};
}

} // namespace

Object::Object(btblock_bpf* skeleton) : skeleton_(skeleton) {}
Object::Object(Object&&) noexcept = default;
Object& Object::operator=(Object&&) noexcept = default;
Object::~Object() = default;

void Object::Destroy::operator()(btblock_bpf* skeleton) const noexcept {
    btblock_bpf__destroy(skeleton);
}

Result<Object> Object::open(const Features& features, const Capacity& capacity) {
    Object object(btblock_bpf__open());
    if (!object.skeleton_)
        return errno_error("opening the BPF object");
    btblock_bpf& s = *object.skeleton_;
    s.rodata->bt_have_coarse_clock = features.coarse_clock;
    bpf_map__set_max_entries(s.maps.bt_bans, capacity.bans);
    bpf_map__set_max_entries(s.maps.bt_flows, capacity.flows);
    bpf_map__set_max_entries(s.maps.bt_sockets, capacity.sockets);
    bpf_map__set_max_entries(s.maps.bt_peers, capacity.sockets);
    for (bpf_program* program :
         {s.progs.bt_ingress_l2, s.progs.bt_ingress_l3, s.progs.bt_egress_l2, s.progs.bt_egress_l3})
        bpf_program__set_type(program, BPF_PROG_TYPE_SCHED_CLS);
    return object;
}

Result<void> Object::finish_load() {
    if (const int failed = btblock_bpf__load(skeleton_.get()); failed < 0)
        return errno_error("loading the BPF programs (the log at level debug has the verifier's words)", -failed);
    return {};
}

Result<Object> Object::load(const Features& features, const Capacity& capacity) {
    auto object = open(features, capacity);
    if (!object)
        return object;
    if (auto loaded = object->finish_load(); !loaded)
        return loaded.error();
    return object;
}

Result<Object> Object::load_pinned(const Features& features, const Capacity& capacity, const Pins& pins) {
    auto object = open(features, capacity);
    if (!object)
        return object;
    bpf_object* raw = object->skeleton_->obj;
    OldMap bans;
    OldMap allow;
    for (const char* name : pinned_maps) {
        bpf_map* map = bpf_object__find_map_by_name(raw, name);
        const bool is_bans = std::string_view(name) == "bt_bans";
        const bool is_allow = std::string_view(name) == "bt_allow";
        OldMap pinned = OldMap::open(pins.map(name));
        if (pinned.fd && pinned.info.key_size == bpf_map__key_size(map) &&
            pinned.info.value_size == bpf_map__value_size(map) &&
            pinned.info.type == static_cast<__u32>(bpf_map__type(map)) &&
            pinned.info.max_entries == bpf_map__max_entries(map)) {
            if (const int failed = bpf_map__reuse_fd(map, pinned.fd.get()); failed < 0)
                return errno_error(pins.map(name), -failed);
            object->inherited_bans_ |= is_bans;
            object->inherited_allow_ |= is_allow;
            continue;
        }
        object->unpinned_.push_back(name);
        if (!is_bans && !is_allow)
            continue;
        for (const std::string& dir : other_abi_dirs(pins))
            if (!pinned.fd)
                pinned = OldMap::open(dir + "/" + name);
        if (pinned.fd && pinned.info.key_size == bpf_map__key_size(map))
            (is_bans ? bans : allow) = std::move(pinned);
    }
    if (auto loaded = object->finish_load(); !loaded)
        return loaded.error();
    const auto& maps = object->skeleton_->maps;
    if (bans.fd) {
        if (auto copied = copy_entries<bt_addr, bt_ban>(bans, bpf_map__fd(maps.bt_bans), "capacity.bans"); !copied)
            return copied.error();
        object->inherited_bans_ = true;
    }
    if (allow.fd) {
        if (auto copied = copy_entries<bt_lpm_key, bt_allow>(allow, bpf_map__fd(maps.bt_allow), "the allowlist");
            !copied)
            return copied.error();
        object->inherited_allow_ = true;
    }
    for (const Program which : {Program::pass_filter, Program::drop_filter}) { // the firewall finds them by path
        const std::string path = pins.map(program_name(which));
        unlink(path.c_str());
        if (bpf_obj_pin(object->program_fd(which), path.c_str()) < 0)
            return errno_error("pinning " + path);
    }
    return object;
}

Result<void> Object::pin_maps(const Pins& pins) {
    for (const char* name : unpinned_) {
        const std::string path = pins.map(name);
        unlink(path.c_str());
        if (bpf_obj_pin(bpf_object__find_map_fd_by_name(skeleton_->obj, name), path.c_str()) < 0)
            return errno_error("pinning " + path);
    }
    unpinned_.clear();
    return {};
}

int Object::program_fd(Program which) const {
    return bpf_program__fd(bpf_object__find_program_by_name(skeleton_->obj, program_name(which)));
}

Result<Maps> Object::maps() const {
    Maps maps;
    std::string failure;
    const auto take = [&]<class M>(M& map, bpf_map* from) {
        auto adopted = M::adopt(Fd(dup(bpf_map__fd(from))), bpf_map__name(from));
        if (adopted)
            map = std::move(*adopted);
        else if (failure.empty())
            failure = adopted.error().message;
    };
    const auto& m = skeleton_->maps;
    take(maps.bans, m.bt_bans);
    take(maps.flows, m.bt_flows);
    take(maps.asked, m.bt_asked);
    take(maps.sockets, m.bt_sockets);
    take(maps.peers, m.bt_peers);
    take(maps.clients, m.bt_clients);
    take(maps.allow, m.bt_allow);
    take(maps.inside, m.bt_inside);
    take(maps.relays, m.bt_relays);
    take(maps.config, m.bt_config);
    take(maps.user_stats, m.bt_user_stats);
    maps.stats_fd = Fd(dup(bpf_map__fd(m.bt_stats)));
    maps.events_fd = Fd(dup(bpf_map__fd(m.bt_events)));
    maps.rejects_fd = Fd(dup(bpf_map__fd(m.bt_rejects)));
    if (const auto watched = maps.watch(Fd(dup(bpf_map__fd(m.bt_epoch)))); !watched && failure.empty())
        failure = watched.error().message;
    if (!failure.empty())
        return error(failure);
    return maps;
}

} // namespace btblock::bpf
