// SPDX-License-Identifier: MIT
#include "core/TomlSyntax.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace btblock {

namespace {

constexpr std::string_view blanks = " \t\r";

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(blanks);
    return first == text.npos ? std::string_view{} : text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

bool contains(std::string_view text, std::string_view part) {
    return text.find(part) != text.npos;
}

// Begin and end of a line, without its newline.
struct Extent {
    std::size_t begin, end;
};
Extent extent_of(std::string_view text, std::size_t number) {
    std::size_t begin = 0;
    for (std::size_t line = 1; line < number && begin < text.size(); ++line) {
        const auto newline = text.find('\n', begin);
        begin = newline == text.npos ? text.size() : newline + 1;
    }
    return {begin, std::min(text.find('\n', begin), text.size())};
}

// The word after the equals sign when it is neither quoted nor a list or table.
std::string_view bare_value(std::string_view line) {
    const auto equals = line.find('=');
    if (equals == line.npos)
        return {};
    std::string_view value = line.substr(equals + 1);
    value = trimmed(value.substr(0, value.find('#')));
    return value.empty() || contains("\"'[{", value.substr(0, 1)) ? std::string_view{} : value;
}

bool means_yes_or_no(std::string_view word) {
    std::string lower(word);
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
    constexpr std::array<std::string_view, 6> words{"true", "false", "yes", "no", "on", "off"};
    return std::find(words.begin(), words.end(), lower) != words.end();
}

} // namespace

std::string syntax_remedy(std::string_view complaint, std::string_view line) {
    struct Remedy {
        std::string_view complaint, remedy;
    };
    // Before a look at the value: what was complained about is clear.
    constexpr std::array clear{
        Remedy{"cannot redefine existing table", "the section is there twice: put its keys below one heading"},
        Remedy{"cannot redefine", "the key is set twice: keep one of the lines"},
        Remedy{"utf-8", "save the file as UTF-8"},
        Remedy{"escape sequence", "write \\\\ for a backslash, or put the text in 'single quotes'"},
        Remedy{"parsing string", "close the quotes on the line where they begin"},
        Remedy{"parsing array", "close the list with ], and write commas between its elements"},
        Remedy{"inline table", "close the table with }, and write commas between its keys"},
        Remedy{"table header", "the heading of a section is [NAME], alone on its line"},
        Remedy{"expected '='", "write KEY = VALUE"},
        Remedy{"leading zero", "write the number without zeroes in front"},
    };
    for (const Remedy& known : clear)
        if (contains(complaint, known.complaint))
            return std::string(known.remedy);
    if (const auto value = bare_value(line); !value.empty()) {
        if (means_yes_or_no(value))
            return "write true or false, in small letters and without quotes";
        if (std::any_of(value.begin(), value.end(), [](unsigned char c) { return std::isalpha(c); }))
            return "put text in quotes: \"" + std::string(value) + "\"";
    }
    constexpr std::array unclear{
        Remedy{"could not determine value type", "put text in quotes"},
        Remedy{"expected value", "write a value after the equals sign"},
    };
    for (const Remedy& known : unclear)
        if (contains(complaint, known.complaint))
            return std::string(known.remedy);
    return "btblock.toml(5) shows how each value is written";
}

std::string_view line_of(std::string_view text, std::size_t number) {
    const Extent line = extent_of(text, number);
    return text.substr(line.begin, line.end - line.begin);
}

std::size_t next_line_with_content(std::string_view text, std::size_t number) {
    const auto lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
    for (++number; number <= lines; ++number)
        if (const auto line = trimmed(line_of(text, number)); !line.empty() && line.front() != '#')
            break;
    return number;
}

bool can_be_left_out(std::string_view line) {
    line = trimmed(line);
    return !line.empty() && line.front() != '[';
}

std::string without_line(std::string_view text, std::size_t number) {
    const Extent line = extent_of(text, number);
    return std::string(text.substr(0, line.begin)).append(text.substr(line.end));
}

std::string before_line(std::string_view text, std::size_t number) {
    return std::string(text.substr(0, extent_of(text, number).begin));
}

} // namespace btblock
