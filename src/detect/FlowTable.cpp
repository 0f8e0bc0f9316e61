// SPDX-License-Identifier: MIT
#include "detect/FlowTable.h"

#include "detect/Hash.h"

#include <algorithm>
#include <cstring>
#include <netinet/in.h>
#include <new>
#include <sys/mman.h>
#include <type_traits>

namespace btblock::detect {

static_assert(std::is_trivially_destructible_v<FlowContext>, "entries are never destroyed");

FlowTable::FlowTable(std::size_t capacity)
    : capacity_(std::clamp<std::size_t>(capacity, 1, 1u << 24)), buffers_(capacity_) {
    const std::size_t bytes = capacity_ * sizeof(Entry);
    entries_.reset(static_cast<Entry*>(::operator new[](bytes, std::align_val_t{page})));
    // Entries are met in random order: with small pages most of the time goes into finding where they are. A few do
    // without: a large page must be cleared as a whole.
    if (bytes > page)
        ::madvise(reinterpret_cast<char*>(entries_.get()) + page, bytes - page, MADV_HUGEPAGE);
}

// nil: none.
std::uint32_t FlowTable::lookup(const bt_tuple& tuple, std::uint32_t hash) const noexcept {
    static_assert(nil == 0u - 1);
    return slots_.find(hash, [&](std::uint32_t n) {
        return std::memcmp(&entries_[n - 1].key, &tuple, sizeof tuple) == 0;
    }) - 1;
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

// Forgets everything.
void FlowTable::start(FlowContext& flow) noexcept {
    flow.stream.reset();
    ::new (&flow) FlowContext(buffers_);
}

FlowContext& FlowTable::touch(const bt_tuple& tuple, std::uint64_t now_ns) noexcept {
    const std::uint32_t hash = hash_of(tuple);
    std::uint32_t i = lookup(tuple, hash);
    if (i != nil) {
        unlink_age(i);
        if (is_idle(entries_[i], now_ns))
            start(entries_[i].context);
    } else {
        if (used_ < capacity_) {
            i = static_cast<std::uint32_t>(used_++);
            ::new (static_cast<void*>(&entries_[i])) Entry{tuple, hash, nil, nil, FlowContext(buffers_)};
        } else {
            i = oldest_;
            unlink_age(i);
            slots_.remove(entries_[i].hash, i + 1);
            start(entries_[i].context);
            entries_[i].key = tuple;
            entries_[i].hash = hash;
        }
        slots_.add(hash, i + 1);
    }
    make_newest(i);
    entries_[i].context.last_seen_ns = now_ns;
    return entries_[i].context;
}

void FlowTable::renew(FlowContext& flow) noexcept {
    const std::uint64_t seen = flow.last_seen_ns;
    start(flow);
    flow.last_seen_ns = seen;
}

const FlowContext* FlowTable::find(const bt_tuple& tuple, std::uint64_t now_ns) const noexcept {
    const std::uint32_t i = lookup(tuple, hash_of(tuple));
    return i == nil || is_idle(entries_[i], now_ns) ? nullptr : &entries_[i].context;
}

} // namespace btblock::detect
