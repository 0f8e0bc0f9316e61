// SPDX-License-Identifier: MIT
// Hashes of keys, with a random number of the process in them.
#pragma once

#include "btblock/abi.h"
#include "detect/Seed.h"

#include <cstdint>
#include <cstring>

namespace btblock::detect {

// Of any key of plain bytes without padding.
template <class K> std::uint32_t hash_of(const K& key) noexcept {
    std::uint64_t words[(sizeof(K) + 7) / 8] = {};
    std::memcpy(words, &key, sizeof key);
    std::uint64_t h = process_seed();
    for (const std::uint64_t w : words) {
        h = (h ^ w) * 0x9e3779b97f4a7c15ull;
        h ^= h >> 29;
    }
    return static_cast<std::uint32_t>(h * 0xbf58476d1ce4e5b9ull >> 32);
}

inline constexpr std::uint32_t direction = 0x80000000u;

// The two directions of a connection differ in the highest bit only, so that both are found near each other (Slots.h).
inline std::uint32_t hash_of(const bt_tuple& t) noexcept {
    const auto end = [](const bt_addr& address, std::uint16_t port) {
        std::uint64_t words[2];
        std::memcpy(words, address.b, sizeof words);
        std::uint64_t h = (process_seed() ^ words[0] ^ port) * 0x9e3779b97f4a7c15ull;
        h = ((h ^ h >> 29) ^ words[1]) * 0xbf58476d1ce4e5b9ull;
        return h ^ h >> 32;
    };
    const std::uint64_t src = end(t.src, t.sport), dst = end(t.dst, t.dport);
    const std::uint64_t h = (src + dst + t.proto) * 0x9e3779b97f4a7c15ull;
    return (static_cast<std::uint32_t>(h >> 32) & ~direction) | (src < dst ? direction : 0);
}

// Of the other direction; `hash` is that of this one. Between the two ends of one socket there is none.
inline std::uint32_t mirror_hash(const bt_tuple& t, std::uint32_t hash) noexcept {
    const bool one = t.sport == t.dport && std::memcmp(&t.src, &t.dst, sizeof t.src) == 0;
    return one ? hash : hash ^ direction;
}

} // namespace btblock::detect
