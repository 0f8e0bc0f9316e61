// SPDX-License-Identifier: MIT
// BanTable: bans in the kernel's map, added, removed, swept, with room made when it is full.
#pragma once

#include "bpf/Maps.h"
#include "core/Result.h"
#include "policy/BanPolicy.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace btblock::app {

struct ListedBan {
    policy::BanDecision target;
    bt_ban value;

    // "192.0.2.7", "2001:db8::/64", "192.0.2.7:6881"
    [[nodiscard]] std::string text() const;
};

// What is in force when a ban is added to what stood there before: the longer time of two automatic ones, all ports.
// A manual one sets the time.
bt_ban merged_ban(const std::optional<bt_ban>& before, const policy::BanDecision& target, std::uint64_t expires_ns,
                  std::uint32_t evidence, const std::string& comment, bool manual, std::uint64_t now_ns);

class BanTable {
public:
    // map: not owned.
    explicit BanTable(const bpf::WatchedMap<bt_addr, bt_ban>& map) : map_(map) {}

    // seconds: empty means for ever. A second ban of an address extends the first and adds its port.
    // When the map is full the automatic bans that end first make room; only manual ones left is an error.
    Result<ListedBan> add(const policy::BanDecision& target, std::optional<std::uint64_t> seconds,
                          std::uint32_t evidence, const std::string& comment, bool manual, std::uint64_t now_ns) const;
    // False: it was not banned.
    Result<bool> remove(const policy::BanDecision& target) const;
    // Removes what has expired and returns it.
    Result<std::vector<ListedBan>> sweep(std::uint64_t now_ns) const;
    Result<std::vector<ListedBan>> list() const;

private:
    Result<std::size_t> make_room() const;

    const bpf::WatchedMap<bt_addr, bt_ban>& map_;
};

} // namespace btblock::app
