// SPDX-License-Identifier: MIT
// FlowList: flows in the order of their first packets, found by either direction's 5-tuple.
#pragma once

#include "btblock/abi.h"
#include "btblock/btblock.hpp"
#include "detect/Hash.h"
#include "detect/PageArray.h"
#include "detect/Slots.h"

#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

namespace btblock {

class FlowList {
public:
    // `hash` is hash_of(tuple) everywhere.
    // Null when there is none. A pointer stays good until the next flow is added.
    Flow* find(const bt_tuple& tuple, std::uint32_t hash) noexcept {
        const std::uint32_t number =
            slots_.find(either(hash), [&](std::uint32_t n) { return is(flows_[n - 1], tuple); });
        return number != 0 ? &flows_[number - 1] : nullptr;
    }
    // The flow, with nothing but its 5-tuple when it is new.
    std::pair<Flow*, bool> find_or_add(const bt_tuple& tuple, std::uint32_t hash) {
        if (Flow* known = find(tuple, hash))
            return {known, false};
        Flow& flow = flows_.add();
        flow.proto = static_cast<Transport>(tuple.proto);
        std::memcpy(flow.src.bytes.data(), tuple.src.b, sizeof tuple.src.b);
        std::memcpy(flow.dst.bytes.data(), tuple.dst.b, sizeof tuple.dst.b);
        flow.sport = tuple.sport;
        flow.dport = tuple.dport;
        slots_.add(either(hash), static_cast<std::uint32_t>(flows_.size()));
        return {&flow, true};
    }
    // Bring near what find() will need: first its slot, later, when that is there, its flow.
    void prefetch_slot(std::uint32_t hash) const noexcept { slots_.prefetch(either(hash)); }
    void prefetch_flow(std::uint32_t hash) const noexcept {
        slots_.find(either(hash), [&](std::uint32_t n) {
            const auto* at = reinterpret_cast<const char*>(&flows_[n - 1]);
            __builtin_prefetch(at);
            __builtin_prefetch(at + sizeof(Flow) - 1);
            return true;
        });
    }
    [[nodiscard]] std::span<const Flow> all() const noexcept { return {flows_.begin(), flows_.end()}; }
    std::vector<Flow> take() {
        slots_ = {};
        std::vector<Flow> taken(flows_.begin(), flows_.end());
        flows_.clear();
        return taken;
    }

private:
    static std::uint32_t either(std::uint32_t hash) noexcept { return hash & ~detect::direction; }
    static bool is(const Flow& flow, const bt_tuple& t) noexcept {
        const auto same = [](const IpAddress& a, const bt_addr& b) {
            return std::memcmp(a.bytes.data(), b.b, sizeof b.b) == 0;
        };
        if (static_cast<bt_u8>(flow.proto) != t.proto)
            return false;
        return (flow.sport == t.sport && flow.dport == t.dport && same(flow.src, t.src) && same(flow.dst, t.dst)) ||
               (flow.sport == t.dport && flow.dport == t.sport && same(flow.src, t.dst) && same(flow.dst, t.src));
    }
    detect::PageArray<Flow> flows_;
    detect::Slots slots_;
};

} // namespace btblock
