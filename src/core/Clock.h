// SPDX-License-Identifier: MIT
// The two clocks: the kernel programs' CLOCK_MONOTONIC and the wall clock of people and logs.
#pragma once

#include <cstdint>
#include <ctime>

namespace btblock {

inline constexpr std::uint64_t never = ~std::uint64_t{0}; // when what does not expire expires, by either clock

// Nanoseconds of the same clock that bpf_ktime_get_ns() and its coarse sibling read.
inline std::uint64_t monotonic_ns() noexcept {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
}

// Nanoseconds since the epoch.
inline std::uint64_t wall_ns() noexcept {
    timespec t{};
    clock_gettime(CLOCK_REALTIME, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
}

} // namespace btblock
