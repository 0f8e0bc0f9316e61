// SPDX-License-Identifier: MIT
// FlowList: flows in the order of their first packets, found by either direction's 5-tuple.
#pragma once

#include "btblock/abi.h"
#include "btblock/btblock.hpp"
#include "detect/LargePages.h"
#include "detect/Seed.h"

#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

namespace btblock {

class FlowList {
public:
    FlowList() : seed_(detect::process_seed()), slots_(1024) {}

    // Null when there is none. A pointer stays good until the next flow is added.
    Flow* find(const bt_tuple& tuple) noexcept {
        const std::uint64_t hash = hash_of(tuple);
        for (std::size_t at = hash & mask(); slots_[at].number != 0; at = (at + 1) & mask())
            if (slots_[at].tag == tag(hash) && is(flows_[slots_[at].number - 1], tuple))
                return &flows_[slots_[at].number - 1];
        return nullptr;
    }
    // The flow, with nothing but its 5-tuple when it is new.
    std::pair<Flow*, bool> find_or_add(const bt_tuple& tuple) {
        if (Flow* known = find(tuple))
            return {known, false};
        if (2 * (flows_.size() + 1) > slots_.size()) {
            slots_.assign(4 * slots_.size(), {});
            for (std::uint32_t i = 1; i <= flows_.size(); ++i)
                put(hash_of(tuple_of(flows_[i - 1])), i);
        }
        Flow& flow = flows_.emplace_back();
        flow.proto = static_cast<Transport>(tuple.proto);
        std::memcpy(flow.src.bytes.data(), tuple.src.b, sizeof tuple.src.b);
        std::memcpy(flow.dst.bytes.data(), tuple.dst.b, sizeof tuple.dst.b);
        flow.sport = tuple.sport;
        flow.dport = tuple.dport;
        put(hash_of(tuple), static_cast<std::uint32_t>(flows_.size()));
        return {&flow, true};
    }
    [[nodiscard]] std::span<const Flow> all() const noexcept { return flows_; }
    std::vector<Flow> take() {
        slots_.assign(1024, {});
        std::vector<Flow> taken(flows_.begin(), flows_.end());
        flows_ = {};
        return taken;
    }

private:
    struct Slot {
        std::uint32_t tag = 0;    // of the hash, so that other flows are rarely looked at
        std::uint32_t number = 0; // in flows_, from 1; 0: free
    };

    [[nodiscard]] std::size_t mask() const noexcept { return slots_.size() - 1; }
    static std::uint32_t tag(std::uint64_t hash) noexcept { return static_cast<std::uint32_t>(hash >> 32); }

    [[nodiscard]] std::uint64_t hash_of(const bt_addr& address, std::uint16_t port) const noexcept {
        std::uint64_t words[2];
        std::memcpy(words, address.b, sizeof words);
        std::uint64_t h = (seed_ ^ words[0] ^ port) * 0x9e3779b97f4a7c15ull;
        h = ((h ^ h >> 29) ^ words[1]) * 0xbf58476d1ce4e5b9ull;
        return h ^ h >> 32;
    }
    // The same for both directions.
    [[nodiscard]] std::uint64_t hash_of(const bt_tuple& t) const noexcept {
        const std::uint64_t h = (hash_of(t.src, t.sport) + hash_of(t.dst, t.dport) + t.proto) * 0x9e3779b97f4a7c15ull;
        return h ^ h >> 29;
    }
    static bt_tuple tuple_of(const Flow& flow) noexcept {
        bt_tuple t{};
        std::memcpy(t.src.b, flow.src.bytes.data(), sizeof t.src.b);
        std::memcpy(t.dst.b, flow.dst.bytes.data(), sizeof t.dst.b);
        t.sport = flow.sport;
        t.dport = flow.dport;
        t.proto = static_cast<bt_u8>(flow.proto);
        return t;
    }
    static bool is(const Flow& flow, const bt_tuple& t) noexcept {
        const auto same = [](const IpAddress& a, const bt_addr& b) {
            return std::memcmp(a.bytes.data(), b.b, sizeof b.b) == 0;
        };
        if (static_cast<bt_u8>(flow.proto) != t.proto)
            return false;
        return (flow.sport == t.sport && flow.dport == t.dport && same(flow.src, t.src) && same(flow.dst, t.dst)) ||
               (flow.sport == t.dport && flow.dport == t.sport && same(flow.src, t.dst) && same(flow.dst, t.src));
    }
    void put(std::uint64_t hash, std::uint32_t number) noexcept {
        std::size_t at = hash & mask();
        while (slots_[at].number != 0)
            at = (at + 1) & mask();
        slots_[at] = {tag(hash), number};
    }

    std::uint64_t seed_;
    std::vector<Flow, detect::LargePages<Flow>> flows_;
    std::vector<Slot, detect::LargePages<Slot>> slots_; // as many as a power of two, at most half of them taken
};

} // namespace btblock
