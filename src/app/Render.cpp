// SPDX-License-Identifier: MIT
#include "app/Render.h"

#include "core/Clock.h"

#include <algorithm>
#include <ctime>
#include <limits>
#include <spdlog/fmt/fmt.h>

namespace btblock::app {

namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;

// Columns that a text takes on a terminal, as far as counting code points tells.
std::size_t width_of(std::string_view text) {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

// The first `width` columns; what is left out shows as an ellipsis.
std::string cut(const std::string& text, std::size_t width) {
    if (width_of(text) <= width)
        return text;
    std::size_t end = 0;
    for (std::size_t columns = 0; columns + 1 < width; ++columns)
        for (++end; end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80;)
            ++end;
    return text.substr(0, end) + "\u2026";
}

} // namespace

std::string grouped(std::uint64_t number) {
    std::string text = std::to_string(number);
    for (std::size_t at = text.size(); at > 3; at -= 3)
        text.insert(at - 3, ",");
    return text;
}

std::string counted(std::uint64_t number, std::string_view one, std::string_view many) {
    return grouped(number) + " " + std::string(number == 1 ? one : many);
}

std::string utc_time(std::uint64_t wall_ns) {
    const auto seconds = static_cast<std::time_t>(wall_ns / second_ns);
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    char text[32];
    return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

std::optional<std::uint64_t> parse_utc_time(std::string_view text) {
    const std::string copy(text);
    std::tm parts{};
    const char* end = strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%SZ", &parts);
    if (!end || end != copy.c_str() + copy.size())
        return std::nullopt;
    const std::time_t seconds = timegm(&parts);
    if (seconds < 0 || static_cast<std::uint64_t>(seconds) > std::numeric_limits<std::uint64_t>::max() / 2 / second_ns)
        return std::nullopt;
    return static_cast<std::uint64_t>(seconds) * second_ns;
}

Clocks Clocks::now() noexcept {
    return {btblock::monotonic_ns(), btblock::wall_ns()};
}

std::uint64_t Clocks::to_wall(std::uint64_t monotonic) const noexcept {
    if (monotonic == never)
        return never;
    // Signed: what a restored state says of the time before the machine was started has wrapped around.
    const auto ahead = static_cast<std::int64_t>(monotonic - monotonic_ns);
    if (ahead >= 0)
        return wall_ns + static_cast<std::uint64_t>(ahead);
    return wall_ns - std::min(wall_ns, std::uint64_t{0} - static_cast<std::uint64_t>(ahead));
}

std::uint64_t Clocks::to_monotonic(std::uint64_t wall) const noexcept {
    if (wall == never)
        return never;
    if (wall >= wall_ns)
        return monotonic_ns + (wall - wall_ns);
    return monotonic_ns - std::min(monotonic_ns, wall_ns - wall);
}

std::uint64_t seconds_left(std::uint64_t expires_ns, std::uint64_t now_ns) noexcept {
    return expires_ns <= now_ns ? 0 : (expires_ns - now_ns - 1) / second_ns + 1;
}

void Table::row(std::vector<std::string> cells) {
    cells.resize(columns_.size());
    for (std::string& cell : cells)
        cell = printable(cell);
    rows_.push_back(std::move(cells));
}

std::vector<std::size_t> Table::widths_within(std::size_t width) const {
    std::vector<std::size_t> widths;
    std::size_t all = 0;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
        std::size_t widest = width_of(columns_[i].title);
        for (const auto& row : rows_)
            widest = std::max(widest, width_of(row[i]));
        widths.push_back(widest);
        all += widest + (i ? 2 : 0);
    }
    for (const std::size_t least : {8u, 4u})
        for (std::size_t i = columns_.size(); width != 0 && all > width && i-- > 0;) {
            if (columns_[i].align == Align::right || widths[i] <= least)
                continue;
            const std::size_t less = std::min(all - width, widths[i] - least);
            widths[i] -= less;
            all -= less;
        }
    return widths;
}

std::string Table::text(std::size_t width) const {
    const std::vector<std::size_t> widths = widths_within(width);
    std::string out;
    const auto line = [&](auto&& cell) {
        std::string text;
        for (std::size_t i = 0; i < columns_.size(); ++i) {
            const std::string content = cut(cell(i), widths[i]);
            const std::string blanks(widths[i] - width_of(content), ' ');
            text += columns_[i].align == Align::left ? content + blanks : blanks + content;
            text += "  ";
        }
        text.erase(text.find_last_not_of(' ') + 1);
        out += text + "\n";
    };
    if (std::any_of(columns_.begin(), columns_.end(), [](const Column& column) { return !column.title.empty(); }))
        line([&](std::size_t i) -> const std::string& { return columns_[i].title; });
    for (const auto& row : rows_)
        line([&](std::size_t i) -> const std::string& { return row[i]; });
    return out;
}

std::string wrapped(std::string_view text, std::size_t width, std::size_t indent) {
    std::string out;
    std::size_t used = 0;
    while (!text.empty()) {
        const auto blank = std::min(text.find(' '), text.size());
        const std::string_view word = text.substr(0, blank);
        text.remove_prefix(std::min(blank + 1, text.size()));
        if (word.empty())
            continue;
        if (used > indent && used + 1 + word.size() > width) {
            out += "\n" + std::string(indent, ' ');
            used = indent;
        } else if (!out.empty() && used > indent) {
            out += ' ';
            ++used;
        }
        if (out.empty())
            used = indent;
        out += word;
        used += word.size();
    }
    return out;
}

std::string printable(std::string_view text) {
    std::string out(text);
    for (char& c : out)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
            c = '?';
    return out;
}

std::string plus_joined(const nlohmann::ordered_json& names) {
    std::string text;
    for (const auto& name : names)
        text += (text.empty() ? "" : "+") + (name.is_string() ? name.get<std::string>() : name.dump());
    return text;
}

std::string csv_line(const std::vector<std::string>& fields) {
    std::string line;
    for (std::size_t i = 0; i < fields.size(); ++i) {
        if (i)
            line += ',';
        if (fields[i].find_first_of(",\"\r\n") == std::string::npos) {
            line += fields[i];
            continue;
        }
        line += '"';
        for (const char c : fields[i])
            line += c == '"' ? std::string("\"\"") : std::string(1, c);
        line += '"';
    }
    return line + "\n";
}

Result<std::vector<std::string>> parse_csv_line(std::string_view line) {
    std::vector<std::string> fields(1);
    bool quoted = false, closed = false; // in quotes; after the closing quote
    for (std::size_t i = 0; i < line.size(); ++i) {
        const char c = line[i];
        if (quoted) {
            if (c != '"')
                fields.back() += c;
            else if (i + 1 < line.size() && line[i + 1] == '"')
                fields.back() += line[++i];
            else
                quoted = false, closed = true;
        } else if (c == ',') {
            fields.emplace_back();
            closed = false;
        } else if (c == '"' && fields.back().empty() && !closed) {
            quoted = true;
        } else if (c == '"' || closed) {
            return error("a quote is out of place", ExitCode::usage);
        } else {
            fields.back() += c;
        }
    }
    if (quoted)
        return error("a quote is not closed", ExitCode::usage);
    return fields;
}

} // namespace btblock::app
