// SPDX-License-Identifier: MIT
// Durations as people write them.
#pragma once

#include "core/Result.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace btblock {

// Seconds from "90", "90s", "30m", "2h", "7d", "1w" or a sum such as "1h30m". At most 100 years.
Result<std::uint64_t> parse_duration(std::string_view text);

// Exact and short, in the same form: 18000 is "5h", 5400 is "1h30m", 0 is "0s".
std::string duration_string(std::uint64_t seconds);

// Rounded down to the two largest units, for people: 93784 is "1d 2h".
std::string rough_duration(std::uint64_t seconds);

} // namespace btblock
