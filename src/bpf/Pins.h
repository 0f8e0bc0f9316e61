// SPDX-License-Identifier: MIT
// Where an instance keeps its pins, and its run-time and state directories.
#pragma once

#include "core/Result.h"

#include <string>
#include <vector>

namespace btblock::bpf {

inline constexpr const char* bpffs_root = "/sys/fs/bpf";

struct Pins {
    std::string instance;

    [[nodiscard]] std::string instance_dir() const; // /sys/fs/bpf/btblock/INSTANCE
    [[nodiscard]] std::string abi_dir() const;      // .../vN: maps of this ABI
    [[nodiscard]] std::string link_dir() const;     // .../vN/links
    [[nodiscard]] std::string map(const std::string& name) const { return abi_dir() + "/" + name; }
    // hook: "in", "out" or "xdp"; for clsact, which has no links, "filter_in", "filter_out" (the programs) and "qdisc"
    // (the qdisc is our making). bpffs refuses dots in names; interface names have no colon, so one stands for the
    // other.
    [[nodiscard]] std::string link(const std::string& interface, const std::string& hook) const;
    [[nodiscard]] std::string run_dir() const;   // /run/btblock/INSTANCE
    [[nodiscard]] std::string state_dir() const; // /var/lib/btblock/INSTANCE
};

struct PinnedLink {
    std::string path;
    std::string interface;
    std::string hook;
};

// Mounts bpffs at /sys/fs/bpf when nothing is mounted there, as bpftool does.
Result<void> ensure_bpffs();
// Makes the pin directories (mode 0700).
Result<void> make_pin_dirs(const Pins& pins);
// Links pinned by this ABI; an absent directory is an empty list.
std::vector<PinnedLink> pinned_links(const Pins& pins);
// Directories of other ABI versions of this instance, the newest first. Their layout is the same as ours: the links in
// links/, named by hook and interface, and the maps by their names.
std::vector<std::string> other_abi_dirs(const Pins& pins);
// Moves the links of other ABI versions to our directory, where an attachment finds them and puts the new program on
// them in place. What they run meanwhile stays as it is.
Result<void> adopt_links(const Pins& pins);
// Unlinks what other ABI versions left; only once nothing of it is needed.
Result<void> remove_other_abis(const Pins& pins);
// Names of instances that have pins, of any ABI.
std::vector<std::string> pinned_instances();
// True when this ABI's maps are pinned.
bool maps_pinned(const Pins& pins);
// Unlinks every pin of the instance, of every ABI version, links first. Returns how many there were.
Result<int> remove_pins(const Pins& pins);

} // namespace btblock::bpf
