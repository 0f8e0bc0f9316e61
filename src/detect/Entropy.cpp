// SPDX-License-Identifier: MIT
#include "detect/Entropy.h"

#include <algorithm>
#include <bit>

namespace btblock::detect {

double bits_per_byte(Bytes bytes) noexcept {
    if (bytes.empty())
        return 0;
    std::size_t bits = 0;
    for (const std::uint8_t b : bytes)
        bits += static_cast<std::size_t>(std::popcount(b));
    return static_cast<double>(bits) / static_cast<double>(bytes.size());
}

std::size_t printable_prefix(Bytes bytes) noexcept {
    return static_cast<std::size_t>(std::find_if_not(bytes.begin(), bytes.end(), is_printable) - bytes.begin());
}

double printable_share(Bytes bytes) noexcept {
    if (bytes.empty())
        return 0;
    const auto n = std::count_if(bytes.begin(), bytes.end(), is_printable);
    return static_cast<double>(n) / static_cast<double>(bytes.size());
}

std::size_t longest_printable_run(Bytes bytes) noexcept {
    std::size_t longest = 0, run = 0;
    for (const std::uint8_t b : bytes) {
        run = is_printable(b) ? run + 1 : 0;
        longest = std::max(longest, run);
    }
    return longest;
}

bool looks_random(Bytes bytes) noexcept {
    if (bytes.size() < 32)
        return false;
    const double mean = bits_per_byte(bytes);
    return mean > 3.4 && mean < 4.6 && printable_prefix(bytes) < 6 && printable_share(bytes) <= 0.5 &&
           longest_printable_run(bytes) <= 20;
}

} // namespace btblock::detect
