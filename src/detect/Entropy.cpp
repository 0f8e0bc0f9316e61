// SPDX-License-Identifier: MIT
#include "detect/Entropy.h"

#include <algorithm>
#include <cstring>

namespace btblock::detect {

namespace {

// Sum of count(eight bytes as one number), which answers with a number in each byte, at most 8.
template <class Count> std::size_t sum_by_eight(Bytes bytes, Count count) noexcept {
    std::size_t sum = 0, at = 0;
    std::uint64_t word = 0;
    for (; at + 8 <= bytes.size(); at += 8) {
        std::memcpy(&word, bytes.data() + at, 8);
        sum += count(word) * 0x0101010101010101ull >> 56;
    }
    word = 0; // what is missing of the last eight is zero: no bits, not printable
    std::memcpy(&word, bytes.data() + at, bytes.size() - at);
    sum += count(word) * 0x0101010101010101ull >> 56;
    return sum;
}

std::uint64_t bits_of_each(std::uint64_t v) noexcept {
    v -= v >> 1 & 0x5555555555555555ull;
    v = (v & 0x3333333333333333ull) + (v >> 2 & 0x3333333333333333ull);
    return (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0full;
}

// 1 in each byte that is 0x20 to 0x7e.
std::uint64_t printable_of_each(std::uint64_t v) noexcept {
    const std::uint64_t low = v & 0x7f7f7f7f7f7f7f7full;
    const std::uint64_t from_space = low + 0x6060606060606060ull; // top bit: 0x20 and more
    const std::uint64_t is_delete = low + 0x0101010101010101ull;  // top bit: 0x7f
    return (from_space & ~is_delete & ~v) >> 7 & 0x0101010101010101ull;
}

} // namespace

double bits_per_byte(Bytes bytes) noexcept {
    return bytes.empty() ? 0
                         : static_cast<double>(sum_by_eight(bytes, bits_of_each)) / static_cast<double>(bytes.size());
}

std::size_t printable_prefix(Bytes bytes) noexcept {
    return static_cast<std::size_t>(std::find_if_not(bytes.begin(), bytes.end(), is_printable) - bytes.begin());
}

double printable_share(Bytes bytes) noexcept {
    return bytes.empty()
               ? 0
               : static_cast<double>(sum_by_eight(bytes, printable_of_each)) / static_cast<double>(bytes.size());
}

// A run longer than the longest so far covers one of the places that many steps apart.
std::size_t longest_printable_run(Bytes bytes) noexcept {
    std::size_t longest = 0;
    for (std::size_t at = 0; at < bytes.size(); at += longest + 1) {
        if (!is_printable(bytes[at]))
            continue;
        std::size_t from = at;
        while (from > 0 && is_printable(bytes[from - 1]))
            --from;
        while (at < bytes.size() && is_printable(bytes[at]))
            ++at;
        longest = std::max(longest, at - from);
    }
    return longest;
}

bool looks_random(Bytes bytes) noexcept {
    if (bytes.size() < 32 || printable_prefix(bytes) >= 6)
        return false;
    const double mean = bits_per_byte(bytes);
    return mean > 3.4 && mean < 4.6 && printable_share(bytes) <= 0.5 && longest_printable_run(bytes) <= 20;
}

} // namespace btblock::detect
