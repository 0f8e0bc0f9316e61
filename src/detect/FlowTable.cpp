// SPDX-License-Identifier: MIT
#include "detect/FlowTable.h"

#include "detect/Seed.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <netinet/in.h>
#include <new>
#include <sys/mman.h>
#include <type_traits>

namespace btblock::detect {

static_assert(std::is_trivially_destructible_v<FlowContext>, "entries are never destroyed");

FlowTable::FlowTable(std::size_t capacity)
    : capacity_(std::clamp<std::size_t>(capacity, 1, 1u << 24)), seed_(process_seed()) {
    const std::size_t buckets = std::bit_ceil(capacity_ + capacity_ / 2);
    mask_ = static_cast<std::uint32_t>(buckets - 1);
    buckets_ = std::make_unique_for_overwrite<std::uint32_t[]>(buckets);
    std::fill_n(buckets_.get(), buckets, nil);
    const std::size_t bytes = capacity_ * sizeof(Entry);
    entries_.reset(static_cast<Entry*>(::operator new[](bytes, std::align_val_t{page})));
    // Entries are met in random order: with small pages most of the time goes into finding where they are.
    if (bytes >= page)
        ::madvise(entries_.get(), bytes, MADV_HUGEPAGE);
}

std::uint32_t FlowTable::bucket_of(const bt_tuple& tuple) const noexcept {
    std::uint64_t words[sizeof(bt_tuple) / 8];
    static_assert(sizeof words == sizeof(bt_tuple));
    std::memcpy(words, &tuple, sizeof words);
    std::uint64_t h = seed_;
    for (const std::uint64_t w : words) {
        h = (h ^ w) * 0x9e3779b97f4a7c15ull;
        h ^= h >> 29;
    }
    h *= 0xbf58476d1ce4e5b9ull;
    return static_cast<std::uint32_t>(h >> 32) & mask_;
}

std::uint32_t FlowTable::lookup(const bt_tuple& tuple, std::uint32_t bucket) const noexcept {
    std::uint32_t i = buckets_[bucket];
    while (i != nil && std::memcmp(&entries_[i].key, &tuple, sizeof tuple) != 0)
        i = entries_[i].next_in_bucket;
    return i;
}

bool FlowTable::is_idle(const Entry& entry, std::uint64_t now_ns) const noexcept {
    const std::uint64_t limit = entry.key.proto == IPPROTO_UDP ? BT_UDP_IDLE_NS : tcp_idle_ns;
    const std::uint64_t last = entry.context.last_seen_ns;
    return now_ns > last && now_ns - last > limit;
}

void FlowTable::unlink_age(std::uint32_t index) noexcept {
    Entry& e = entries_[index];
    (e.newer == nil ? newest_ : entries_[e.newer].older) = e.older;
    (e.older == nil ? oldest_ : entries_[e.older].newer) = e.newer;
}

void FlowTable::make_newest(std::uint32_t index) noexcept {
    Entry& e = entries_[index];
    e.newer = nil;
    e.older = newest_;
    (newest_ == nil ? oldest_ : entries_[newest_].newer) = index;
    newest_ = index;
}

void FlowTable::remove_from_bucket(std::uint32_t index) noexcept {
    std::uint32_t* at = &buckets_[bucket_of(entries_[index].key)];
    while (*at != index)
        at = &entries_[*at].next_in_bucket;
    *at = entries_[index].next_in_bucket;
}

FlowContext& FlowTable::touch(const bt_tuple& tuple, std::uint64_t now_ns) noexcept {
    const std::uint32_t bucket = bucket_of(tuple);
    std::uint32_t i = lookup(tuple, bucket);
    if (i != nil) {
        unlink_age(i);
        if (is_idle(entries_[i], now_ns))
            ::new (&entries_[i].context) FlowContext;
    } else {
        if (used_ < capacity_) {
            i = static_cast<std::uint32_t>(used_++);
            ::new (static_cast<void*>(&entries_[i])) Entry;
        } else {
            i = oldest_;
            unlink_age(i);
            remove_from_bucket(i);
            ::new (&entries_[i].context) FlowContext;
        }
        entries_[i].key = tuple;
        entries_[i].next_in_bucket = buckets_[bucket];
        buckets_[bucket] = i;
    }
    make_newest(i);
    entries_[i].context.last_seen_ns = now_ns;
    return entries_[i].context;
}

void FlowTable::renew(FlowContext& flow) noexcept {
    const std::uint64_t seen = flow.last_seen_ns;
    ::new (&flow) FlowContext;
    flow.last_seen_ns = seen;
}

const FlowContext* FlowTable::find(const bt_tuple& tuple, std::uint64_t now_ns) const noexcept {
    const std::uint32_t i = lookup(tuple, bucket_of(tuple));
    return i == nil || is_idle(entries_[i], now_ns) ? nullptr : &entries_[i].context;
}

} // namespace btblock::detect
