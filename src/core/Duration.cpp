// SPDX-License-Identifier: MIT
#include "core/Duration.h"

#include <array>
#include <charconv>

namespace btblock {

namespace {

struct Unit {
    char letter;
    std::uint64_t seconds;
};

constexpr std::array<Unit, 5> units{{{'w', 604800}, {'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}}};
constexpr std::uint64_t longest = 100ull * 366 * 86400;

Error bad_duration(std::string_view text) {
    return error("'" + std::string(text) + "' is not a duration; write seconds, or for example 90s, 30m, 2h, 7d",
                 ExitCode::usage);
}

} // namespace

Result<std::uint64_t> parse_duration(std::string_view text) {
    std::uint64_t total = 0;
    std::uint64_t last_unit = ~0ull;
    const char* at = text.data();
    const char* const end = text.data() + text.size();
    if (at == end)
        return bad_duration(text);
    while (at != end) {
        std::uint64_t number = 0;
        const auto [after, failed] = std::from_chars(at, end, number);
        if (failed == std::errc::result_out_of_range)
            return error("'" + std::string(text) + "' is too long; the longest is 100 years", ExitCode::usage);
        if (failed != std::errc{})
            return bad_duration(text);
        std::uint64_t unit = 1;
        if (after != end) {
            unit = 0;
            for (const Unit& known : units)
                if (known.letter == *after)
                    unit = known.seconds;
            if (unit == 0 || unit >= last_unit) // the larger unit comes first, each once
                return bad_duration(text);
            at = after + 1;
        } else {
            if (last_unit != ~0ull) // "1h30": minutes or seconds?
                return bad_duration(text);
            at = after;
        }
        if (number > longest / unit || total + number * unit > longest)
            return error("'" + std::string(text) + "' is too long; the longest is 100 years", ExitCode::usage);
        total += number * unit;
        last_unit = unit;
    }
    return total;
}

std::string duration_string(std::uint64_t seconds) {
    if (seconds == 0)
        return "0s";
    std::string text;
    for (const Unit& unit : units) {
        if (unit.letter == 'w') // "7d" is what people write
            continue;
        if (const std::uint64_t n = seconds / unit.seconds) {
            text += std::to_string(n) + unit.letter;
            seconds %= unit.seconds;
        }
    }
    return text;
}

std::string rough_duration(std::uint64_t seconds) {
    for (std::size_t i = 1; i + 1 < units.size(); ++i) { // from days
        if (seconds < units[i].seconds)
            continue;
        std::string text = std::to_string(seconds / units[i].seconds) + units[i].letter;
        if (const std::uint64_t rest = seconds % units[i].seconds / units[i + 1].seconds)
            text += " " + std::to_string(rest) + units[i + 1].letter;
        return text;
    }
    return std::to_string(seconds) + "s";
}

} // namespace btblock
