// SPDX-License-Identifier: MIT
#include "policy/BanPolicy.h"

#include <algorithm>

namespace btblock::policy {

namespace {

constexpr std::size_t max_ledgers = 65536;

bool any_contains(const std::vector<net::Prefix>& prefixes, const net::Address& address) {
    return std::any_of(prefixes.begin(), prefixes.end(), [&](const net::Prefix& p) { return p.contains(address); });
}

} // namespace

BanPolicy::BanPolicy(const Config& config, std::vector<net::Prefix> inside, std::vector<net::Prefix> never)
    : ban_(config.ban), whitelist_ports_(config.whitelist_ports), inside_(std::move(inside)), never_(std::move(never)) {
}

bool BanPolicy::is_protected(const net::Address& address) const {
    return any_contains(never_, address);
}

bool BanPolicy::is_inside(const net::Address& address) const {
    return any_contains(inside_, address);
}

BanDecision BanPolicy::target_of(const net::Address& address) const {
    if (address.is_v4())
        return {address, false, std::nullopt};
    const net::Prefix subnet(address, 64);
    const auto touches = [&](const net::Prefix& p) {
        return !p.address().is_v4() && p.length() > 0 && (subnet.contains(p.address()) || p.contains(subnet.address()));
    };
    if (std::any_of(never_.begin(), never_.end(), touches) || std::any_of(inside_.begin(), inside_.end(), touches))
        return {address, false, std::nullopt};
    return {subnet.address(), true, std::nullopt};
}

std::optional<BanDecision> BanPolicy::decide(const bt_event& event, bool host_evidence, std::uint64_t now_ns) {
    if (ban_.target == BanTarget::none || !host_evidence || !(event.evidence & ban_evidence))
        return std::nullopt;
    const bt_tuple& t = event.tuple;
    const net::Address src(t.src);
    const net::Address dst(t.dst);
    const bool src_inside = is_inside(src);
    const bool dst_inside = is_inside(dst);
    bool take_src = true;
    switch (ban_.target) {
    case BanTarget::source: break;
    case BanTarget::client:
        if (!src_inside && !dst_inside)
            return std::nullopt;
        take_src = src_inside;
        break;
    default: // the peer: the end that is not inside
        if (src_inside && dst_inside)
            return std::nullopt;
        take_src = !src_inside;
    }
    const net::Address& target = take_src ? src : dst;
    const std::uint16_t port = take_src ? t.sport : t.dport;
    const auto is_whitelisted = [&](std::uint16_t p) {
        return std::find(whitelist_ports_.begin(), whitelist_ports_.end(), p) != whitelist_ports_.end();
    };
    // The service port tells what the address is for, whichever end is to be banned.
    if (is_whitelisted(t.sport) || is_whitelisted(t.dport) || is_protected(target))
        return std::nullopt;
    if (ban_.after > 1) {
        if (ledgers_.size() >= max_ledgers)
            ledgers_.clear();
        auto& times = ledgers_[target.to_string()].times;
        times.push_back(now_ns);
        while (now_ns - times.front() > window_ns)
            times.pop_front();
        if (times.size() < ban_.after)
            return std::nullopt;
        times.clear();
    }
    BanDecision decision = target_of(target);
    if (ban_.scope == BanScope::endpoint) {
        decision.address = target;
        decision.subnet64 = false;
        decision.port = port;
    }
    return decision;
}

std::uint64_t BanPolicy::duration(const BanDecision& target, std::uint64_t now_ns) {
    if (ban_.growth <= 1)
        return ban_.duration;
    if (records_.size() >= max_ledgers)
        std::erase_if(records_, [&](const auto& record) { return record.second.forget_ns <= now_ns; });
    if (records_.size() >= max_ledgers)
        records_.clear();
    Record& record = records_[target.address.to_string()];
    if (record.forget_ns <= now_ns)
        record = {.seconds = ban_.duration};
    else if (record.in_force_ns <= now_ns) // it came back: a finding while it is banned is no repetition
        record.seconds = std::min(record.seconds * ban_.growth, std::max(ban_.max_duration, ban_.duration));
    record.in_force_ns = now_ns + record.seconds * BT_NSEC_PER_SEC;
    record.forget_ns = record.in_force_ns + record.seconds * BT_NSEC_PER_SEC;
    return record.seconds;
}

void BanPolicy::reconfigure(const Config& config) {
    ban_ = config.ban;
    whitelist_ports_ = config.whitelist_ports;
}

} // namespace btblock::policy
