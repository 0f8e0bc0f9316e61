// SPDX-License-Identifier: MIT
#include "app/Flows.h"

#include "app/Command.h"
#include "bpf/Maps.h"
#include "core/Duration.h"
#include "core/Evidence.h"
#include "net/Address.h"

#include <algorithm>
#include <netinet/in.h>
#include <spdlog/fmt/fmt.h>

namespace btblock::app {

namespace {

int flows_command(const std::string& instance, const FlowFilter& filter, Format format, Io& io) {
    const auto maps = bpf::open_pinned_maps(instance);
    if (!maps)
        return fail(io, maps.error());
    std::vector<std::pair<bt_tuple, bt_flow>> entries;
    auto walked = maps->flows.for_each([&](const bt_tuple& key, const bt_flow& flow) {
        if (filter.all || flow.verdict == BT_V_BLOCKED)
            entries.emplace_back(key, flow);
    });
    if (!walked)
        return fail(io, walked.error());
    const auto flows = listed_flows(std::move(entries), filter, Clocks::now());
    if (format == Format::json)
        io.out << Json{{"flows", flows}}.dump(2) << "\n";
    else if (format == Format::csv)
        io.out << flows_csv(flows);
    else
        io.out << (flows.empty() ? (filter.all ? "no half-flows\n" : "no blocked half-flows (--all shows the others)\n")
                                 : flows_text(flows, io.screen.width));
    return 0;
}

} // namespace

std::string verdict_name(unsigned verdict) {
    switch (verdict) {
    case BT_V_UNKNOWN: return "unknown";
    case BT_V_CLEAN: return "clean";
    case BT_V_ALLOWED: return "allowed";
    case BT_V_HTTP: return "http";
    case BT_V_BLOCKED: return "blocked";
    default: return std::to_string(verdict);
    }
}

std::vector<Json> listed_flows(std::vector<std::pair<bt_tuple, bt_flow>> entries, const FlowFilter& filter,
                               const Clocks& clocks) {
    if (!filter.all)
        std::erase_if(entries, [](const auto& entry) { return entry.second.verdict != BT_V_BLOCKED; });
    std::stable_sort(entries.begin(), entries.end(),
                     [](const auto& a, const auto& b) { return a.second.last_seen_ns > b.second.last_seen_ns; });
    if (filter.limit && entries.size() > filter.limit)
        entries.resize(filter.limit);
    std::vector<Json> flows;
    for (const auto& [key, flow] : entries) {
        Json object;
        object["proto"] = key.proto == IPPROTO_TCP   ? "tcp"
                          : key.proto == IPPROTO_UDP ? "udp"
                                                     : std::to_string(key.proto);
        object["src"] = net::Address(key.src).to_string();
        object["sport"] = key.sport;
        object["dst"] = net::Address(key.dst).to_string();
        object["dport"] = key.dport;
        object["verdict"] = verdict_name(flow.verdict);
        object["evidence"] = evidence_list(flow.evidence);
        object["inspected"] = flow.seen;
        object["ifindex"] = flow.owner >> 1;
        object["direction"] = flow.owner & 1 ? "egress" : "ingress";
        object["last_seen"] = utc_time(clocks.to_wall(flow.last_seen_ns));
        object["idle"] = seconds_left(clocks.monotonic_ns, flow.last_seen_ns);
        flows.push_back(std::move(object));
    }
    return flows;
}

std::string flows_text(const std::vector<Json>& flows, std::size_t width) {
    Table table({{"proto"}, {"from"}, {"to"}, {"verdict"}, {"idle", Table::Align::right}, {"evidence"}});
    for (const Json& flow : flows) {
        const auto end = [&](const char* address, const char* port) {
            const std::string text = flow[address].get<std::string>();
            const std::string number = std::to_string(flow[port].get<unsigned>());
            return text.find(':') == std::string::npos ? fmt::format("{}:{}", text, number)
                                                       : fmt::format("[{}]:{}", text, number);
        };
        table.row({flow["proto"].get<std::string>(), end("src", "sport"), end("dst", "dport"),
                   flow["verdict"].get<std::string>(), rough_duration(flow["idle"].get<std::uint64_t>()),
                   plus_joined(flow["evidence"])});
    }
    return table.text(width);
}

std::string flows_csv(const std::vector<Json>& flows) {
    std::string text = "proto,src,sport,dst,dport,verdict,evidence,inspected,ifindex,direction,last_seen\n";
    for (const Json& flow : flows)
        text += csv_line({flow["proto"].get<std::string>(), flow["src"].get<std::string>(), flow["sport"].dump(),
                          flow["dst"].get<std::string>(), flow["dport"].dump(), flow["verdict"].get<std::string>(),
                          plus_joined(flow["evidence"]), flow["inspected"].dump(), flow["ifindex"].dump(),
                          flow["direction"].get<std::string>(), flow["last_seen"].get<std::string>()});
    return text;
}

void add_flows(CommandLine& line) {
    struct Options {
        FlowFilter filter;
        Format format = Format::human;
    };
    auto options = std::make_shared<Options>();
    CLI::App* sub = line.command("flows", "Show half-flows and their verdicts");
    add_format(sub, options->format, {Format::human, Format::json, Format::csv});
    sub->add_flag("--all", options->filter.all, "Not only the blocked ones");
    sub->add_option("-n,--limit", options->filter.limit, "At most so many, the most recent; default all")
        ->type_name("N")
        ->check(CLI::Range(1, 1 << 30));
    sub->footer("Examples:\n  btblock flows\n  btblock flows --all -n 20\n  btblock flows --all -o csv > flows.csv");
    line.on(sub,
            [&line, options](Io& io) { return flows_command(line.instance(), options->filter, options->format, io); });
}

} // namespace btblock::app
