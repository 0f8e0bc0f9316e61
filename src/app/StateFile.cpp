// SPDX-License-Identifier: MIT
#include "app/StateFile.h"

#include "core/Clock.h"
#include "core/Evidence.h"
#include "core/ReplaceFile.h"
#include "net/Address.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <optional>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

namespace fs = std::filesystem;

namespace btblock::app {

namespace {

constexpr std::uint64_t ns_per_ms = 1'000'000;
constexpr std::string_view magic = "btblock-state";
constexpr unsigned version = 1;
constexpr std::size_t origin_byte = BT_COMMENT_LEN - 1;
constexpr char configured = 'c';

std::uint64_t checksum(std::string_view text) {
    std::uint64_t hash = 14695981039346656037u;
    for (const char c : text)
        hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
    return hash;
}

template <class T> std::optional<T> number(std::string_view text, int base = 10) {
    T value{};
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    return failed == std::errc{} && end == text.data() + text.size() && !text.empty() ? std::optional(value)
                                                                                      : std::nullopt;
}

// Takes the next word off the front.
std::string_view word(std::string_view& line) {
    const auto end = std::min(line.find(' '), line.size());
    const std::string_view taken = line.substr(0, end);
    line.remove_prefix(std::min(end + 1, line.size()));
    return taken;
}

std::string comment_text(const char (&comment)[BT_COMMENT_LEN]) {
    const std::string text = printable({comment, strnlen(comment, origin_byte)});
    return text.empty() ? "-" : text;
}

void set_comment(char (&comment)[BT_COMMENT_LEN], std::string_view text) {
    if (text != "-")
        text.copy(comment, origin_byte);
}

std::string time_text(std::uint64_t monotonic, const Clocks& clocks) {
    return monotonic == never ? "never" : std::to_string(clocks.to_wall(monotonic) / ns_per_ms);
}

std::optional<std::uint64_t> time_of(std::string_view text, const Clocks& clocks) {
    if (text == "never")
        return never;
    const auto ms = number<std::uint64_t>(text);
    if (!ms || *ms > never / ns_per_ms / 2)
        return std::nullopt;
    return clocks.to_monotonic(*ms * ns_per_ms);
}

// In the past, perhaps before the machine was started: then the difference wraps around, as Clocks understands it.
std::optional<std::uint64_t> past_of(std::string_view text, const Clocks& clocks) {
    const auto ms = number<std::uint64_t>(text);
    if (!ms || *ms > never / ns_per_ms / 2)
        return std::nullopt;
    return clocks.monotonic_ns - (clocks.wall_ns - std::min(clocks.wall_ns, *ms * ns_per_ms));
}

std::uint32_t evidence_of(std::string_view text) {
    std::uint32_t mask = 0;
    while (!text.empty()) {
        const auto end = std::min(text.find('+'), text.size());
        const auto known = std::find(evidence_names.begin(), evidence_names.end(), text.substr(0, end));
        if (known != evidence_names.end()) // one that this version does not know is no reason to lose the ban
            mask |= BT_EV_BIT(known - evidence_names.begin());
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return mask;
}

bool parse_ports(std::string_view text, bt_ban& ban) {
    if (text == "-")
        return true;
    while (!text.empty()) {
        const auto end = std::min(text.find(','), text.size());
        const auto port = number<std::uint16_t>(text.substr(0, end));
        if (!port || *port == 0 || ban.port_count == BT_BAN_PORTS)
            return false;
        ban.ports[ban.port_count++] = *port;
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return true;
}

bool parse_ban(std::string_view line, const Clocks& clocks, State& state) {
    const auto prefix = net::Prefix::parse(word(line));
    const auto created = past_of(word(line), clocks);
    const auto expires = time_of(word(line), clocks);
    const auto hits = number<std::uint64_t>(word(line));
    const std::string_view origin = word(line);
    bt_ban ban{};
    ban.evidence = evidence_of(word(line));
    if (!prefix || !created || !expires || !hits || (origin != "manual" && origin != "automatic") ||
        !parse_ports(word(line), ban) || line.empty())
        return false;
    const bool v4 = prefix->address().is_v4();
    const bool whole = prefix->length() == (v4 ? 32u : 128u);
    if (!whole && (v4 || prefix->length() != 64))
        return false;
    ban.created_ns = *created;
    ban.expires_ns = *expires;
    ban.hits = *hits;
    ban.flags = static_cast<bt_u16>((whole ? 0 : BT_BAN_SUBNET64) | (origin == "manual" ? BT_BAN_MANUAL : 0));
    set_comment(ban.comment, line);
    if (ban.expires_ns > clocks.monotonic_ns) {
        state.ban_keys.push_back(prefix->address().raw());
        state.bans.push_back(ban);
    }
    return true;
}

bool parse_allow(std::string_view line, const Clocks& clocks, State& state) {
    const auto prefix = net::Prefix::parse(word(line));
    const auto expires = time_of(word(line), clocks);
    if (!prefix || !expires || line.empty())
        return false;
    bt_allow entry{};
    entry.expires_ns = *expires;
    set_comment(entry.comment, line);
    if (entry.expires_ns > clocks.monotonic_ns) {
        state.allow_keys.push_back(prefix->lpm());
        state.allow.push_back(entry);
    }
    return true;
}

} // namespace

void mark_as_configured(bt_allow& entry) {
    entry.comment[origin_byte - 1] = '\0';
    entry.comment[origin_byte] = configured;
}

bool is_configured(const bt_allow& entry) {
    return entry.comment[origin_byte] == configured;
}

Result<State> read_state(const bpf::Maps& maps, std::uint64_t now_ns) {
    State state;
    auto bans = maps.bans.for_each([&](const bt_addr& key, const bt_ban& ban) {
        if (ban.expires_ns > now_ns) {
            state.ban_keys.push_back(key);
            state.bans.push_back(ban);
        }
    });
    if (!bans)
        return bans.error();
    auto allow = maps.allow.for_each([&](const bt_lpm_key& key, const bt_allow& entry) {
        if (entry.expires_ns > now_ns && !is_configured(entry)) {
            state.allow_keys.push_back(key);
            state.allow.push_back(entry);
        }
    });
    if (!allow)
        return allow.error();
    return state;
}

std::string state_text(const State& state, const Clocks& clocks) {
    std::string text = fmt::format("{} {} {}\n", magic, version, clocks.wall_ns / ns_per_ms);
    text.reserve(text.size() + state.bans.size() * 96 + state.allow.size() * 64);
    for (std::size_t i = 0; i < state.bans.size(); ++i) {
        const bt_ban& ban = state.bans[i];
        std::string ports;
        for (int p = 0; p < std::min<int>(ban.port_count, BT_BAN_PORTS); ++p)
            ports += (p ? "," : "") + std::to_string(ban.ports[p]);
        const std::string evidence = evidence_string(ban.evidence);
        fmt::format_to(std::back_inserter(text), "ban {}{} {} {} {} {} {} {} {}\n",
                       net::Address(state.ban_keys[i]).to_string(), ban.flags & BT_BAN_SUBNET64 ? "/64" : "",
                       time_text(ban.created_ns, clocks), time_text(ban.expires_ns, clocks), ban.hits,
                       ban.flags & BT_BAN_MANUAL ? "manual" : "automatic", evidence.empty() ? "-" : evidence,
                       ports.empty() ? "-" : ports, comment_text(ban.comment));
    }
    for (std::size_t i = 0; i < state.allow.size(); ++i)
        fmt::format_to(std::back_inserter(text), "allow {} {} {}\n",
                       net::Prefix::from_lpm(state.allow_keys[i]).to_string(),
                       time_text(state.allow[i].expires_ns, clocks), comment_text(state.allow[i].comment));
    const std::uint64_t sum = checksum(text);
    fmt::format_to(std::back_inserter(text), "end {} {} {:016x}\n", state.bans.size(), state.allow.size(), sum);
    return text;
}

Result<State> parse_state(std::string_view text, const Clocks& now) {
    State state;
    Clocks clocks = now;
    std::size_t bans = 0;
    std::size_t allows = 0;
    std::size_t at = 0;
    for (std::size_t line_number = 1; at < text.size(); ++line_number) {
        const std::size_t start = at;
        const std::size_t end = text.find('\n', at);
        if (end == std::string_view::npos)
            return error("it is cut short");
        at = end + 1;
        std::string_view line = text.substr(start, end - start);
        const std::string_view kind = word(line);
        bool good = true;
        if (line_number == 1) {
            if (kind != magic)
                return error("line 1: it is not a state file of btblock");
            if (number<unsigned>(word(line)) != version)
                return error("line 1: it was written by another version of btblock");
            const auto saved = number<std::uint64_t>(line);
            good = saved && *saved < never / ns_per_ms;
            if (good)
                clocks.wall_ns = std::max(clocks.wall_ns, *saved * ns_per_ms);
        } else if (kind == "ban") {
            good = parse_ban(line, clocks, state);
            ++bans;
        } else if (kind == "allow") {
            good = parse_allow(line, clocks, state);
            ++allows;
        } else if (kind == "end") {
            const auto said_bans = number<std::size_t>(word(line));
            const auto said_allows = number<std::size_t>(word(line));
            if (said_bans != bans || said_allows != allows || at != text.size() ||
                number<std::uint64_t>(line, 16) != checksum(text.substr(0, start)))
                return error(fmt::format("line {}: the checksum does not fit", line_number));
            return state;
        } else {
            good = false;
        }
        if (!good)
            return error(fmt::format("line {}: it cannot be read", line_number));
    }
    return error("it is cut short");
}

std::size_t keep_longest_bans(State& state, std::size_t most) {
    if (state.bans.size() <= most)
        return 0;
    std::vector<std::size_t> order(state.bans.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        const auto rank = [&](std::size_t i) {
            return std::pair(state.bans[i].flags & BT_BAN_MANUAL, state.bans[i].expires_ns);
        };
        return rank(a) > rank(b);
    });
    State kept;
    for (std::size_t i = 0; i < most; ++i) {
        kept.ban_keys.push_back(state.ban_keys[order[i]]);
        kept.bans.push_back(state.bans[order[i]]);
    }
    const std::size_t gone = state.bans.size() - most;
    state.ban_keys = std::move(kept.ban_keys);
    state.bans = std::move(kept.bans);
    return gone;
}

void keep_manual_bans(State& state) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < state.bans.size(); ++i)
        if (state.bans[i].flags & BT_BAN_MANUAL) {
            state.ban_keys[kept] = state.ban_keys[i];
            state.bans[kept++] = state.bans[i];
        }
    state.ban_keys.resize(kept);
    state.bans.resize(kept);
}

std::string state_path(const std::string& state_dir) {
    return state_dir + "/state";
}

Result<void> save_state(const State& state, const std::string& state_dir) {
    const std::string path = state_path(state_dir);
    if (state.empty()) {
        if (unlink(path.c_str()) < 0 && errno != ENOENT)
            return errno_error(path);
        rmdir(state_dir.c_str()); // stays while it holds something else
        return {};
    }
    std::error_code failed;
    fs::create_directories(state_dir, failed);
    if (failed)
        return error(state_dir + ": " + failed.message());
    return replace_file(path, state_text(state, Clocks::now()), 0600, Durable::yes);
}

Result<State> load_state(const std::string& state_dir) {
    const std::string path = state_path(state_dir);
    errno = 0;
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file)
        return errno == ENOENT || errno == ENOTDIR ? Result<State>(State{}) : errno_error(path);
    const std::streamoff size = file.tellg();
    std::string text(size > 0 ? static_cast<std::size_t>(size) : 0, '\0');
    file.seekg(0);
    if (size < 0 || !file.read(text.data(), size))
        return errno_error(path);
    auto state = parse_state(text, Clocks::now());
    if (state)
        return state;
    const std::string aside = path + ".damaged";
    const bool moved = rename(path.c_str(), aside.c_str()) == 0;
    return error(fmt::format("{}: {}; bans and allow entries of earlier runs are not restored{}", path,
                             state.error().message, moved ? "; the file is now " + aside : ""));
}

} // namespace btblock::app
