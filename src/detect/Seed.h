// SPDX-License-Identifier: MIT
// A random number for hash tables, so that nobody outside can choose keys that fall into one bucket.
#pragma once

#include <cstdint>
#include <random>

namespace btblock::detect {

// One for the process: opening the source costs more than a small capture.
inline std::uint64_t process_seed() {
    static const std::uint64_t seed = [] {
        std::random_device source;
        return static_cast<std::uint64_t>(source()) << 32 | source();
    }();
    return seed;
}

} // namespace btblock::detect
