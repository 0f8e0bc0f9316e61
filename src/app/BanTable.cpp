// SPDX-License-Identifier: MIT
#include "app/BanTable.h"

#include "core/Clock.h"

#include <algorithm>
#include <cstring>

namespace btblock::app {

namespace {

ListedBan listed(const bt_addr& key, const bt_ban& value) {
    policy::BanDecision target{net::Address(key), (value.flags & BT_BAN_SUBNET64) != 0, std::nullopt};
    if (value.port_count > 0)
        target.port = value.ports[0];
    return {target, value};
}

} // namespace

std::string ListedBan::text() const {
    if (target.subnet64)
        return target.address.to_string() + "/64";
    return target.port ? net::endpoint_string(target.address, *target.port) : target.address.to_string();
}

bt_ban merged_ban(const std::optional<bt_ban>& before, const policy::BanDecision& target, std::uint64_t expires_ns,
                  std::uint32_t evidence, const std::string& comment, bool manual, std::uint64_t now_ns) {
    const bool live = before && before->expires_ns > now_ns;
    bt_ban ban = live ? *before : bt_ban{};
    if (!live)
        ban.created_ns = now_ns;
    ban.expires_ns = live && !manual ? std::max<std::uint64_t>(ban.expires_ns, expires_ns) : expires_ns;
    ban.evidence |= evidence;
    if (target.subnet64)
        ban.flags |= BT_BAN_SUBNET64;
    if (manual)
        ban.flags |= BT_BAN_MANUAL;
    if (!comment.empty()) {
        std::memset(ban.comment, 0, sizeof ban.comment);
        comment.copy(ban.comment, sizeof ban.comment - 1);
    }
    if (!target.port) {
        ban.port_count = 0; // the whole address, also where only endpoints were banned before
    } else if (!live || ban.port_count > 0) {
        auto* const end = ban.ports + ban.port_count;
        if (std::find(ban.ports, end, *target.port) == end) {
            if (ban.port_count == BT_BAN_PORTS) { // the oldest makes room
                std::move(ban.ports + 1, end, ban.ports);
                --ban.port_count;
            }
            ban.ports[ban.port_count++] = *target.port;
        }
    }
    return ban;
}

Result<ListedBan> BanTable::add(const policy::BanDecision& target, std::optional<std::uint64_t> seconds,
                                std::uint32_t evidence, const std::string& comment, bool manual,
                                std::uint64_t now_ns) const {
    const bt_addr key = target.address.raw();
    auto found = map_.lookup(key);
    if (!found)
        return found.error();
    const std::uint64_t expires = seconds ? now_ns + *seconds * BT_NSEC_PER_SEC : never;
    const bt_ban ban = merged_ban(*found, target, expires, evidence, comment, manual, now_ns);
    auto stored = map_.update(key, ban);
    if (!stored) {
        auto room = make_room();
        if (!room)
            return room.error();
        if (*room == 0)
            return stored.error();
        if (auto again = map_.update(key, ban); !again)
            return again.error();
    }
    return listed(key, ban);
}

// The automatic bans that end first go, several at once: finding them means to look at all.
Result<std::size_t> BanTable::make_room() const {
    std::vector<std::pair<std::uint64_t, bt_addr>> automatic;
    auto walked = map_.for_each([&](const bt_addr& key, const bt_ban& ban) {
        if (!(ban.flags & BT_BAN_MANUAL))
            automatic.emplace_back(ban.expires_ns, key);
    });
    if (!walked)
        return walked.error();
    const std::size_t wanted = std::min<std::size_t>(automatic.size(), 1 + map_.capacity() / 256);
    std::nth_element(automatic.begin(), automatic.begin() + static_cast<std::ptrdiff_t>(wanted ? wanted - 1 : 0),
                     automatic.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::size_t gone = 0;
    for (std::size_t i = 0; i < wanted; ++i) {
        auto erased = map_.erase(automatic[i].second);
        if (!erased)
            return erased.error();
        gone += *erased;
    }
    return gone;
}

Result<bool> BanTable::remove(const policy::BanDecision& target) const {
    return map_.erase(target.address.raw());
}

Result<std::vector<ListedBan>> BanTable::list() const {
    std::vector<ListedBan> all;
    auto walked = map_.for_each([&](const bt_addr& key, const bt_ban& value) { all.push_back(listed(key, value)); });
    if (!walked)
        return walked.error();
    return all;
}

Result<std::vector<ListedBan>> BanTable::sweep(std::uint64_t now_ns) const {
    std::vector<ListedBan> gone;
    auto walked = map_.for_each([&](const bt_addr& key, const bt_ban& ban) {
        if (ban.expires_ns <= now_ns)
            gone.push_back(listed(key, ban));
    });
    if (!walked)
        return walked.error();
    std::erase_if(gone, [&](const ListedBan& ban) { return !map_.erase(ban.target.address.raw()); });
    return gone;
}

} // namespace btblock::app
