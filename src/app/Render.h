// SPDX-License-Identifier: MIT
// Text for people and programs: tables, CSV, numbers, times. Pure.
#pragma once

#include "core/Result.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace btblock::app {

using Json = nlohmann::ordered_json; // what is printed: members in the contracts' order

// 1234567 is "1,234,567".
std::string grouped(std::uint64_t number);
// "1 ban", "2 bans"
std::string counted(std::uint64_t number, std::string_view one, std::string_view many);

// "2026-11-23T01:12:00Z"; nanoseconds since the epoch, rounded down to seconds.
std::string utc_time(std::uint64_t wall_ns);
// The reverse, nanoseconds. None when the text is anything else.
std::optional<std::uint64_t> parse_utc_time(std::string_view text);

// The difference between the wall clock and CLOCK_MONOTONIC at one moment.
struct Clocks {
    std::uint64_t monotonic_ns = 0;
    std::uint64_t wall_ns = 0;

    static Clocks now() noexcept;
    // Both directions keep ~0 ("never") and stop at 0.
    [[nodiscard]] std::uint64_t to_wall(std::uint64_t monotonic) const noexcept;
    [[nodiscard]] std::uint64_t to_monotonic(std::uint64_t wall) const noexcept;
};

// Whole seconds until `expires_ns`, rounded up; 0 when it has passed.
std::uint64_t seconds_left(std::uint64_t expires_ns, std::uint64_t now_ns) noexcept;

// Columns as wide as their widest cell, two spaces apart, no blanks at the ends of lines. Control characters become
// '?'. Where that is wider than `width`, texts are cut and end in an ellipsis: the last column first, numbers never.
class Table {
public:
    enum class Align { left, right };
    struct Column {
        std::string title;
        Align align = Align::left;
    };

    explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
    void row(std::vector<std::string> cells);
    [[nodiscard]] bool empty() const noexcept { return rows_.empty(); }
    [[nodiscard]] std::string text(std::size_t width = 0) const;

private:
    [[nodiscard]] std::vector<std::size_t> widths_within(std::size_t width) const;

    std::vector<Column> columns_;
    std::vector<std::vector<std::string>> rows_;
};

// `text` in lines of at most `width` bytes, broken at blanks; lines after the first start with `indent` blanks.
std::string wrapped(std::string_view text, std::size_t width, std::size_t indent);

// Replaces control characters, so that stored text cannot drive a terminal.
std::string printable(std::string_view text);

// A list of texts as "a+b".
std::string plus_joined(const nlohmann::ordered_json& names);

// RFC 4180, with "\n" as the end of the line.
std::string csv_line(const std::vector<std::string>& fields);
// The fields of one line; an error when a quote is open or out of place.
Result<std::vector<std::string>> parse_csv_line(std::string_view line);

} // namespace btblock::app
