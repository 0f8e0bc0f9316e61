// SPDX-License-Identifier: MIT
#include "app/BanTable.h"

#include <algorithm>
#include <cstring>

namespace btblock::app {

namespace {

constexpr std::uint64_t never = ~0ULL;

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

Result<ListedBan> BanTable::add(const policy::BanDecision& target, std::optional<std::uint64_t> seconds,
                                std::uint32_t evidence, const std::string& comment, bool manual,
                                std::uint64_t now_ns) const {
    const bt_addr key = target.address.raw();
    auto found = map_.lookup(key);
    if (!found)
        return found.error();
    const bool live = found->has_value() && (*found)->expires_ns > now_ns;
    bt_ban ban = live ? **found : bt_ban{};
    if (!live)
        ban.created_ns = now_ns;
    const std::uint64_t expires = seconds ? now_ns + *seconds * BT_NSEC_PER_SEC : never;
    ban.expires_ns = live && !manual ? std::max<std::uint64_t>(ban.expires_ns, expires) : expires;
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
    auto stored = map_.update(key, ban);
    if (!stored) {
        auto all = list();
        if (!all)
            return all.error();
        const ListedBan* first = nullptr;
        for (const ListedBan& candidate : *all)
            if (!(candidate.value.flags & BT_BAN_MANUAL) &&
                (!first || candidate.value.expires_ns < first->value.expires_ns))
                first = &candidate;
        if (!first)
            return stored.error();
        if (auto erased = map_.erase(first->target.address.raw()); !erased)
            return erased.error();
        if (auto again = map_.update(key, ban); !again)
            return again.error();
    }
    return listed(key, ban);
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
    auto all = list();
    if (!all)
        return all;
    std::vector<ListedBan> gone;
    for (ListedBan& ban : *all)
        if (ban.value.expires_ns <= now_ns && map_.erase(ban.target.address.raw()))
            gone.push_back(std::move(ban));
    return gone;
}

} // namespace btblock::app
