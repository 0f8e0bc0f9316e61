// SPDX-License-Identifier: MIT
// ByteTable: a hash table that only grows, for keys that are plain bytes without padding. A lookup costs two cache
// misses, one for its slot and one for its entry; addresses of values stay valid.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <type_traits>
#include <vector>

namespace btblock {

template <class K, class V> class ByteTable {
    static_assert(std::has_unique_object_representations_v<K>, "keys are hashed and compared as bytes");

public:
    [[nodiscard]] V* find(const K& key) const {
        const Slot& slot = slots_[place(key, hash(key))];
        return slot.number ? &entry(slot.number).value : nullptr;
    }
    // The value of a key, made from its default if need be.
    V& operator[](const K& key) {
        const std::uint32_t h = hash(key);
        std::size_t at = place(key, h);
        if (slots_[at].number == 0) {
            if (used_ >= slots_.size() / 2) {
                grow();
                at = place(key, h);
            }
            if (used_ % in_chunk == 0)
                chunks_.push_back(std::make_unique<Entry[]>(in_chunk));
            slots_[at] = {h, ++used_};
            entry(used_).key = key;
        }
        return entry(slots_[at].number).value;
    }
    [[nodiscard]] std::size_t size() const { return used_; }
    // In the order of their making.
    template <class Visit> void for_each(Visit visit) const {
        for (std::uint32_t number = 1; number <= used_; ++number)
            visit(entry(number).value);
    }

private:
    static constexpr std::uint32_t in_chunk = 1024;

    struct Entry {
        K key{};
        V value{};
    };
    struct Slot {
        std::uint32_t hash = 0;
        std::uint32_t number = 0; // of the entry, from 1; 0: empty
    };

    [[nodiscard]] Entry& entry(std::uint32_t number) const {
        return chunks_[(number - 1) / in_chunk][(number - 1) % in_chunk];
    }
    // Seeded, so that nobody can choose keys that fall into one place.
    [[nodiscard]] std::uint32_t hash(const K& key) const {
        std::uint64_t h = seed_;
        const auto mix = [&](std::uint64_t word) {
            h = (h ^ word) * 0x9e3779b97f4a7c15ull;
            h ^= h >> 29;
        };
        const auto* bytes = reinterpret_cast<const unsigned char*>(&key);
        std::uint64_t word;
        for (std::size_t at = 0; at + 8 <= sizeof key; at += 8) {
            std::memcpy(&word, bytes + at, 8);
            mix(word);
        }
        if constexpr (sizeof(K) % 8 != 0) {
            word = 0;
            std::memcpy(&word, bytes + sizeof key / 8 * 8, sizeof key % 8);
            mix(word);
        }
        return static_cast<std::uint32_t>(h * 0xbf58476d1ce4e5b9ull >> 32);
    }
    // The key's slot, or the empty one where it belongs.
    [[nodiscard]] std::size_t place(const K& key, std::uint32_t h) const {
        std::size_t at = h & (slots_.size() - 1);
        while (slots_[at].number != 0 &&
               (slots_[at].hash != h || std::memcmp(&entry(slots_[at].number).key, &key, sizeof key) != 0))
            at = (at + 1) & (slots_.size() - 1);
        return at;
    }
    void grow() {
        std::vector<Slot> before(slots_.size() * 2);
        before.swap(slots_);
        for (const Slot& slot : before) {
            if (slot.number == 0)
                continue;
            std::size_t at = slot.hash & (slots_.size() - 1);
            while (slots_[at].number != 0)
                at = (at + 1) & (slots_.size() - 1);
            slots_[at] = slot;
        }
    }

    std::uint64_t seed_ = static_cast<std::uint64_t>(std::random_device{}()) << 32 | std::random_device{}();
    std::vector<Slot> slots_ = std::vector<Slot>(64);
    std::vector<std::unique_ptr<Entry[]>> chunks_;
    std::uint32_t used_ = 0;
};

} // namespace btblock
