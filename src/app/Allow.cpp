// SPDX-License-Identifier: MIT
#include "app/Allow.h"

#include "app/Bans.h"
#include "app/Command.h"
#include "app/Operations.h"
#include "core/Duration.h"

#include <algorithm>

namespace btblock::app {

namespace {

struct AllowOptions {
    std::string prefix, duration, comment;
    Format format = Format::human;
};

int list_allowed(const std::string& instance, Format format, Io& io) {
    const auto maps = bpf::open_pinned_maps(instance);
    if (!maps)
        return fail(io, maps.error());
    std::vector<std::pair<bt_lpm_key, bt_allow>> entries;
    auto walked =
        maps->allow.for_each([&](const bt_lpm_key& key, const bt_allow& entry) { entries.emplace_back(key, entry); });
    if (!walked)
        return fail(io, walked.error());
    const auto live = live_allow(std::move(entries), Clocks::now());
    if (format == Format::json)
        io.out << Json{{"allow", live}}.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
    else
        io.out << (format == Format::csv ? allow_csv(live) : allow_text(live, io.screen.width));
    return 0;
}

int add_command(const std::string& instance, const AllowOptions& options, Io& io) {
    const auto prefix = net::Prefix::parse(options.prefix);
    if (!prefix)
        return fail(io, prefix.error());
    if (auto checked = check_comment(options.comment); !checked)
        return fail(io, checked.error());
    nlohmann::json request{{"command", "allow.add"}, {"prefix", options.prefix}};
    if (!options.comment.empty())
        request["comment"] = options.comment;
    if (!options.duration.empty() && options.duration != "forever") {
        const auto seconds = parse_duration(options.duration);
        if (!seconds || *seconds == 0)
            return fail(
                io, error("--for: " + (seconds ? "must be at least 1s" : seconds.error().message), ExitCode::usage));
        request["seconds"] = *seconds;
    }
    const auto answer = change(instance, request);
    if (!answer)
        return fail(io, answer.error());
    io.out << prefix->to_string() << " is allowed\n";
    return 0;
}

int delete_command(const std::string& instance, const AllowOptions& options, Io& io) {
    const auto prefix = net::Prefix::parse(options.prefix);
    if (!prefix)
        return fail(io, prefix.error());
    const auto answer = change(instance, {{"command", "allow.del"}, {"prefix", options.prefix}});
    if (!answer)
        return fail(io, answer.error());
    io.out << prefix->to_string() << " is no longer allowed\n";
    return 0;
}

} // namespace

std::vector<Json> live_allow(std::vector<std::pair<bt_lpm_key, bt_allow>> entries, const Clocks& clocks) {
    std::erase_if(entries, [&](const auto& entry) { return entry.second.expires_ns <= clocks.monotonic_ns; });
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
        const net::Prefix left = net::Prefix::from_lpm(a.first), right = net::Prefix::from_lpm(b.first);
        return left.address() != right.address() ? left.address() < right.address() : left.length() < right.length();
    });
    std::vector<Json> list;
    for (const auto& [key, entry] : entries)
        list.push_back(allow_json(key, entry, clocks));
    return list;
}

std::string allow_text(const std::vector<Json>& entries, std::size_t width) {
    if (entries.empty())
        return "nothing is allowed in particular\n";
    Table table({{"prefix"}, {"remaining", Table::Align::right}, {"comment"}});
    for (const Json& entry : entries)
        table.row({entry["prefix"].get<std::string>(),
                   entry["remaining"].is_null() ? "for ever" : rough_duration(entry["remaining"].get<std::uint64_t>()),
                   entry["comment"].get<std::string>()});
    return table.text(width);
}

std::string allow_csv(const std::vector<Json>& entries) {
    std::string text = "prefix,expires,comment\n";
    for (const Json& entry : entries)
        text += csv_line({entry["prefix"].get<std::string>(),
                          entry["expires"].is_null() ? "never" : entry["expires"].get<std::string>(),
                          entry["comment"].get<std::string>()});
    return text;
}

void add_allow(CommandLine& line) {
    CLI::App* allow = line.command("allow", "List and change addresses that are never blocked");
    allow->footer("Entries made here outlive restarts and reboots, as bans do; those of the configuration come with it."
                  "\n\nExample:\n  btblock allow add 192.0.2.0/24 --for 7d --comment 'ticket 17'");
    auto options = std::make_shared<AllowOptions>();

    CLI::App* list = line.command("list", "Show the allowlist", allow);
    add_format(list, options->format, {Format::human, Format::json, Format::csv});
    list->footer("Example:\n  btblock allow list");
    line.on(list, [&line, options](Io& io) { return list_allowed(line.instance(), options->format, io); });

    CLI::App* add = line.command("add", "Allow an address or a prefix", allow);
    add->add_option("PREFIX", options->prefix, "192.0.2.7, 192.0.2.0/24, 2001:db8::/48")->required();
    add->add_option("--for", options->duration, "How long: 90s, 30m, 2h, 7d; default for ever")->type_name("DURATION");
    add->add_option("--comment", options->comment, "Why, at most 47 bytes")->type_name("TEXT");
    add->footer("Example:\n  btblock allow add 192.0.2.0/24 --comment 'mirror network'");
    line.on(add, [&line, options](Io& io) { return add_command(line.instance(), *options, io); });

    CLI::App* del = line.command("del", "Take an address or a prefix off the allowlist", allow);
    del->add_option("PREFIX", options->prefix, "As `allow list` shows it")->required();
    del->footer("Example:\n  btblock allow del 192.0.2.0/24");
    line.on(del, [&line, options](Io& io) { return delete_command(line.instance(), *options, io); });
}

} // namespace btblock::app
