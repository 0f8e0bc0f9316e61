// SPDX-License-Identifier: MIT
#include "app/Operations.h"

#include "core/Clock.h"
#include "core/Evidence.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <spdlog/fmt/fmt.h>

namespace btblock::app {

namespace {

constexpr std::uint64_t longest_seconds = 100ull * 366 * 86400;

nlohmann::json error_object(const Error& failure) {
    return {{"ok", false}, {"error", failure.message}, {"exit_code", static_cast<int>(failure.exit_code)}};
}

std::string comment_of(const char (&comment)[BT_COMMENT_LEN]) {
    return {comment, strnlen(comment, sizeof comment)};
}

net::Prefix prefix_of(const policy::BanDecision& target) {
    return {target.address, target.subnet64 ? 64u : 128u};
}

std::string text_of(const policy::BanDecision& target) {
    return ListedBan{target, {}}.text();
}

// The allowlist and the never-ban set, read once for many questions.
class Protection {
public:
    static Result<Protection> of(const OperationContext& context) {
        Protection protection(context.never_ban);
        auto walked = context.maps.allow.for_each(
            [&](const bt_lpm_key& key, const bt_allow&) { protection.allowed_.push_back(net::Prefix::from_lpm(key)); });
        if (!walked)
            return walked.error();
        return protection;
    }

    // Refused for safety: addresses whose ban would cut off the gateway itself, or that the operator allowed.
    [[nodiscard]] Result<void> check(const policy::BanDecision& target) const {
        const net::Prefix banned = prefix_of(target);
        for (const net::Prefix& own : never_)
            if (own.contains(banned.address()) || (target.subnet64 && banned.contains(own.address())))
                return error(fmt::format("{} is not banned: it would hit {}, which is this machine's own, a gateway, a "
                                         "resolver, an administrator's or a special address (--force bans it all the "
                                         "same)",
                                         text_of(target), own.to_string()),
                             ExitCode::refused);
        // The kernel lets allowed addresses through whatever is banned, so such a ban would be without effect.
        for (const net::Prefix& allowed : allowed_)
            if (allowed.contains(banned.address()))
                return error(fmt::format("{} is not banned: {} is allowed (`btblock allow del {}` first)",
                                         text_of(target), allowed.to_string(), allowed.to_string()),
                             ExitCode::refused);
        return {};
    }

private:
    explicit Protection(const std::vector<net::Prefix>& own) : never_(own) {}

    const std::vector<net::Prefix>& never_;
    std::vector<net::Prefix> allowed_;
};

Result<void> check_harmless(const OperationContext& context, const policy::BanDecision& target) {
    const auto protection = Protection::of(context);
    if (!protection)
        return protection.error();
    return protection->check(target);
}

// The text of a member; an error when it is missing or something else.
Result<std::string> text_member(const nlohmann::json& object, const char* name) {
    const auto found = object.find(name);
    if (found == object.end() || !found->is_string())
        return error(fmt::format("\"{}\" must be text", name), ExitCode::usage);
    return found->get<std::string>();
}

Result<std::string> comment_member(const nlohmann::json& object) {
    if (!object.contains("comment") || object["comment"].is_null())
        return std::string();
    auto comment = text_member(object, "comment");
    if (comment)
        if (auto checked = check_comment(*comment); !checked)
            return checked.error();
    return comment;
}

Result<bool> flag_member(const nlohmann::json& object, const char* name, bool otherwise) {
    const auto found = object.find(name);
    if (found == object.end())
        return otherwise;
    if (!found->is_boolean())
        return error(fmt::format("\"{}\" must be true or false", name), ExitCode::usage);
    return found->get<bool>();
}

// None: for ever.
Result<std::optional<std::uint64_t>> seconds_member(const nlohmann::json& request,
                                                    std::optional<std::uint64_t> otherwise) {
    const auto found = request.find("seconds");
    if (found == request.end())
        return otherwise;
    if (found->is_null())
        return std::optional<std::uint64_t>();
    if (!found->is_number_unsigned() || *found < 1 || *found > longest_seconds)
        return error("\"seconds\" must be a number of at least 1, or null", ExitCode::usage);
    return std::optional(found->get<std::uint64_t>());
}

Result<std::vector<std::uint16_t>> ports_member(const nlohmann::json& object) {
    std::vector<std::uint16_t> ports;
    const auto found = object.find("ports");
    if (found == object.end() || found->is_null())
        return ports;
    if (!found->is_array() || found->size() > BT_BAN_PORTS)
        return error(fmt::format("\"ports\" must be a list of at most {} ports", static_cast<int>(BT_BAN_PORTS)),
                     ExitCode::usage);
    for (const nlohmann::json& port : *found) {
        if (!port.is_number_unsigned() || port < 1 || port > 65535)
            return error("a port must be a number from 1 to 65535", ExitCode::usage);
        ports.push_back(port.get<std::uint16_t>());
    }
    return ports;
}

Result<std::uint32_t> evidence_member(const nlohmann::json& object) {
    std::uint32_t mask = 0;
    const auto found = object.find("evidence");
    if (found == object.end() || found->is_null())
        return mask;
    if (!found->is_array())
        return error("\"evidence\" must be a list", ExitCode::usage);
    for (const nlohmann::json& name : *found) {
        const auto known = name.is_string()
                               ? std::find(evidence_names.begin(), evidence_names.end(), name.get<std::string>())
                               : evidence_names.end();
        if (known == evidence_names.end())
            return error("unknown evidence " + name.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace),
                         ExitCode::usage);
        mask |= BT_EV_BIT(known - evidence_names.begin());
    }
    return mask;
}

Result<nlohmann::json> add_ban(const OperationContext& context, const nlohmann::json& request) {
    const auto text = text_member(request, "address");
    if (!text)
        return text.error();
    const auto target = parse_ban_target(*text);
    const auto comment = comment_member(request);
    const auto seconds = seconds_member(request, context.default_seconds);
    const auto force = flag_member(request, "force", false);
    if (!target)
        return target.error();
    if (!comment)
        return comment.error();
    if (!seconds)
        return seconds.error();
    if (!force)
        return force.error();
    if (!*force)
        if (auto harmless = check_harmless(context, *target); !harmless)
            return harmless.error();
    const Clocks clocks = Clocks::now();
    const BanTable table(context.maps.bans);
    auto added = table.add(*target, *seconds, 0, *comment, true, clocks.monotonic_ns);
    if (!added)
        return added.error();
    added->target = *target; // the port of this request, not the first of all
    if (context.banned)
        context.banned(*added);
    return nlohmann::json{{"ban", ban_json(target->address.raw(), added->value, clocks)}};
}

Result<nlohmann::json> delete_ban(const OperationContext& context, const nlohmann::json& request) {
    const auto text = text_member(request, "address");
    if (!text)
        return text.error();
    const auto target = parse_ban_target(*text);
    if (!target)
        return target.error();
    const bt_addr key = target->address.raw();
    auto found = context.maps.bans.lookup(key);
    if (!found)
        return found.error();
    const bool subnet = *found && ((*found)->flags & BT_BAN_SUBNET64);
    if (!*found || subnet != target->subnet64) {
        std::string hint;
        if (!target->subnet64 && !target->address.is_v4()) {
            const net::Prefix net(target->address, 64);
            const auto wider = context.maps.bans.lookup(net.address().raw());
            if (wider && *wider && ((*wider)->flags & BT_BAN_SUBNET64))
                hint = "; " + net.to_string() + " is";
        }
        return error(text_of(*target) + " is not banned" + hint);
    }
    ListedBan gone{*target, **found};
    if (target->port) {
        bt_ban ban = **found;
        auto* const end = ban.ports + ban.port_count;
        auto* const port = std::find(ban.ports, end, *target->port);
        if (port == end)
            return error(fmt::format("{} is not banned{}", text_of(*target),
                                     ban.port_count ? "" : "; the whole address is: name it without a port"));
        if (ban.port_count > 1) {
            std::copy(port + 1, end, port);
            ban.ports[--ban.port_count] = 0;
            if (auto stored = context.maps.bans.update(key, ban); !stored)
                return stored.error();
            if (context.unbanned)
                context.unbanned(gone);
            return nlohmann::json{{"removed", 1}};
        }
    }
    const auto erased = context.maps.bans.erase(key);
    if (!erased)
        return erased.error();
    if (context.unbanned)
        context.unbanned(gone);
    return nlohmann::json{{"removed", 1}};
}

Result<nlohmann::json> flush_bans(const OperationContext& context) {
    const BanTable table(context.maps.bans);
    const auto all = table.list();
    if (!all)
        return all.error();
    std::size_t removed = 0;
    for (const ListedBan& ban : *all) {
        const auto erased = table.remove(ban.target);
        if (!erased)
            return erased.error();
        removed += *erased;
        if (*erased && context.unbanned)
            context.unbanned(ban);
    }
    return nlohmann::json{{"removed", removed}};
}

Result<nlohmann::json> add_allow(const OperationContext& context, const nlohmann::json& request) {
    const auto text = text_member(request, "prefix");
    if (!text)
        return text.error();
    const auto prefix = net::Prefix::parse(*text);
    const auto comment = comment_member(request);
    const auto seconds = seconds_member(request, std::nullopt);
    if (!prefix)
        return prefix.error();
    if (!comment)
        return comment.error();
    if (!seconds)
        return seconds.error();
    const Clocks clocks = Clocks::now();
    bt_allow entry{};
    entry.expires_ns = *seconds ? clocks.monotonic_ns + **seconds * BT_NSEC_PER_SEC : never;
    comment->copy(entry.comment, sizeof entry.comment - 1);
    if (auto stored = context.maps.allow.update(prefix->lpm(), entry); !stored)
        return stored.error();
    const auto forgotten = forget_flows(context.maps, *prefix);
    if (!forgotten)
        return forgotten.error();
    return nlohmann::json{{"allow", allow_json(prefix->lpm(), entry, clocks)}, {"forgotten", *forgotten}};
}

Result<nlohmann::json> delete_allow(const OperationContext& context, const nlohmann::json& request) {
    const auto text = text_member(request, "prefix");
    if (!text)
        return text.error();
    const auto prefix = net::Prefix::parse(*text);
    if (!prefix)
        return prefix.error();
    // A lookup in a longest-prefix map also finds wider prefixes; erasing wants this very one.
    const auto erased = context.maps.allow.erase(prefix->lpm());
    if (!erased)
        return erased.error();
    if (!*erased)
        return error(prefix->to_string() + " is not in the allowlist");
    const auto forgotten = forget_flows(context.maps, *prefix);
    if (!forgotten)
        return forgotten.error();
    return nlohmann::json{{"removed", 1}, {"forgotten", *forgotten}};
}

Result<nlohmann::json> dispatch(const OperationContext& context, const nlohmann::json& request) {
    const auto command = text_member(request, "command");
    if (!command)
        return command.error();
    if (*command == "bans.add")
        return add_ban(context, request);
    if (*command == "bans.del")
        return delete_ban(context, request);
    if (*command == "bans.flush")
        return flush_bans(context);
    if (*command == "allow.add")
        return add_allow(context, request);
    if (*command == "allow.del")
        return delete_allow(context, request);
    return error("unknown command '" + printable(*command) + "'", ExitCode::usage);
}

} // namespace

Result<policy::BanDecision> parse_ban_target(std::string_view text) {
    policy::BanDecision target;
    std::string_view address = text;
    const auto usage = [&](std::string_view why) {
        return error(fmt::format("'{}' {}", printable(text), why), ExitCode::usage);
    };
    const auto read_port = [&](std::string_view digits) {
        std::uint16_t port = 0;
        const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
        if (failed != std::errc{} || end != digits.data() + digits.size() || port == 0)
            return false;
        target.port = port;
        return true;
    };
    if (address.starts_with('[')) { // [2001:db8::1]:6881
        const auto close = address.find("]:");
        if (close == std::string_view::npos || !read_port(address.substr(close + 2)))
            return usage("is not an endpoint such as [2001:db8::1]:6881");
        address = address.substr(1, close - 1);
    } else if (std::count(address.begin(), address.end(), ':') == 1) { // 192.0.2.7:6881
        const auto colon = address.find(':');
        if (!read_port(address.substr(colon + 1)))
            return usage("is not an endpoint such as 192.0.2.7:6881");
        address = address.substr(0, colon);
    }
    if (target.port && address.find('/') != std::string_view::npos)
        return usage("names a port of a prefix; only an address has ports");
    const auto prefix = net::Prefix::parse(address);
    if (!prefix)
        return usage("is not an address, a prefix or an endpoint");
    const bool v4 = prefix->address().is_v4();
    if (prefix->length() != (v4 ? 32u : 128u) && (v4 || prefix->length() != 64))
        return usage("cannot be banned: only single addresses and IPv6 /64 prefixes can");
    target.address = prefix->address();
    target.subnet64 = !v4 && prefix->length() == 64;
    return target;
}

Result<void> check_comment(std::string_view comment) {
    if (comment.size() >= BT_COMMENT_LEN)
        return error(fmt::format("the comment is longer than {} bytes", BT_COMMENT_LEN - 1), ExitCode::usage);
    if (printable(comment) != comment)
        return error("the comment contains control characters", ExitCode::usage);
    return {};
}

Json ban_json(const bt_addr& key, const bt_ban& ban, const Clocks& clocks) {
    Json object;
    const net::Address address(key);
    object["address"] = address.to_string() + (ban.flags & BT_BAN_SUBNET64 ? "/64" : "");
    object["ports"] = Json::array();
    for (int i = 0; i < std::min<int>(ban.port_count, BT_BAN_PORTS); ++i)
        object["ports"].push_back(ban.ports[i]);
    object["created"] = utc_time(clocks.to_wall(ban.created_ns));
    if (ban.expires_ns == never) {
        object["expires"] = nullptr;
        object["remaining"] = nullptr;
    } else {
        object["expires"] = utc_time(clocks.to_wall(ban.expires_ns) + BT_NSEC_PER_SEC / 2); // nearest second
        object["remaining"] = seconds_left(ban.expires_ns, clocks.monotonic_ns);
    }
    object["evidence"] = evidence_list(ban.evidence);
    object["hits"] = ban.hits;
    object["manual"] = (ban.flags & BT_BAN_MANUAL) != 0;
    object["comment"] = comment_of(ban.comment);
    return object;
}

Json allow_json(const bt_lpm_key& key, const bt_allow& entry, const Clocks& clocks) {
    Json object;
    object["prefix"] = net::Prefix::from_lpm(key).to_string();
    if (entry.expires_ns == never) {
        object["expires"] = nullptr;
        object["remaining"] = nullptr;
    } else {
        object["expires"] = utc_time(clocks.to_wall(entry.expires_ns) + BT_NSEC_PER_SEC / 2);
        object["remaining"] = seconds_left(entry.expires_ns, clocks.monotonic_ns);
    }
    object["comment"] = comment_of(entry.comment);
    return object;
}

nlohmann::json ImportedBan::to_json() const {
    nlohmann::json object{{"address", text_of(target)}, {"ports", ports}, {"manual", manual}, {"comment", comment}};
    object["expires"] = expires_wall_ns == never ? nlohmann::json() : nlohmann::json(utc_time(expires_wall_ns));
    object["evidence"] = evidence_list(evidence);
    return object;
}

Result<ImportedBan> imported_ban(const nlohmann::json& entry) {
    if (!entry.is_object())
        return error("a ban must be an object", ExitCode::usage);
    const auto text = text_member(entry, "address");
    if (!text)
        return text.error();
    const auto target = parse_ban_target(*text);
    const auto ports = ports_member(entry);
    const auto evidence = evidence_member(entry);
    const auto manual = flag_member(entry, "manual", true);
    const auto comment = comment_member(entry);
    if (!target)
        return target.error();
    if (!ports)
        return ports.error();
    if (!evidence)
        return evidence.error();
    if (!manual)
        return manual.error();
    if (!comment)
        return comment.error();
    ImportedBan ban{*target, *ports, never, *evidence, *manual, *comment};
    if (target->port) {
        ban.ports.insert(ban.ports.begin(), *target->port);
        ban.target.port.reset();
    }
    if (ban.target.subnet64 && !ban.ports.empty())
        return error("'" + *text + "' names ports of a prefix; only an address has ports", ExitCode::usage);
    if (const auto expires = entry.find("expires"); expires != entry.end() && !expires->is_null()) {
        const auto time = expires->is_string() ? parse_utc_time(expires->get<std::string>()) : std::nullopt;
        if (!time)
            return error("\"expires\" must be a time such as \"2026-01-31T23:59:59Z\", or null", ExitCode::usage);
        ban.expires_wall_ns = *time;
    }
    return ban;
}

namespace {

// Where each of up to `most` different addresses stands in `keys`, which only add() changes. A node for each of a
// million, as std::unordered_map has, would take as long as everything else.
class Places {
public:
    Places(std::vector<bt_addr>& keys, std::size_t most) : keys_(keys), slots_(std::bit_ceil(2 * most + 1), free) {}

    // Its place, at the end when it is new.
    std::size_t add(const bt_addr& address) {
        std::uint32_t& slot = slot_of(address);
        if (slot == free) {
            slot = static_cast<std::uint32_t>(keys_.size());
            keys_.push_back(address);
        }
        return slot;
    }
    [[nodiscard]] std::optional<std::size_t> find(const bt_addr& address) {
        const std::uint32_t slot = slot_of(address);
        return slot == free ? std::nullopt : std::optional<std::size_t>(slot);
    }

private:
    static constexpr std::uint32_t free = ~std::uint32_t{0};

    std::uint32_t& slot_of(const bt_addr& address) {
        const std::string_view bytes(reinterpret_cast<const char*>(address.b), sizeof address.b);
        std::size_t at = std::hash<std::string_view>()(bytes) & (slots_.size() - 1);
        while (slots_[at] != free && std::memcmp(keys_[slots_[at]].b, address.b, sizeof address.b) != 0)
            at = (at + 1) & (slots_.size() - 1);
        return slots_[at];
    }

    std::vector<bt_addr>& keys_;
    std::vector<std::uint32_t, detect::LargePages<std::uint32_t>> slots_;
};

} // namespace

Result<std::size_t> import_bans(const OperationContext& context, const ImportedBans& bans, bool force) {
    if (!force) {
        const auto protection = Protection::of(context);
        if (!protection)
            return protection.error();
        for (const ImportedBan& ban : bans)
            if (auto harmless = protection->check(ban.target); !harmless)
                return harmless.error();
    }
    const Clocks clocks = Clocks::now();
    std::vector<bt_addr> keys;
    std::vector<bt_ban> values;
    keys.reserve(bans.size());
    values.reserve(bans.size());
    Places place(keys, bans.size());
    std::size_t imported = 0;
    for (const ImportedBan& ban : bans) {
        if (ban.expires_wall_ns <= clocks.wall_ns)
            continue;
        const std::size_t at = place.add(ban.target.address.raw());
        if (at == values.size())
            values.emplace_back(); // expired long ago: merging begins anew
        bt_ban& value = values[at];
        policy::BanDecision target = ban.target;
        const auto merge = [&] {
            value = merged_ban(value, target, clocks.to_monotonic(ban.expires_wall_ns), ban.evidence, ban.comment,
                               ban.manual, clocks.monotonic_ns);
        };
        for (const std::uint16_t port : ban.ports) {
            target.port = port;
            merge();
        }
        if (ban.ports.empty())
            merge();
        ++imported;
    }
    // What stands already is extended, not replaced.
    std::size_t others = 0;
    auto walked = context.maps.bans.for_each([&](const bt_addr& key, const bt_ban& before) {
        const auto found = place.find(key);
        if (!found) {
            ++others;
            return;
        }
        bt_ban& value = values[*found];
        if (before.expires_ns <= clocks.monotonic_ns)
            return;
        const bool manual = value.flags & BT_BAN_MANUAL;
        bt_ban joined = before;
        if (value.port_count == 0 || joined.port_count == 0)
            joined.port_count = 0;
        for (int i = 0; i < value.port_count && joined.port_count > 0; ++i)
            joined =
                merged_ban(joined, {net::Address(key), false, value.ports[i]}, 0, 0, "", false, clocks.monotonic_ns);
        joined.expires_ns = manual ? value.expires_ns : std::max(joined.expires_ns, value.expires_ns);
        joined.evidence |= value.evidence;
        joined.flags |= value.flags;
        if (value.comment[0])
            std::memcpy(joined.comment, value.comment, sizeof joined.comment);
        value = joined;
    });
    if (!walked)
        return walked.error();
    if (others + keys.size() > context.maps.bans.capacity())
        return error(fmt::format("{} bans do not fit: capacity.bans is {}, {} are in use; nothing was imported",
                                 keys.size(), context.maps.bans.capacity(), others));
    if (auto stored = context.maps.bans.update_many(keys, values); !stored)
        return stored.error();
    return imported;
}

nlohmann::json perform(const OperationContext& context, const nlohmann::json& request) {
    auto answer = dispatch(context, request);
    if (!answer)
        return error_object(answer.error());
    (*answer)["ok"] = true;
    return *answer;
}

Result<std::size_t> forget_flows(const bpf::Maps& maps, const net::Prefix& prefix) {
    std::vector<bt_tuple> tuples;
    std::vector<bt_endpoint> endpoints;
    auto flows = maps.flows.for_each([&](const bt_tuple& key, const bt_flow&) {
        if (prefix.contains(net::Address(key.src)) || prefix.contains(net::Address(key.dst)))
            tuples.push_back(key);
    });
    if (!flows)
        return flows.error();
    auto sockets = maps.sockets.for_each([&](const bt_endpoint& key, const bt_mark&) {
        if (prefix.contains(net::Address(key.addr)))
            endpoints.push_back(key);
    });
    if (!sockets)
        return sockets.error();
    std::size_t gone = 0;
    for (const bt_tuple& tuple : tuples)
        if (auto erased = maps.flows.erase(tuple); erased && *erased)
            ++gone;
    for (const bt_endpoint& endpoint : endpoints)
        if (auto erased = maps.sockets.erase(endpoint); erased && *erased)
            ++gone;
    return gone;
}

} // namespace btblock::app
