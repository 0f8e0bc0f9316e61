// SPDX-License-Identifier: MIT
// A hash table that grows up to a fixed capacity. When it is full an entry that was not used lately gives way.
#pragma once

#include "detect/Hash.h"
#include "detect/LargePages.h"
#include "detect/Slots.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

namespace btblock::detect {

// Keys and values are plain bytes; keys have no padding, so that comparing bytes is exact. Memory is taken in blocks of
// entries as they come, never for one entry, and never again once the capacity is reached. Second chance decides what
// gives way: a hand goes round and takes the first entry that was not looked up since it came by last.
template <class K, class V> class BoundedTable {
    static_assert(std::is_trivially_copyable_v<K> && std::is_trivially_copyable_v<V>);
    static_assert(std::has_unique_object_representations_v<K>);

public:
    explicit BoundedTable(std::size_t capacity)
        : capacity_(static_cast<std::uint32_t>(std::clamp<std::size_t>(capacity, 1, 1u << 28))) {}
    ~BoundedTable() {
        for (std::size_t k = 0; k < blocks_.size(); ++k)
            Memory{}.deallocate(blocks_[k], block_size(k));
    }
    BoundedTable(const BoundedTable&) = delete;
    BoundedTable& operator=(const BoundedTable&) = delete;

    // Null when there is none. A pointer stays good until its entry gives way to another.
    V* find(const K& key) noexcept { return find(key, hash_of(key)); }
    // With the key's hash_of().
    V* find(const K& key, std::uint32_t hash) noexcept {
        const std::uint32_t i =
            slots_.find(hash, [&](std::uint32_t n) { return std::memcmp(&entry(n).key, &key, sizeof key) == 0; });
        if (i == 0)
            return nullptr;
        Entry& e = entry(i);
        e.used = 1;
        return &e.value;
    }
    // A new entry is all zeros.
    V& operator[](const K& key) { return at(key, hash_of(key)); }
    V& at(const K& key, std::uint32_t hash) {
        if (V* known = find(key, hash))
            return *known;
        const std::uint32_t i = used_ < capacity_ ? grow() : make_room();
        Entry& e = entry(i);
        e.key = key;
        e.hash = hash;
        e.used = 1;
        e.value = V{};
        slots_.add(hash, i);
        return e.value;
    }
    // Bring near what find() will need: first its slot, later, when that is there, its entry.
    void prefetch_slot(std::uint32_t hash) const noexcept { slots_.prefetch(hash); }
    void prefetch_entry(std::uint32_t hash) noexcept {
        slots_.find(hash, [&](std::uint32_t n) {
            const auto* at = reinterpret_cast<const char*>(&entry(n));
            for (std::size_t line = 0; line < sizeof(Entry); line += 64)
                __builtin_prefetch(at + line);
            return true;
        });
    }
    [[nodiscard]] std::size_t size() const noexcept { return used_; }
    // Calls visit(key, value) for every entry, oldest memory first.
    template <class Visit> void for_each(Visit visit) {
        for (std::uint32_t i = 1; i <= used_; ++i)
            visit(std::as_const(entry(i).key), entry(i).value);
    }

private:
    struct Entry {
        K key;
        std::uint32_t hash;
        std::uint32_t used;
        V value;
    };

    using Memory = LargePages<Entry>;

    // Each block is twice as large as the one before it.
    static constexpr std::uint32_t first_block = 256; // a power of two
    static constexpr int first_bits = std::bit_width(first_block);
    static constexpr std::size_t block_size(std::size_t k) noexcept { return std::size_t{first_block} << k; }

    // Entries count from 1, so that 0 can mean none.
    Entry& entry(std::uint32_t i) noexcept {
        const std::uint32_t n = i - 1 + first_block;
        const int k = std::bit_width(n) - first_bits;
        return blocks_[static_cast<std::size_t>(k)][n - (first_block << k)];
    }

    std::uint32_t grow() {
        if (used_ + first_block == block_size(blocks_.size()))
            blocks_.push_back(Memory{}.allocate(block_size(blocks_.size())));
        return ++used_;
    }

    std::uint32_t make_room() noexcept {
        do
            hand_ = hand_ == capacity_ ? 1 : hand_ + 1;
        while (std::exchange(entry(hand_).used, 0u));
        slots_.remove(entry(hand_).hash, hand_);
        return hand_;
    }

    std::uint32_t capacity_;
    std::uint32_t used_ = 0;
    std::uint32_t hand_ = 0; // the entry that gave way last
    Slots slots_;
    std::vector<Entry*> blocks_;
};

} // namespace btblock::detect
