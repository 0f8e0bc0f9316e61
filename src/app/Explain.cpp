// SPDX-License-Identifier: MIT
#include "app/Explain.h"

#include "app/Clients.h"
#include "app/Command.h"
#include "app/Flows.h"
#include "app/Operations.h"
#include "bpf/Maps.h"
#include "core/Duration.h"

#include <algorithm>
#include <spdlog/fmt/fmt.h>

namespace btblock::app {

namespace {

constexpr std::size_t flows_shown = 20;

std::string how_long(const Json& entry) {
    return entry["remaining"].is_null() ? "for ever"
                                        : "for " + rough_duration(entry["remaining"].get<std::uint64_t>()) + " more";
}

Result<Findings> look_up(const bpf::Maps& maps, const net::Address& address, std::uint64_t now_ns) {
    Findings found;
    const bt_addr key = address.raw();
    const auto same = [&](const bt_addr& other) { return net::Address(other) == address; };
    auto ban = maps.bans.lookup(key);
    if (!ban)
        return ban.error();
    if (*ban) {
        found.ban = std::pair(key, **ban);
    } else if (!address.is_v4()) {
        const bt_addr net = net::Prefix(address, 64).address().raw();
        auto wider = maps.bans.lookup(net);
        if (!wider)
            return wider.error();
        if (*wider && ((*wider)->flags & BT_BAN_SUBNET64))
            found.ban = std::pair(net, **wider);
    }
    if (found.ban && found.ban->second.expires_ns <= now_ns)
        found.ban.reset();
    auto client = maps.clients.lookup(key);
    if (!client)
        return client.error();
    found.client = *client;
    unsigned best = 0;
    Result<std::size_t> walks[] = {
        maps.allow.for_each([&](const bt_lpm_key& prefix, const bt_allow& entry) {
            if (entry.expires_ns > now_ns && net::Prefix::from_lpm(prefix).contains(address) &&
                (!found.allowed || prefix.prefixlen > best)) {
                best = prefix.prefixlen;
                found.allowed = std::pair(prefix, entry);
            }
        }),
        maps.inside.for_each([&](const bt_lpm_key& prefix, const bt_u32&) {
            found.inside = found.inside || net::Prefix::from_lpm(prefix).contains(address);
        }),
        maps.sockets.for_each([&](const bt_endpoint& socket, const bt_mark& mark) {
            if (mark.expires_ns > now_ns && same(socket.addr))
                found.sockets.emplace_back(socket, mark);
        }),
        maps.peers.for_each([&](const bt_peer_key& peer, const bt_mark& mark) {
            if (mark.expires_ns > now_ns && (same(peer.client) || same(peer.peer)))
                found.peers.emplace_back(peer, mark);
        }),
        maps.flows.for_each([&](const bt_tuple& tuple, const bt_flow& flow) {
            if (same(tuple.src) || same(tuple.dst))
                found.flows.emplace_back(tuple, flow);
        }),
    };
    for (const auto& walk : walks)
        if (!walk)
            return walk.error();
    return found;
}

int explain_command(const std::string& instance, const std::string& text, Format format, Io& io) {
    const auto address = net::Address::parse(text);
    if (!address)
        return fail(io, address.error());
    const auto maps = bpf::open_pinned_maps(instance);
    if (!maps)
        return fail(io, maps.error());
    const Clocks clocks = Clocks::now();
    const auto found = look_up(*maps, *address, clocks.monotonic_ns);
    if (!found)
        return fail(io, found.error());
    const Json explanation = explain_json(*address, *found, clocks);
    if (format == Format::json)
        io.out << explanation.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
    else
        io.out << explain_text(explanation, io.screen.width);
    return 0;
}

} // namespace

Json explain_json(const net::Address& address, const Findings& found, const Clocks& clocks) {
    Json object;
    object["address"] = address.to_string();
    object["inside"] = found.inside;
    object["allowed"] = found.allowed ? allow_json(found.allowed->first, found.allowed->second, clocks) : Json();
    object["ban"] = found.ban ? ban_json(found.ban->first, found.ban->second, clocks) : Json();
    object["client"] = Json();
    if (found.client) {
        const auto clients = listed_clients({{address.raw(), *found.client}}, {}, clocks);
        if (!clients.empty()) {
            object["client"] = clients.front();
            object["client"].erase("sockets");
            object["client"].erase("peers");
        }
    }
    object["condemned_sockets"] = Json::array();
    for (const auto& [socket, mark] : found.sockets)
        object["condemned_sockets"].push_back({{"port", socket.port},
                                               {"hits", mark.hits},
                                               {"remaining", seconds_left(mark.expires_ns, clocks.monotonic_ns)}});
    object["learned_peers"] = Json::array();
    for (const auto& [peer, mark] : found.peers)
        object["learned_peers"].push_back({{"client", net::Address(peer.client).to_string()},
                                           {"peer", net::endpoint_string(net::Address(peer.peer), peer.port)},
                                           {"hits", mark.hits},
                                           {"remaining", seconds_left(mark.expires_ns, clocks.monotonic_ns)}});
    std::size_t blocked = 0;
    for (const auto& [tuple, flow] : found.flows)
        blocked += flow.verdict == BT_V_BLOCKED;
    object["flows"] = {{"known", found.flows.size()}, {"blocked", blocked}};
    object["recent_flows"] = listed_flows(found.flows, {.all = true, .limit = flows_shown}, clocks);
    return object;
}

std::string explain_text(const Json& e, std::size_t width) {
    const std::string name = e["address"].get<std::string>();
    std::string out = name + (e["inside"] == true ? " is an inside address\n" : " is an outside address\n");
    const auto say = [&](const std::string& text) { out += "  " + wrapped(printable(text), 79, 4) + "\n"; };
    const auto quoted = [](const Json& comment, const char* before, const char* after) {
        const auto text = comment.get<std::string>();
        return text.empty() ? text : before + text + after;
    };
    if (!e["allowed"].is_null())
        say(fmt::format("Nothing is blocked: {} is allowed {}{}.", e["allowed"]["prefix"].get<std::string>(),
                        how_long(e["allowed"]), quoted(e["allowed"]["comment"], ", '", "'")));
    if (const Json& ban = e["ban"]; !ban.is_null()) {
        std::string ports;
        for (const Json& port : ban["ports"])
            ports += (ports.empty() ? "" : ", ") + port.dump();
        const std::string evidence = plus_joined(ban["evidence"]);
        say(fmt::format("Banned: {}{} {}, {}{}; {}.", ban["address"].get<std::string>(),
                        ports.empty() ? "" : " port " + ports, how_long(ban),
                        !evidence.empty()       ? "for " + evidence
                        : ban["manual"] == true ? "by the operator"
                                                : "",
                        quoted(ban["comment"], " ('", "')"),
                        counted(ban["hits"].get<std::uint64_t>(), "packet dropped", "packets dropped")));
    } else {
        say("Not banned.");
    }
    if (const Json& client = e["client"]; !client.is_null())
        say(fmt::format("A BitTorrent client, {}: {}, the last {} ago; evidence {}.",
                        client["active"] == true ? "active now" : "not active now",
                        counted(client["detections"].get<std::uint64_t>(), "detection", "detections"),
                        rough_duration(client["idle"].get<std::uint64_t>()), plus_joined(client["evidence"])));
    for (const Json& socket : e["condemned_sockets"])
        say(fmt::format("UDP port {} is condemned: all its datagrams are dropped, {} so far.", socket["port"].dump(),
                        grouped(socket["hits"].get<std::uint64_t>())));
    std::size_t as_client = 0, as_peer = 0;
    for (const Json& peer : e["learned_peers"])
        ++(peer["client"] == name ? as_client : as_peer);
    if (as_client)
        say(fmt::format("It may not connect to {} learned from its own BitTorrent traffic.",
                        counted(as_client, "endpoint", "endpoints")));
    if (as_peer)
        say(fmt::format("{} of it {} learned as a BitTorrent peer of inside clients.",
                        counted(as_peer, "endpoint", "endpoints"), as_peer == 1 ? "was" : "were"));
    say(fmt::format("{}, {} blocked.",
                    counted(e["flows"]["known"].get<std::uint64_t>(), "half-flow known", "half-flows known"),
                    grouped(e["flows"]["blocked"].get<std::uint64_t>())));
    if (!e["recent_flows"].empty())
        out += "\n" + flows_text(e["recent_flows"].get<std::vector<Json>>(), width);
    return out;
}

void add_explain(CommandLine& line) {
    struct Options {
        std::string address;
        Format format = Format::human;
    };
    auto options = std::make_shared<Options>();
    CLI::App* sub = line.command("explain", "Tell what is known about an address, and why it is blocked");
    sub->add_option("ADDRESS", options->address, "An IPv4 or IPv6 address")->required();
    add_format(sub, options->format, {Format::human, Format::json});
    sub->footer("Example:\n  btblock explain 10.8.0.2");
    line.on(sub, [&line, options](Io& io) {
        return explain_command(line.instance(), options->address, options->format, io);
    });
}

} // namespace btblock::app
