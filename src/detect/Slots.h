// SPDX-License-Identifier: MIT
// Slots: the numbers of entries, found by the hashes of their keys.
#pragma once

#include "detect/LargePages.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace btblock::detect {

// Open addressing, at most three quarters of the slots taken. A slot holds its hash, so that a key that is not there is
// rarely compared with one that is, and a larger table can be filled from the slots alone.
class Slots {
public:
    // The number for which is(number) is true, among those of this hash; 0: none.
    template <class Is> std::uint32_t find(std::uint32_t hash, Is is) const noexcept {
        for (std::size_t at = home(hash); slots_[at].number != 0; at = (at + 1) & mask())
            if (slots_[at].hash == hash && is(slots_[at].number))
                return slots_[at].number;
        return 0;
    }
    // Numbers count from 1.
    void add(std::uint32_t hash, std::uint32_t number) {
        if (4 * ++used_ > 3 * slots_.size()) {
            std::vector<Slot, LargePages<Slot>> old(2 * slots_.size());
            old.swap(slots_);
            for (const Slot& slot : old)
                if (slot.number != 0)
                    put(slot);
        }
        put({hash, number});
    }
    // It must be there.
    void remove(std::uint32_t hash, std::uint32_t number) noexcept {
        std::size_t hole = home(hash);
        while (slots_[hole].number != number)
            hole = (hole + 1) & mask();
        // Those behind it that would not be found beyond a hole move up.
        for (std::size_t at = (hole + 1) & mask(); slots_[at].number != 0; at = (at + 1) & mask())
            if (((at - home(slots_[at].hash)) & mask()) >= ((at - hole) & mask())) {
                slots_[hole] = slots_[at];
                hole = at;
            }
        slots_[hole] = {};
        --used_;
    }

    // Has the memory that find() will need brought near.
    void prefetch(std::uint32_t hash) const noexcept { __builtin_prefetch(&slots_[home(hash)]); }

private:
    struct Slot {
        std::uint32_t hash = 0;
        std::uint32_t number = 0; // 0: free
    };

    [[nodiscard]] std::size_t mask() const noexcept { return slots_.size() - 1; }
    // Where a search begins. The two directions of a connection (Hash.h) do at other places of the same cache line.
    [[nodiscard]] std::size_t home(std::uint32_t hash) const noexcept { return (hash ^ (hash >> 29 & 4)) & mask(); }
    void put(Slot slot) noexcept {
        std::size_t at = home(slot.hash);
        while (slots_[at].number != 0)
            at = (at + 1) & mask();
        slots_[at] = slot;
    }

    std::vector<Slot, LargePages<Slot>> slots_{256}; // a power of two of them
    std::size_t used_ = 0;
};

} // namespace btblock::detect
