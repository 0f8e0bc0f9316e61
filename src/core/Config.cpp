// SPDX-License-Identifier: MIT
#include "core/Config.h"

#include "btblock/abi.h"
#include "core/Duration.h"
#include "core/Suggest.h"
#include "core/TomlSyntax.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <charconv>
#include <concepts>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <spdlog/fmt/fmt.h>
#include <sstream>
#include <string_view>
#include <thread>
#include <toml++/toml.h>
#include <utility>

namespace fs = std::filesystem;

namespace btblock {

namespace {

template <class E> struct Choice {
    std::string_view name;
    E value;
};

// The first name of a value is the one that is shown; the others are what the predecessor and people write.
constexpr std::array scopes{Choice<Scope>{"forward", Scope::forward}, Choice<Scope>{"input", Scope::input},
                            Choice<Scope>{"output", Scope::output}};
constexpr std::array xdp_modes{Choice<XdpMode>{"auto", XdpMode::automatic}, Choice<XdpMode>{"native", XdpMode::native},
                               Choice<XdpMode>{"generic", XdpMode::generic},
                               Choice<XdpMode>{"offload", XdpMode::offload}, Choice<XdpMode>{"off", XdpMode::off}};
constexpr std::array firewalls{Choice<FirewallChoice>{"auto", FirewallChoice::automatic},
                               Choice<FirewallChoice>{"nftables", FirewallChoice::nftables},
                               Choice<FirewallChoice>{"iptables", FirewallChoice::iptables},
                               Choice<FirewallChoice>{"none", FirewallChoice::none}};
constexpr std::array actions{Choice<DropAction>{"drop", DropAction::drop},
                             Choice<DropAction>{"reject", DropAction::reject}};
constexpr std::array ban_targets{
    Choice<BanTarget>{"peer", BanTarget::peer}, Choice<BanTarget>{"client", BanTarget::client},
    Choice<BanTarget>{"source", BanTarget::source}, Choice<BanTarget>{"none", BanTarget::none}};
constexpr std::array ban_scopes{Choice<BanScope>{"address", BanScope::address},
                                Choice<BanScope>{"endpoint", BanScope::endpoint}};
constexpr std::array event_formats{Choice<EventFormat>{"eve", EventFormat::eve},
                                   Choice<EventFormat>{"ecs", EventFormat::ecs}};
constexpr std::array log_levels{Choice<LogLevel>{"trace", LogLevel::trace}, Choice<LogLevel>{"debug", LogLevel::debug},
                                Choice<LogLevel>{"info", LogLevel::info},   Choice<LogLevel>{"warn", LogLevel::warn},
                                Choice<LogLevel>{"error", LogLevel::error}, Choice<LogLevel>{"off", LogLevel::off},
                                Choice<LogLevel>{"warning", LogLevel::warn}};

constexpr std::uint64_t longest_ban = 10ull * 365 * 86400;
constexpr std::uint64_t longest_interval = 86400;
constexpr std::size_t longest_name = 127; // of an interface: alternative names have up to that
constexpr std::uintmax_t largest_file = 1 << 20;

template <class E, std::size_t N> std::string names_of(const std::array<Choice<E>, N>& choices) {
    std::string text;
    for (const auto& choice : choices)
        text += (text.empty() ? "\"" : ", \"") + std::string(choice.name) + "\"";
    return text;
}

// Shared by both ways of writing addresses: text as in net::Prefix, which this layer must not use.
bool is_prefix(const std::string& text) {
    const auto slash = text.find('/');
    const std::string address = text.substr(0, slash);
    unsigned char bytes[16];
    if (address.find('\0') != std::string::npos)
        return false;
    unsigned longest = 32;
    if (inet_pton(AF_INET6, address.c_str(), bytes) == 1) {
        constexpr unsigned char v4_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
        if (!std::equal(std::begin(v4_mapped), std::end(v4_mapped), std::begin(bytes)))
            longest = 128;
    } else if (inet_pton(AF_INET, address.c_str(), bytes) != 1) {
        return false;
    }
    if (slash == std::string::npos)
        return true;
    unsigned length = 0;
    const char* end = text.data() + text.size();
    const auto [after, failed] = std::from_chars(text.data() + slash + 1, end, length);
    return failed == std::errc{} && after == end && length <= longest;
}

std::string type_name(const toml::node& node) {
    switch (node.type()) {
    case toml::node_type::table: return "a table";
    case toml::node_type::array: return "a list";
    case toml::node_type::string: return "text";
    case toml::node_type::integer: return "a whole number";
    case toml::node_type::floating_point: return "a number with a point";
    case toml::node_type::boolean: return "true or false";
    default: return "a date or time";
    }
}

// Where a value was written.
struct Source {
    std::string name;     // a file's path, or what else to call it
    bool is_file = false; // then nodes have lines and columns

    [[nodiscard]] std::string at(const toml::source_region& region) const {
        if (!is_file || !region.begin)
            return name;
        return fmt::format("{}:{}:{}", name, region.begin.line, region.begin.column);
    }
    [[nodiscard]] std::string origin(const toml::node& node) const {
        return is_file && node.source().begin ? fmt::format("{}:{}", name, node.source().begin.line) : name;
    }
};

// One value on its way into the configuration. The readers return false after noting a problem.
class Value {
public:
    Value(std::string key, const toml::node& node, const Source& source, std::vector<std::string>& problems)
        : key_(std::move(key)), node_(node), source_(source), problems_(problems) {}

    bool boolean(bool& out) const {
        const auto value = node_.value_exact<bool>();
        if (!value)
            return wrong("must be true or false");
        out = *value;
        return true;
    }

    template <class T>
    bool integer(T& out, std::int64_t least, std::int64_t most, std::string_view what = "a number") const {
        const auto value = node_.value_exact<std::int64_t>();
        if (!value || *value < least || *value > most)
            return wrong(fmt::format("must be {} from {} to {}", what, least, most));
        out = static_cast<T>(*value);
        return true;
    }

    bool text(std::string& out) const {
        const auto value = node_.value_exact<std::string>();
        if (!value)
            return wrong("must be text in quotes");
        if (value->find('\0') != std::string::npos)
            return problem("contains a NUL character; remove it");
        out = *value;
        return true;
    }

    template <class E, std::size_t N> bool choice(E& out, const std::array<Choice<E>, N>& choices) const {
        const auto value = node_.value_exact<std::string>();
        if (!value)
            return wrong("must be one of " + names_of(choices));
        std::vector<std::string> names;
        for (const auto& choice : choices) {
            if (choice.name == *value) {
                out = choice.value;
                return true;
            }
            names.emplace_back(choice.name);
        }
        return problem(fmt::format("'{}' is not one of {}{}", *value, names_of(choices), did_you_mean(*value, names)));
    }

    bool duration(std::uint64_t& out, std::uint64_t most) const {
        std::uint64_t seconds = 0;
        if (const auto number = node_.value_exact<std::int64_t>()) {
            if (*number < 0)
                return wrong("must not be negative");
            seconds = static_cast<std::uint64_t>(*number);
        } else if (const auto written = node_.value_exact<std::string>()) {
            const auto parsed = parse_duration(*written);
            if (!parsed)
                return problem(parsed.error().message);
            seconds = *parsed;
        } else {
            return wrong("must be a duration: seconds, or text such as \"90s\", \"30m\", \"2h\", \"7d\"");
        }
        if (seconds < 1 || seconds > most)
            return problem(fmt::format("must be from 1s to {}", duration_string(most)));
        out = seconds;
        return true;
    }

    // `take` is called for every element and returns false after noting a problem.
    template <class F> bool each(std::string_view what, F take) const {
        const toml::array* list = node_.as_array();
        if (!list)
            return wrong(fmt::format("must be a list of {}", what));
        bool good = true;
        std::size_t number = 0;
        for (const toml::node& element : *list)
            good &= take(Value(fmt::format("{}[{}]", key_, ++number), element, source_, problems_));
        return good;
    }

    // The message stands after the key: "ban.after: MESSAGE".
    bool problem(const std::string& message) const {
        problems_.push_back(fmt::format("{}: {}: {}", source_.at(node_.source()), key_, message));
        return false;
    }

    [[nodiscard]] const toml::node& node() const noexcept { return node_; }
    [[nodiscard]] Value member(const std::string& name, const toml::node& node) const {
        return {key_ + "." + name, node, source_, problems_};
    }

private:
    [[nodiscard]] bool wrong(const std::string& expectation) const {
        const auto number = node_.value_exact<std::int64_t>();
        return problem(fmt::format("{}, not {}", expectation, number ? std::to_string(*number) : type_name(node_)));
    }

    std::string key_;
    const toml::node& node_;
    const Source& source_;
    std::vector<std::string>& problems_;
};

bool read_interface(const Value& value, std::vector<std::string>& names) {
    std::string name;
    if (!value.text(name))
        return false;
    const bool good = !name.empty() && name.size() <= longest_name && name != "." && name != ".." &&
                      std::all_of(name.begin(), name.end(),
                                  [](unsigned char c) { return c > ' ' && c != 0x7f && c != '/' && c != ':'; });
    if (!good)
        return value.problem("'" + name + "' cannot be the name of an interface; `ip link` lists them");
    if (name.find(',') != std::string::npos)
        return value.problem("'" + name + "' is more than one name; put each in quotes of its own");
    if (std::find(names.begin(), names.end(), name) != names.end())
        return value.problem("'" + name + "' is named twice");
    names.push_back(name);
    return true;
}

bool read_prefix(const Value& value, std::string& prefix) {
    if (!value.text(prefix))
        return false;
    if (!is_prefix(prefix))
        return value.problem("'" + prefix + "' is not an address or prefix such as \"192.0.2.0/24\"");
    return true;
}

bool is_host(std::string_view host) {
    if (host.empty() || host.size() > 253)
        return false;
    for (;;) {
        const std::string_view label = host.substr(0, host.find('.'));
        const bool good = !label.empty() && label.size() <= 63 && std::all_of(label.begin(), label.end(), [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
        });
        if (!good || label.size() == host.size())
            return good;
        host.remove_prefix(label.size() + 1);
    }
}

bool read_host(const Value& value, std::string& host) {
    std::string text;
    if (!value.text(text))
        return false;
    host = text;
    std::transform(host.begin(), host.end(), host.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    if (!is_host(host))
        return value.problem("'" + text +
                             "' is not a host name such as \"tracker.example.org\"; write other alphabets as xn--...");
    if (host.find('.') == std::string::npos)
        return value.problem("'" + text + "' would block all names below it; name a host with its domain");
    return true;
}

bool read_allow(const Value& value, Config::Allow& entry) {
    const toml::table* table = value.node().as_table();
    if (!table) {
        if (!value.node().is_string())
            return value.problem("must be a prefix in quotes, or { prefix = \"...\", comment = \"...\" }");
        return read_prefix(value, entry.prefix);
    }
    bool good = true;
    for (auto&& [name, node] : *table) {
        const std::string key(name.str());
        const Value member = value.member(key, node);
        if (key == "prefix")
            good &= read_prefix(member, entry.prefix);
        else if (key == "comment")
            good &= member.text(entry.comment);
        else
            good = member.problem("unknown key" + did_you_mean(key, {"prefix", "comment"}));
    }
    if (entry.comment.size() >= BT_COMMENT_LEN)
        good = value.problem(fmt::format("the comment is longer than {} bytes", BT_COMMENT_LEN - 1));
    if (good && entry.prefix.empty())
        return value.problem("has no prefix; add prefix = \"192.0.2.0/24\"");
    return good;
}

bool read_listen(const Value& value, std::string& out) {
    std::string text;
    if (!value.text(text))
        return false;
    const auto colon = text.rfind(':');
    unsigned port = 0;
    const char* end = text.data() + text.size();
    bool good = text.empty();
    if (!good && colon != std::string::npos) {
        const auto [after, failed] = std::from_chars(text.data() + colon + 1, end, port);
        const std::string host = text.substr(0, colon);
        const bool v6 = host.size() > 2 && host.front() == '[' && host.back() == ']';
        const std::string address = v6 ? host.substr(1, host.size() - 2) : host;
        good = failed == std::errc{} && after == end && port >= 1 && port <= 65535 &&
               address.find('/') == std::string::npos && is_prefix(address) &&
               (address.find(':') != std::string::npos) == v6;
        // Whoever reads the numbers learns what goes on in the network, and nobody is asked who they are.
        if (good && !address.starts_with("127.") && address != "::1")
            return value.problem("'" + text +
                                 "' is not of this host alone: take 127.0.0.1 or [::1], and a proxy "
                                 "that asks for a password in front of it for others");
    }
    if (!good)
        return value.problem("'" + text + "' is not ADDRESS:PORT, for example \"127.0.0.1:9478\"");
    out = text;
    return true;
}

// The file is replaced and removed without asking: it must not be another one by mistake.
bool read_prom_file(const Value& value, std::string& out) {
    std::string text;
    if (!value.text(text))
        return false;
    if (!text.empty() && !(text.starts_with('/') && text.ends_with(".prom")))
        return value.problem("'" + text +
                             "' is not a path like \"/var/lib/prometheus/node-exporter/btblock.prom\": "
                             "the textfile collector reads *.prom only");
    out = text;
    return true;
}

// ------------------------------------------------------------------ showing values as TOML

std::string toml_text(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        switch (c) {
        case '"': out += "\\\""; break;
        case '\\': out += "\\\\"; break;
        case '\n': out += "\\n"; break;
        case '\t': out += "\\t"; break;
        case '\r': out += "\\r"; break;
        default:
            if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
                out += fmt::format("\\u{:04X}", static_cast<unsigned>(c));
            else
                out += c;
        }
    }
    return out + "\"";
}

std::string shown(bool value) {
    return value ? "true" : "false";
}
template <std::integral T> std::string shown(T value) {
    return std::to_string(value);
}
std::string shown(const std::string& value) {
    return toml_text(value);
}
std::string shown(const Config::Allow& entry) {
    if (entry.comment.empty())
        return toml_text(entry.prefix);
    return fmt::format("{{ prefix = {}, comment = {} }}", toml_text(entry.prefix), toml_text(entry.comment));
}
template <class T> std::string shown(const std::vector<T>& values) {
    std::string text;
    for (const T& value : values)
        text += (text.empty() ? "" : ", ") + shown(value);
    return "[" + text + "]";
}
template <class E, std::size_t N> std::string shown(E value, const std::array<Choice<E>, N>& choices) {
    for (const auto& choice : choices)
        if (choice.value == value)
            return toml_text(choice.name);
    return toml_text("");
}
std::string shown_duration(std::uint64_t seconds) {
    return toml_text(duration_string(seconds));
}

// ------------------------------------------------------------------ the keys

// How a value is made out of plain text (--set, environment).
enum class Kind { boolean, integer, text, duration, list, number_list };

struct Key {
    std::string_view name;
    Kind kind;
    bool (*read)(const Value&, Config&); // leaves the configuration as it is when it fails
    std::string (*show)(const Config&);
};

constexpr std::int64_t most_entries = 1 << 24;

const std::array keys{
    Key{"interfaces", Kind::list,
        [](const Value& v, Config& c) {
            std::vector<std::string> names;
            if (!v.each("interface names", [&](const Value& e) { return read_interface(e, names); }))
                return false;
            if (names.empty())
                return v.problem("names no interface; name one, or remove the line");
            c.interfaces = std::move(names);
            return true;
        },
        [](const Config& c) { return shown(c.interfaces); }},
    Key{"inside", Kind::list,
        [](const Value& v, Config& c) {
            std::vector<std::string> prefixes;
            if (!v.each("prefixes", [&](const Value& e) { return read_prefix(e, prefixes.emplace_back()); }))
                return false;
            c.inside = std::move(prefixes);
            return true;
        },
        [](const Config& c) { return shown(c.inside); }},
    Key{"scope", Kind::text, [](const Value& v, Config& c) { return v.choice(c.scope, scopes); },
        [](const Config& c) { return shown(c.scope, scopes); }},
    Key{"xdp", Kind::text,
        [](const Value& v, Config& c) {
            XdpMode mode = c.xdp;
            if (!v.choice(mode, xdp_modes))
                return false;
            if (mode == XdpMode::offload)
                return v.problem("\"offload\" is not implemented in this version; use \"auto\"");
            c.xdp = mode;
            return true;
        },
        [](const Config& c) { return shown(c.xdp, xdp_modes); }},
    Key{"queue.first", Kind::integer, [](const Value& v, Config& c) { return v.integer(c.queue.first, 0, 65535); },
        [](const Config& c) { return shown(c.queue.first); }},
    Key{"queue.count", Kind::integer, [](const Value& v, Config& c) { return v.integer(c.queue.count, 1, 256); },
        [](const Config& c) { return shown(c.queue.count); }},
    Key{"queue.fail_open", Kind::boolean, [](const Value& v, Config& c) { return v.boolean(c.queue.fail_open); },
        [](const Config& c) { return shown(c.queue.fail_open); }},
    Key{"mark_bit", Kind::integer,
        [](const Value& v, Config& c) { return v.integer(c.mark_bit, 0, 31, "the number of a bit"); },
        [](const Config& c) { return shown(c.mark_bit); }},
    Key{"firewall", Kind::text, [](const Value& v, Config& c) { return v.choice(c.firewall, firewalls); },
        [](const Config& c) { return shown(c.firewall, firewalls); }},
    Key{"monitor_only", Kind::boolean, [](const Value& v, Config& c) { return v.boolean(c.monitor_only); },
        [](const Config& c) { return shown(c.monitor_only); }},
    Key{"action", Kind::text, [](const Value& v, Config& c) { return v.choice(c.action, actions); },
        [](const Config& c) { return shown(c.action, actions); }},
    Key{"ban.target", Kind::text, [](const Value& v, Config& c) { return v.choice(c.ban.target, ban_targets); },
        [](const Config& c) { return shown(c.ban.target, ban_targets); }},
    Key{"ban.scope", Kind::text, [](const Value& v, Config& c) { return v.choice(c.ban.scope, ban_scopes); },
        [](const Config& c) { return shown(c.ban.scope, ban_scopes); }},
    Key{"ban.duration", Kind::duration,
        [](const Value& v, Config& c) { return v.duration(c.ban.duration, longest_ban); },
        [](const Config& c) { return shown_duration(c.ban.duration); }},
    Key{"ban.after", Kind::integer, [](const Value& v, Config& c) { return v.integer(c.ban.after, 1, 1000); },
        [](const Config& c) { return shown(c.ban.after); }},
    Key{"fanout.hosts", Kind::integer, [](const Value& v, Config& c) { return v.integer(c.fanout.hosts, 0, 200); },
        [](const Config& c) { return shown(c.fanout.hosts); }},
    Key{"fanout.ports", Kind::integer, [](const Value& v, Config& c) { return v.integer(c.fanout.ports, 1, 200); },
        [](const Config& c) { return shown(c.fanout.ports); }},
    Key{"fanout.exclude", Kind::list,
        [](const Value& v, Config& c) {
            std::vector<std::string> prefixes;
            if (!v.each("prefixes", [&](const Value& e) { return read_prefix(e, prefixes.emplace_back()); }))
                return false;
            c.fanout.exclude = std::move(prefixes);
            return true;
        },
        [](const Config& c) { return shown(c.fanout.exclude); }},
    Key{"names.watch", Kind::boolean, [](const Value& v, Config& c) { return v.boolean(c.names.watch); },
        [](const Config& c) { return shown(c.names.watch); }},
    Key{"names.block", Kind::list,
        [](const Value& v, Config& c) {
            std::vector<std::string> hosts;
            if (!v.each("host names", [&](const Value& e) { return read_host(e, hosts.emplace_back()); }))
                return false;
            c.names.block = std::move(hosts);
            return true;
        },
        [](const Config& c) { return shown(c.names.block); }},
    Key{"ban.growth", Kind::integer, [](const Value& v, Config& c) { return v.integer(c.ban.growth, 1, 100); },
        [](const Config& c) { return shown(c.ban.growth); }},
    Key{"ban.max_duration", Kind::duration,
        [](const Value& v, Config& c) { return v.duration(c.ban.max_duration, longest_ban); },
        [](const Config& c) { return shown_duration(c.ban.max_duration); }},
    Key{"whitelist_ports", Kind::number_list,
        [](const Value& v, Config& c) {
            std::vector<std::uint16_t> ports;
            if (!v.each("port numbers",
                        [&](const Value& e) { return e.integer(ports.emplace_back(), 1, 65535, "a port"); }))
                return false;
            std::sort(ports.begin(), ports.end());
            ports.erase(std::unique(ports.begin(), ports.end()), ports.end());
            if (ports.size() > BT_WHITELIST_PORTS)
                return v.problem(
                    fmt::format("lists {} ports; {} is the most", ports.size(), static_cast<int>(BT_WHITELIST_PORTS)));
            c.whitelist_ports = std::move(ports);
            return true;
        },
        [](const Config& c) { return shown(c.whitelist_ports); }},
    Key{"strict_whitelist", Kind::boolean, [](const Value& v, Config& c) { return v.boolean(c.strict_whitelist); },
        [](const Config& c) { return shown(c.strict_whitelist); }},
    Key{"allow", Kind::list,
        [](const Value& v, Config& c) {
            std::vector<Config::Allow> entries;
            if (!v.each("prefixes", [&](const Value& e) { return read_allow(e, entries.emplace_back()); }))
                return false;
            c.allow = std::move(entries);
            return true;
        },
        [](const Config& c) { return shown(c.allow); }},
    Key{"block_socks", Kind::boolean, [](const Value& v, Config& c) { return v.boolean(c.block_socks); },
        [](const Config& c) { return shown(c.block_socks); }},
    Key{"detection_log", Kind::text, [](const Value& v, Config& c) { return v.text(c.detection_log); },
        [](const Config& c) { return shown(c.detection_log); }},
    Key{"log_level", Kind::text, [](const Value& v, Config& c) { return v.choice(c.log_level, log_levels); },
        [](const Config& c) { return shown(c.log_level, log_levels); }},
    Key{"cleanup_interval", Kind::duration,
        [](const Value& v, Config& c) { return v.duration(c.cleanup_interval, longest_interval); },
        [](const Config& c) { return shown_duration(c.cleanup_interval); }},
    Key{"persist", Kind::boolean, [](const Value& v, Config& c) { return v.boolean(c.persist); },
        [](const Config& c) { return shown(c.persist); }},
    Key{"capacity.bans", Kind::integer,
        [](const Value& v, Config& c) { return v.integer(c.capacity.bans, 16, most_entries); },
        [](const Config& c) { return shown(c.capacity.bans); }},
    Key{"capacity.flows", Kind::integer,
        [](const Value& v, Config& c) { return v.integer(c.capacity.flows, 16, most_entries); },
        [](const Config& c) { return shown(c.capacity.flows); }},
    Key{"capacity.sockets", Kind::integer,
        [](const Value& v, Config& c) { return v.integer(c.capacity.sockets, 16, most_entries); },
        [](const Config& c) { return shown(c.capacity.sockets); }},
    Key{"events.file", Kind::text, [](const Value& v, Config& c) { return v.text(c.events.file); },
        [](const Config& c) { return shown(c.events.file); }},
    Key{"events.format", Kind::text, [](const Value& v, Config& c) { return v.choice(c.events.format, event_formats); },
        [](const Config& c) { return shown(c.events.format, event_formats); }},
    Key{"events.journal", Kind::boolean, [](const Value& v, Config& c) { return v.boolean(c.events.journal); },
        [](const Config& c) { return shown(c.events.journal); }},
    Key{"metrics.listen", Kind::text, [](const Value& v, Config& c) { return read_listen(v, c.metrics.listen); },
        [](const Config& c) { return shown(c.metrics.listen); }},
    Key{"metrics.file", Kind::text, [](const Value& v, Config& c) { return read_prom_file(v, c.metrics.file); },
        [](const Config& c) { return shown(c.metrics.file); }},
};

struct Variable {
    const char* name;
    std::string_view key;
};

// Later ones win, so the general name of the interval comes last.
constexpr std::array variables{Variable{"INTERFACE", "interfaces"},
                               Variable{"QUEUE_NUM", "queue.first"},
                               Variable{"BAN_DURATION", "ban.duration"},
                               Variable{"LOG_LEVEL", "log_level"},
                               Variable{"DETECTION_LOG", "detection_log"},
                               Variable{"MONITOR_ONLY", "monitor_only"},
                               Variable{"BLOCK_SOCKS", "block_socks"},
                               Variable{"XDP_MODE", "xdp"},
                               Variable{"XDP_CLEANUP_INTERVAL", "cleanup_interval"},
                               Variable{"CLEANUP_INTERVAL", "cleanup_interval"},
                               Variable{"WHITELIST_PORTS", "whitelist_ports"}};

const Key* find_key(std::string_view name) {
    const auto found = std::find_if(keys.begin(), keys.end(), [&](const Key& key) { return key.name == name; });
    return found == keys.end() ? nullptr : &*found;
}

bool is_section(std::string_view name) {
    return std::any_of(keys.begin(), keys.end(), [&](const Key& key) {
        return key.name.size() > name.size() && key.name.starts_with(name) && key.name[name.size()] == '.';
    });
}

// The nearest key; for a right name in the wrong section, the right section.
std::string key_hint(const std::string& name) {
    const std::string last = name.substr(name.rfind('.') + 1);
    for (const Key& key : keys)
        if (key.name != last && key.name.ends_with("." + last))
            return fmt::format(" (did you mean '{}'?)", key.name);
    if (name != last && find_key(last))
        return fmt::format(" (did you mean '{}'?)", last);
    for (const Variable& variable : variables) { // the predecessor's name in small letters
        std::string lower = variable.name;
        std::transform(lower.begin(), lower.end(), lower.begin(),
                       [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
        if (lower == name)
            return fmt::format(" (did you mean '{}'?)", variable.key);
    }
    const std::string hint = did_you_mean(name, config_keys());
    return hint.empty() ? "; `btblock config dump` lists all keys" : hint;
}

// ------------------------------------------------------------------ text to TOML values

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos)
        return {};
    return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::string lowered(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return out;
}

// A whole number, decimal or with 0x; anything else stays text, so that the reader of the key complains about it.
void push_number(toml::array& array, std::string_view text) {
    std::int64_t number = 0;
    const bool hex = text.starts_with("0x");
    const char* end = text.data() + text.size();
    const auto [after, failed] = std::from_chars(text.data() + (hex ? 2 : 0), end, number, hex ? 16 : 10);
    if (failed == std::errc{} && after == end)
        array.push_back(number);
    else
        array.push_back(std::string(text));
}

// An array whose first element is the value: toml++ has no owning handle for a single node that is simpler.
toml::array value_of(Kind kind, std::string_view raw) {
    const std::string_view text = trimmed(raw);
    toml::array holder;
    const bool list = kind == Kind::list || kind == Kind::number_list;
    if (!text.empty() && (text.front() == '"' || text.front() == '\'' || (list && text.front() == '['))) {
        try {
            toml::table table = toml::parse("value = " + std::string(text));
            if (table.size() == 1) // not "[1]\nother = 2"
                if (const toml::node* node = table.get("value")) {
                    holder.push_back(*node);
                    return holder;
                }
        } catch (const toml::parse_error&) {
        }
    }
    switch (kind) {
    case Kind::boolean: {
        const std::string word = lowered(text);
        if (word == "true" || word == "yes" || word == "on" || word == "1")
            holder.push_back(true);
        else if (word == "false" || word == "no" || word == "off" || word == "0")
            holder.push_back(false);
        else
            holder.push_back(std::string(text));
        break;
    }
    case Kind::integer: push_number(holder, text); break;
    case Kind::text:
    case Kind::duration: holder.push_back(std::string(text)); break;
    case Kind::list:
    case Kind::number_list: {
        toml::array elements;
        std::string_view rest = text;
        while (!rest.empty()) {
            const auto comma = rest.find(',');
            const std::string_view element = trimmed(rest.substr(0, comma));
            if (!element.empty()) {
                if (kind == Kind::number_list)
                    push_number(elements, element);
                else
                    elements.push_back(std::string(element));
            }
            rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
        }
        // insert() and not push_back(): an array pushed into an array would be spliced by some versions
        holder.insert(holder.begin(), std::move(elements));
        break;
    }
    }
    return holder;
}

// ------------------------------------------------------------------ loading

class Loader {
public:
    LoadedConfig loaded;
    std::vector<std::string> problems;

    void file(const std::string& path) {
        std::string text;
        if (!slurp(path, text))
            return;
        loaded.files.push_back(path);
        const std::size_t first = problems.size();
        if (const auto table = parse(std::move(text), Source{path, true}))
            walk(*table, "", Source{path, true});
        in_order_of_lines(first, path.size() + 1);
    }

    void drop_ins(const std::string& directory) {
        std::error_code failure;
        std::vector<std::string> paths;
        for (fs::directory_iterator it(directory, failure), end; !failure && it != end; it.increment(failure))
            if (it->path().extension() == ".toml" && !it->path().filename().string().starts_with("."))
                paths.push_back(it->path());
        if (failure && failure != std::errc::no_such_file_or_directory)
            problems.push_back(fmt::format("{}: {}; it is for *.toml files", directory, failure.message()));
        std::sort(paths.begin(), paths.end());
        for (const std::string& path : paths)
            file(path);
    }

    void plain(const std::string& key_name, std::string_view text, const std::string& source_name) {
        const Key* key = find_key(key_name);
        const toml::array holder = value_of(key->kind, text);
        assign(*key, *holder.get(0), Source{source_name, false});
    }

    void set(const std::string& assignment) {
        const auto equals = assignment.find('=');
        const std::string name(trimmed(std::string_view(assignment).substr(0, equals)));
        if (equals == std::string::npos || name.empty()) {
            problems.push_back(fmt::format("--set {}: write KEY=VALUE", assignment));
            return;
        }
        if (!find_key(name)) {
            problems.push_back(fmt::format("--set {}: unknown key '{}'{}", assignment, name, key_hint(name)));
            return;
        }
        plain(name, std::string_view(assignment).substr(equals + 1), "--set " + name);
    }

    void cross_check() {
        const Config& c = loaded.config;
        if (c.queue.first + c.queue.count > 65536)
            problems.push_back(fmt::format("{}: queue.first {} + queue.count {}: queue numbers end at 65535",
                                           place_of("queue.first", "queue.count"), c.queue.first, c.queue.count));
        if (c.ban.growth > 1 && c.ban.max_duration < c.ban.duration)
            problems.push_back(
                fmt::format("{}: ban.max_duration {} is shorter than ban.duration {}: make it longer, or "
                            "ban.growth 1",
                            place_of("ban.max_duration", "ban.duration"), duration_string(c.ban.max_duration),
                            duration_string(c.ban.duration)));
        if (!c.detection_log.empty() && c.detection_log == c.events.file)
            problems.push_back(fmt::format("{}: detection_log and events.file are the same file: give each its own",
                                           place_of("detection_log", "events.file")));
    }

private:
    static constexpr int most_syntax_errors = 20; // of a file

    std::map<std::string, std::string> places_; // key -> where its value stands, with the column

    std::string place_of(const std::string& key, const std::string& other) const {
        for (const std::string& name : {key, other})
            if (const auto found = places_.find(name); found != places_.end())
                return found->second;
        return "built in";
    }

    // A parser stops at the first mistake. Here the line is left out and the rest read, so that all are told; not when
    // the complaint is likely to follow from the one before, nor when the lines after it would change their meaning.
    std::optional<toml::table> parse(std::string text, const Source& source) {
        std::size_t left_out = 0;
        for (int attempt = 0; attempt < most_syntax_errors; ++attempt) {
            std::size_t line = 0;
            try {
                return toml::parse(text, source.name);
            } catch (const toml::parse_error& failure) {
                line = failure.source().begin.line;
                if (left_out == 0 || line > next_line_with_content(text, left_out))
                    problems.push_back(fmt::format("{}: {}; {}", source.at(failure.source()), failure.description(),
                                                   syntax_remedy(failure.description(), line_of(text, line))));
                else
                    line = left_out;
            }
            if (line > left_out && can_be_left_out(line_of(text, line))) {
                text = without_line(text, line);
                left_out = line;
                continue;
            }
            try {
                return toml::parse(before_line(text, line), source.name);
            } catch (const toml::parse_error&) {
                return std::nullopt; // it began earlier
            }
        }
        return std::nullopt;
    }

    // The parser sorts keys by name. The problems begin with the file's path and a colon, `prefix` bytes.
    void in_order_of_lines(std::size_t first, std::size_t prefix) {
        const auto place = [prefix](const std::string& problem) {
            std::array<unsigned, 2> line_and_column{};
            const char *at = problem.data() + std::min(prefix, problem.size()), *end = problem.data() + problem.size();
            for (unsigned& number : line_and_column) {
                at = std::from_chars(at, end, number).ptr;
                at += at != end;
            }
            return line_and_column;
        };
        std::stable_sort(problems.begin() + static_cast<std::ptrdiff_t>(first), problems.end(),
                         [&](const std::string& a, const std::string& b) { return place(a) < place(b); });
    }

    bool slurp(const std::string& path, std::string& text) {
        std::error_code failure;
        if (fs::is_directory(path, failure)) {
            problems.push_back(path + ": is a directory; name a file");
            return false;
        }
        errno = 0;
        std::ifstream in(path, std::ios::binary);
        if (!in) {
            problems.push_back(errno_error(path).message + (errno == EACCES
                                                                ? "; run this as root, or let this user read it"
                                                                : "; name another with --config"));
            return false;
        }
        std::ostringstream content;
        for (std::array<char, 4096> block{}; in && static_cast<std::uintmax_t>(content.tellp()) <= largest_file;) {
            in.read(block.data(), block.size());
            content.write(block.data(), in.gcount());
        }
        text = content.str();
        if (in.bad() || text.size() > largest_file) {
            problems.push_back(path +
                               (in.bad() ? ": cannot be read" : ": is larger than 1 MiB; is it a configuration?"));
            return false;
        }
        return true;
    }

    void walk(const toml::table& table, const std::string& prefix, const Source& source) {
        for (auto&& [name, node] : table) {
            const std::string path = prefix + std::string(name.str());
            if (const Key* key = find_key(path)) {
                assign(*key, node, source);
            } else if (is_section(path)) {
                if (const toml::table* inner = node.as_table())
                    walk(*inner, path + ".", source);
                else
                    problems.push_back(fmt::format("{}: {}: is a section; its keys are {}", source.at(node.source()),
                                                   path, members(path)));
            } else if (const toml::table* inner = node.as_table(); inner && !inner->empty() && !inner->is_inline()) {
                walk(*inner, path + ".", source); // an unknown section: the hints are better for its keys
            } else {
                problems.push_back(
                    fmt::format("{}: unknown key '{}'{}", source.at(name.source()), path, key_hint(path)));
            }
        }
    }

    static std::string members(const std::string& section) {
        std::string text;
        for (const Key& key : keys)
            if (key.name.starts_with(section + "."))
                text += (text.empty() ? "" : ", ") + std::string(key.name);
        return text;
    }

    void assign(const Key& key, const toml::node& node, const Source& source) {
        const std::string name(key.name);
        if (key.read(Value(name, node, source, problems), loaded.config)) {
            loaded.origins[name] = source.origin(node);
            places_[name] = source.at(node.source());
        }
    }
};

} // namespace

unsigned default_queue_count() {
    return std::clamp(std::thread::hardware_concurrency(), 1u, 4u);
}

std::map<std::string, std::string> predecessor_environment() {
    std::map<std::string, std::string> environment;
    for (const Variable& variable : variables)
        if (const char* value = std::getenv(variable.name))
            environment[variable.name] = value;
    return environment;
}

Result<LoadedConfig> load_config(const ConfigSources& sources) {
    Loader loader;
    std::error_code ignored;
    const std::string path = sources.file.value_or(sources.default_file);
    if (sources.file || fs::exists(path, ignored))
        loader.file(path);
    loader.drop_ins(path + ".d");
    for (const Variable& variable : variables) {
        const auto found = sources.environment.find(variable.name);
        if (found != sources.environment.end() && !trimmed(found->second).empty()) {
            const bool word = find_key(variable.key)->kind == Kind::text && variable.key != "detection_log";
            loader.plain(std::string(variable.key), word ? lowered(found->second) : found->second,
                         fmt::format("environment variable {}", variable.name));
        }
    }
    for (const std::string& assignment : sources.set)
        loader.set(assignment);
    if (!sources.interfaces.empty()) {
        std::string list;
        for (const std::string& name : sources.interfaces)
            list += (list.empty() ? "" : ",") + name;
        loader.plain("interfaces", list, "option --interface");
    }
    if (sources.monitor_only)
        loader.plain("monitor_only", "true", "option --monitor-only");
    loader.cross_check();
    if (loader.problems.empty())
        return std::move(loader.loaded);
    std::string all;
    for (const std::string& problem : loader.problems)
        all += (all.empty() ? "" : "\n") + problem;
    return error(std::move(all), ExitCode::usage);
}

std::vector<std::string> config_keys() {
    std::vector<std::string> names;
    for (const Key& key : keys)
        names.emplace_back(key.name);
    return names;
}

std::vector<Setting> effective_settings(const LoadedConfig& loaded) {
    std::vector<Setting> settings;
    for (const Key& key : keys) {
        const std::string name(key.name);
        const auto origin = loaded.origins.find(name);
        settings.push_back(
            {name, key.show(loaded.config), origin == loaded.origins.end() ? "built in" : origin->second});
    }
    return settings;
}

std::string config_as_toml(const LoadedConfig& loaded) {
    std::string text;
    for (const Setting& setting : effective_settings(loaded)) {
        const std::string line = setting.key + " = " + setting.value;
        text += fmt::format("{:<48} # {}\n", line, setting.origin);
    }
    return text;
}

} // namespace btblock
