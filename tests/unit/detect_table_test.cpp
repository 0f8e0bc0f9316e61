// SPDX-License-Identifier: MIT
// What the tables of flows are made of.
#include "detect/BoundedTable.h"
#include "detect/Hash.h"
#include "detect/PageArray.h"
#include "detect/Slots.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <random>
#include <unordered_map>

namespace btblock::detect {
namespace {

bt_tuple tuple(std::uint8_t src, std::uint16_t sport, std::uint8_t dst, std::uint16_t dport) {
    bt_tuple t{};
    t.src.b[15] = src;
    t.dst.b[15] = dst;
    t.sport = sport;
    t.dport = dport;
    t.proto = IPPROTO_TCP;
    return t;
}

TEST(Hash, OfBothDirections) {
    for (std::uint8_t host = 1; host < 200; ++host) {
        const bt_tuple there = tuple(host, 1000, 7, 80), back = tuple(7, 80, host, 1000);
        EXPECT_EQ(mirror_hash(there, hash_of(there)), hash_of(back));
        EXPECT_EQ(mirror_hash(back, hash_of(back)), hash_of(there));
        EXPECT_EQ(hash_of(there) & ~direction, hash_of(back) & ~direction);
    }
    const bt_tuple itself = tuple(7, 80, 7, 80);
    EXPECT_EQ(mirror_hash(itself, hash_of(itself)), hash_of(itself));
    EXPECT_NE(hash_of(tuple(1, 1, 2, 2)), hash_of(tuple(1, 2, 2, 1))) << "ports belong to their addresses";
}

// Against a table that is known to work, with hashes that collide all the time.
TEST(Slots, FindWhatIsThereAndNothingElse) {
    std::mt19937 random(3);
    Slots slots;
    std::unordered_map<std::uint32_t, std::uint32_t> known; // number: hash
    for (std::uint32_t step = 1; step <= 20000; ++step) {
        if (known.size() < 3 || random() % 5 < 3) {
            const auto hash =
                static_cast<std::uint32_t>(random() % 512 << (random() % 2 * 22)) | (random() % 2 ? direction : 0);
            slots.add(hash, step);
            known[step] = hash;
        } else {
            const auto gone =
                std::next(known.begin(), static_cast<long>(random() % std::min<std::size_t>(known.size(), 50)));
            slots.remove(gone->second, gone->first);
            known.erase(gone);
        }
        if (step % 1000 != 0)
            continue;
        for (const auto& [number, hash] : known)
            ASSERT_EQ(slots.find(hash, [&](std::uint32_t n) { return n == number; }), number);
        for (std::uint32_t hash = 0; hash < 512; ++hash)
            slots.find(hash, [&](std::uint32_t n) {
                EXPECT_EQ(known.count(n), 1u);
                EXPECT_EQ(known[n], hash);
                return false;
            });
    }
}

TEST(BoundedTable, KeepsWhatIsUsedWhenItIsFull) {
    BoundedTable<bt_tuple, std::uint64_t> table(100);
    const bt_tuple busy = tuple(1, 1, 2, 2);
    table[tuple(9, 9, 9, 9)] = 9; // the first to go when all are used
    table[busy] = 77;
    for (std::uint16_t port = 1; port <= 5000; ++port) {
        const bt_tuple t = tuple(3, port, 4, 4);
        table[t] = port;
        ASSERT_NE(table.find(busy), nullptr) << port;
        ASSERT_EQ(*table.find(busy), 77u);
        ASSERT_EQ(*table.find(t), port);
    }
    EXPECT_EQ(table.size(), 100u);
    std::size_t entries = 0;
    table.for_each([&](const bt_tuple& key, std::uint64_t value) {
        ++entries;
        EXPECT_TRUE(key.sport == 1 || value == key.sport);
    });
    EXPECT_EQ(entries, 100u);
}

TEST(PageArray, KeepsItsValuesAsItGrows) {
    struct Value {
        std::uint64_t number = 5;
        std::uint64_t more[2] = {6, 7};
    };
    PageArray<Value> values;
    EXPECT_EQ(values.begin(), values.end());
    constexpr std::size_t many = 300'000; // several large pages
    for (std::size_t i = 0; i < many; ++i) {
        Value& fresh = values.add();
        ASSERT_EQ(fresh.number, 5u);
        ASSERT_EQ(fresh.more[1], 7u);
        fresh.number = i;
    }
    ASSERT_EQ(values.size(), many);
    for (std::size_t i = 0; i < many; ++i)
        ASSERT_EQ(values[i].number, i);
    values.clear();
    EXPECT_EQ(values.size(), 0u);
    EXPECT_EQ(values.add().number, 5u);
}

} // namespace
} // namespace btblock::detect
