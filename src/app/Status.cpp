// SPDX-License-Identifier: MIT
#include "app/Status.h"

#include "app/Command.h"
#include "app/Render.h"
#include "app/Watch.h"
#include "bpf/Pins.h"
#include "control/Client.h"
#include "core/Clock.h"
#include "core/Evidence.h"
#include "net/Interface.h"

#include <algorithm>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <map>
#include <spdlog/fmt/fmt.h>

namespace btblock::app {

namespace {

std::string xdp_mode_of(unsigned ifindex) {
    LIBBPF_OPTS(bpf_xdp_query_opts, opts);
    if (ifindex == 0 || bpf_xdp_query(static_cast<int>(ifindex), 0, &opts) < 0)
        return "off";
    switch (opts.attach_mode) {
    case XDP_ATTACHED_DRV: return "native";
    case XDP_ATTACHED_SKB: return "generic";
    case XDP_ATTACHED_HW: return "offload";
    default: return opts.prog_id ? "native" : "off";
    }
}

// Members of a status that may come from another version of the daemon: absent ones read as nothing.
std::uint64_t number(const Json& status, const char* section, const char* name) {
    const auto part = status.find(section);
    if (part == status.end() || !part->is_object())
        return 0;
    const auto found = part->find(name);
    return found != part->end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

std::string word(const Json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_string() ? printable(found->get<std::string>()) : std::string();
}

constexpr std::size_t label_width = 12;

void line(std::string& out, std::string_view label, const std::string& content, const Screen& alarming = {}) {
    out += alarming.red(fmt::format("{:<{}}", label, label_width)) +
           fmt::format(" {}\n", wrapped(content, 79, label_width + 1));
}

std::string fill(const Json& status, const char* section) {
    const auto entries = number(status, section, "entries"), capacity = number(status, section, "capacity");
    return fmt::format("{} of {}", grouped(entries), grouped(capacity));
}

// "name 12, other 3" of the members that are not 0.
std::string non_zero(const Json& object) {
    std::string text;
    for (const auto& [name, value] : object.items())
        if (value.is_number_unsigned() && value != 0)
            text += (text.empty() ? "" : ", ") + printable(name) + " " + grouped(value.get<std::uint64_t>());
    return text.empty() ? "none" : text;
}

// From the daemon; an error where it does not run, which status then tells.
Result<Json> ask_daemon(const std::string& instance) {
    auto answer = control::request(instance, {{"command", "status"}});
    if (!answer)
        return answer.error();
    // Through text: the fields come back sorted, the contract's order is for people only.
    const auto found = answer->find("status");
    return Json(found == answer->end() ? *answer : *found);
}

// From the daemon or, without one, from the pins.
Result<Json> read_status(const std::string& instance) {
    auto answer = ask_daemon(instance);
    if (answer)
        return answer;
    const auto maps = bpf::open_pinned_maps(instance);
    if (!maps)
        return maps.error();
    StatusExtras extras;
    extras.instance = instance;
    extras.interfaces = pinned_interfaces(instance);
    extras.problems.push_back(answer.error().message);
    for (const InterfaceStatus& interface : extras.interfaces)
        if (interface.ifindex == 0)
            extras.problems.push_back("interface " + interface.name + " is gone");
    return status_json(*maps, extras);
}

struct StatusOptions {
    Format format = Format::human;
    std::string watch; // seconds; empty: once
};

int status_command(const std::string& instance, const StatusOptions& options, Io& io) {
    const bool json = options.format == Format::json;
    if (!options.watch.empty()) {
        const auto seconds = parse_interval(options.watch);
        if (!seconds)
            return fail(io, seconds.error());
        if (json) // for programs: an object a line, whatever the output is
            io.screen.terminal = false;
        return watch(io, *seconds, json ? "" : "\n", [&]() -> Result<std::string> {
            const auto status = read_status(instance);
            if (!status)
                return status.error();
            return json ? status->dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"
                        : status_text(*status, io.screen);
        });
    }
    const auto status = read_status(instance);
    if (!status)
        return fail(io, status.error());
    if (json)
        io.out << status->dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
    else
        io.out << status_text(*status, io.screen);
    return status_exit_code(*status);
}

} // namespace

Result<MapsSummary> summarize(const bpf::Maps& maps, std::uint64_t now_ns) {
    MapsSummary summary;
    const auto counters = maps.stats();
    if (!counters)
        return counters.error();
    const auto config = maps.read_config();
    if (!config)
        return config.error();
    summary.counters = *counters;
    summary.config = *config;
    summary.memory = maps.memory();
    summary.bans_capacity = maps.bans.capacity();
    summary.flows_capacity = maps.flows.capacity();
    summary.sockets_capacity = maps.sockets.capacity();
    summary.peers_capacity = maps.peers.capacity();
    summary.clients_capacity = maps.clients.capacity();
    summary.allow_capacity = maps.allow.capacity();
    Result<std::size_t> walks[] = {
        maps.bans.for_each([&](const bt_addr&, const bt_ban& ban) { summary.bans += ban.expires_ns > now_ns; }),
        maps.flows.for_each([&](const bt_tuple&, const bt_flow&) { ++summary.flows; }),
        maps.sockets.for_each(
            [&](const bt_endpoint&, const bt_mark& mark) { summary.sockets += mark.expires_ns > now_ns; }),
        maps.peers.for_each(
            [&](const bt_peer_key&, const bt_mark& mark) { summary.peers += mark.expires_ns > now_ns; }),
        maps.clients.for_each(
            [&](const bt_addr&, const bt_client& client) { summary.clients += client.active_until_ns > now_ns; }),
        maps.allow.for_each(
            [&](const bt_lpm_key&, const bt_allow& entry) { summary.allow += entry.expires_ns > now_ns; }),
    };
    for (const auto& walk : walks)
        if (!walk)
            return walk.error();
    return summary;
}

Json status_json(const MapsSummary& maps, const StatusExtras& extras) {
    const auto counter = [&](bt_stat which) { return maps.counters[which]; };
    const std::uint64_t drops = counter(BT_S_DROP_BAN) + counter(BT_S_DROP_SOCKET) + counter(BT_S_DROP_PEER) +
                                counter(BT_S_DROP_FLOW) + counter(BT_S_DROP_DETECTED) + counter(BT_S_QUEUE_DROPPED);
    const std::uint64_t leaked = counter(BT_S_LEAKED_DHT) + counter(BT_S_LEAKED_UDP_TRACKER) +
                                 counter(BT_S_LEAKED_HTTP) + counter(BT_S_LEAKED_LSD);
    const std::uint64_t seen = counter(BT_S_SEEN);
    Json status;
    status["version"] = BTBLOCK_VERSION;
    status["instance"] = extras.instance;
    status["mode"] = maps.config.flags & BT_C_MONITOR ? "monitor" : "enforce";
    status["daemon"] = extras.daemon;
    status["interfaces"] = Json::array();
    for (const InterfaceStatus& interface : extras.interfaces)
        status["interfaces"].push_back({{"name", interface.name},
                                        {"ifindex", interface.ifindex},
                                        {"link", interface.link},
                                        {"xdp", interface.xdp},
                                        {"tc", interface.tc}});
    status["packets"] = {{"seen", seen},
                         {"passed", seen - std::min(seen, drops)},
                         {"dropped", drops},
                         {"punted", counter(BT_S_PUNTED)},
                         {"rejected", counter(BT_S_REJECTED)},
                         {"monitored", counter(BT_S_MONITORED)},
                         {"not_punted", counter(BT_S_PUNT_NO_LEASE)},
                         {"not_parsed", counter(BT_S_PARSE_SKIPPED)},
                         {"fragments", counter(BT_S_FRAGMENTS)}};
    // A verdict of the daemon decides about a packet just as a detector in the kernel does.
    status["drops"] = {{"ban", counter(BT_S_DROP_BAN)},
                       {"socket", counter(BT_S_DROP_SOCKET)},
                       {"peer", counter(BT_S_DROP_PEER)},
                       {"flow", counter(BT_S_DROP_FLOW)},
                       {"detected", counter(BT_S_DROP_DETECTED) + counter(BT_S_QUEUE_DROPPED)}};
    status["detections"] = Json::object();
    for (std::size_t code = 0; code < evidence_names.size(); ++code)
        status["detections"][std::string(evidence_names[code])] = maps.counters[BT_S_DETECTIONS + code];
    status["bans"] = {{"entries", maps.bans}, {"capacity", maps.bans_capacity}};
    status["flows"] = {{"entries", maps.flows},
                       {"capacity", maps.flows_capacity},
                       {"new", counter(BT_S_NEW_FLOWS)},
                       {"clean_early", counter(BT_S_CLEAN_EARLY)},
                       {"skipped", counter(BT_S_FLOOD_SKIPPED)}};
    status["sockets"] = {
        {"entries", maps.sockets}, {"capacity", maps.sockets_capacity}, {"condemned", counter(BT_S_CONDEMNED)}};
    status["peers"] = {{"entries", maps.peers}, {"capacity", maps.peers_capacity}, {"learned", counter(BT_S_LEARNED)}};
    status["clients"] = {{"active", maps.clients}, {"capacity", maps.clients_capacity}};
    status["allow"] = {{"entries", maps.allow}, {"capacity", maps.allow_capacity}};
    status["memory"] = {{"maps", maps.memory}};
    status["queue"] = {{"depth", extras.queue_depth},
                       {"dropped", extras.queue_dropped},
                       {"failed_open", extras.queue_failed_open},
                       {"verdicts_drop", counter(BT_S_QUEUE_DROPPED)},
                       {"verdicts_pass", counter(BT_S_QUEUE_PASSED)}};
    status["events"] = {{"sent", counter(BT_S_EVENTS_SENT)},
                        {"lost", counter(BT_S_EVENTS_LOST)},
                        {"limited", counter(BT_S_EVENTS_LIMITED)},
                        {"suppressed", extras.events_suppressed}};
    status["announce_leaked"] = leaked;
    status["announce_leaked_by"] = {{"dht", counter(BT_S_LEAKED_DHT)},
                                    {"udp_tracker", counter(BT_S_LEAKED_UDP_TRACKER)},
                                    {"http", counter(BT_S_LEAKED_HTTP)},
                                    {"lsd", counter(BT_S_LEAKED_LSD)}};
    status["problems"] = extras.problems;
    return status;
}

Json status_json(const bpf::Maps& maps, const StatusExtras& extras) {
    const auto summary = summarize(maps, monotonic_ns());
    if (summary)
        return status_json(*summary, extras);
    StatusExtras told = extras;
    told.problems.push_back(summary.error().message);
    return status_json(MapsSummary{}, told);
}

std::string status_text(const Json& status, const Screen& screen) {
    const bool daemon = status.value("daemon", false);
    const std::string mode = word(status, "mode");
    std::string out =
        fmt::format("btblock {}, instance '{}': {}, {}\n\n", word(status, "version"), word(status, "instance"),
                    mode == "monitor" ? screen.yellow("only watching (monitor mode)") : screen.green("enforcing"),
                    daemon ? "daemon running" : screen.red("daemon NOT running"));
    const auto problems = status.find("problems");
    if (problems != status.end() && problems->is_array() && !problems->empty()) {
        for (const Json& problem : *problems)
            if (problem.is_string())
                line(out, "problem", printable(problem.get<std::string>()), screen);
        out += "\n";
    }
    const auto interfaces = status.find("interfaces");
    if (interfaces == status.end() || !interfaces->is_array() || interfaces->empty()) {
        line(out, "interfaces", "none attached");
    } else {
        Table table({{"interface"}, {"ifindex", Table::Align::right}, {"link"}, {"tc"}, {"xdp"}});
        for (const Json& interface : *interfaces) {
            const auto ifindex = interface.is_object() ? interface.value("ifindex", 0u) : 0u;
            table.row({word(interface, "name"), ifindex ? std::to_string(ifindex) : "gone", word(interface, "link"),
                       word(interface, "tc"), word(interface, "xdp")});
        }
        out += table.text(screen.width) + "\n";
    }
    line(out, "packets",
         fmt::format("seen {}, passed {}, dropped {}, to user space {}", grouped(number(status, "packets", "seen")),
                     grouped(number(status, "packets", "passed")), grouped(number(status, "packets", "dropped")),
                     grouped(number(status, "packets", "punted"))));
    if (mode == "monitor")
        line(out, "would drop", counted(number(status, "packets", "monitored"), "packet", "packets"));
    if (status.contains("drops") && status["drops"].is_object())
        line(out, "dropped by", non_zero(status["drops"]));
    if (status.contains("detections") && status["detections"].is_object())
        line(out, "detections", non_zero(status["detections"]));
    line(out, "bans", fill(status, "bans"));
    line(out, "half-flows", fill(status, "flows"));
    line(out, "sockets", fill(status, "sockets") + " condemned");
    if (const std::uint64_t bytes = number(status, "memory", "maps"))
        line(out, "memory", fmt::format("{:.1f} MiB in the kernel", static_cast<double>(bytes) / (1 << 20)));
    line(out, "clients", counted(number(status, "clients", "active"), "active", "active"));
    line(out, "queue",
         fmt::format("{} waiting, {} lost, {} passed unseen", grouped(number(status, "queue", "depth")),
                     grouped(number(status, "queue", "dropped")), grouped(number(status, "queue", "failed_open"))));
    const std::uint64_t by_number = number(status, "events", "suppressed") + number(status, "events", "limited");
    line(out, "events",
         fmt::format("{} sent, {} lost{}", grouped(number(status, "events", "sent")),
                     grouped(number(status, "events", "lost")),
                     by_number ? fmt::format(", {} suppressed and told by number", grouped(by_number)) : ""));
    const auto leaked = status.find("announce_leaked");
    if (leaked != status.end() && leaked->is_number_unsigned())
        line(out, "leaked",
             counted(leaked->get<std::uint64_t>(), "announce or other control packet before its flow was known",
                     "announces or other control packets before their flow was known"));
    return out;
}

int status_exit_code(const Json& status) {
    const auto problems = status.find("problems");
    const bool trouble = problems != status.end() && problems->is_array() && !problems->empty();
    return static_cast<int>(status.value("daemon", false) && !trouble ? ExitCode::ok : ExitCode::degraded);
}

std::vector<InterfaceStatus> pinned_interfaces(const std::string& instance) {
    std::map<std::string, InterfaceStatus> by_name;
    for (const bpf::PinnedLink& link : bpf::pinned_links(bpf::Pins{instance})) {
        auto [item, fresh] = by_name.try_emplace(link.interface);
        InterfaceStatus& interface = item->second;
        if (fresh) {
            interface = {link.interface, 0, "", "off", "off"};
            if (const auto found = net::find_interface(link.interface)) {
                interface.ifindex = found->ifindex;
                interface.link = found->kind == net::LinkKind::ethernet ? "ethernet" : "ip";
            }
        }
        if (link.hook == "xdp")
            interface.xdp = xdp_mode_of(interface.ifindex);
        else
            interface.tc = link.hook == "in" || link.hook == "out" ? "tcx" : "clsact";
    }
    std::vector<InterfaceStatus> interfaces;
    for (auto& [name, interface] : by_name)
        interfaces.push_back(std::move(interface));
    return interfaces;
}

void add_status(CommandLine& line) {
    auto options = std::make_shared<StatusOptions>();
    CLI::App* sub = line.command("status", "Show maps, counters, attachments, mode and health");
    add_format(sub, options->format, {Format::human, Format::json});
    sub->add_option("--watch", options->watch, "Again and again until Ctrl-C, every 2 seconds or so many")
        ->type_name("[SECONDS]")
        ->expected(0, 1)
        ->default_str("2");
    sub->footer("Works from the pinned maps when the daemon is down. Exit code 0: all is well,\n"
                "3: nothing is installed, 4: degraded (no daemon, or problems are listed).\n\n"
                "Examples:\n"
                "  btblock status\n"
                "  btblock status --watch=5\n"
                "  btblock status -o json | jq .drops");
    line.on(sub, [&line, options](Io& io) { return status_command(line.instance(), *options, io); });
}

} // namespace btblock::app
