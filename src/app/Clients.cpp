// SPDX-License-Identifier: MIT
#include "app/Clients.h"

#include "app/Command.h"
#include "bpf/Maps.h"
#include "core/Duration.h"
#include "core/Evidence.h"
#include "net/Address.h"

#include <algorithm>

namespace btblock::app {

namespace {

int clients_command(const std::string& instance, Format format, Io& io) {
    const auto maps = bpf::open_pinned_maps(instance);
    if (!maps)
        return fail(io, maps.error());
    const Clocks clocks = Clocks::now();
    std::vector<std::pair<bt_addr, bt_client>> entries;
    CountsByAddress counts;
    Result<std::size_t> walks[] = {
        maps->clients.for_each([&](const bt_addr& key, const bt_client& client) { entries.emplace_back(key, client); }),
        maps->sockets.for_each([&](const bt_endpoint& key, const bt_mark& mark) {
            if (mark.expires_ns > clocks.monotonic_ns)
                ++counts[net::Address(key.addr).to_string()].sockets;
        }),
        maps->peers.for_each([&](const bt_peer_key& key, const bt_mark& mark) {
            if (mark.expires_ns > clocks.monotonic_ns)
                ++counts[net::Address(key.client).to_string()].peers;
        }),
    };
    for (const auto& walk : walks)
        if (!walk)
            return fail(io, walk.error());
    const auto clients = listed_clients(std::move(entries), counts, clocks);
    if (format == Format::json)
        io.out << Json{{"clients", clients}}.dump(2) << "\n";
    else
        io.out << (format == Format::csv ? clients_csv(clients) : clients_text(clients, io.screen.width));
    return 0;
}

} // namespace

std::vector<Json> listed_clients(std::vector<std::pair<bt_addr, bt_client>> entries, const CountsByAddress& counts,
                                 const Clocks& clocks) {
    // An MSE-shaped connection alone makes an entry, but proves nothing.
    std::erase_if(entries, [](const auto& entry) { return entry.second.detections == 0 && entry.second.dropped == 0; });
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
        if (a.second.active_until_ns != b.second.active_until_ns)
            return a.second.active_until_ns > b.second.active_until_ns;
        return net::Address(a.first) < net::Address(b.first);
    });
    std::vector<Json> clients;
    for (const auto& [key, client] : entries) {
        const std::string address = net::Address(key).to_string();
        const auto found = counts.find(address);
        const ClientCounts own = found == counts.end() ? ClientCounts{} : found->second;
        Json object;
        object["address"] = address;
        object["active"] = client.active_until_ns > clocks.monotonic_ns;
        object["first_seen"] = utc_time(clocks.to_wall(client.first_seen_ns));
        // The time of the last detection: activity lasts a fixed time from it.
        const std::uint64_t last =
            client.active_until_ns > BT_CLIENT_TTL_NS ? client.active_until_ns - BT_CLIENT_TTL_NS : 0;
        object["last_seen"] = utc_time(clocks.to_wall(last));
        object["idle"] = seconds_left(clocks.monotonic_ns, last);
        object["detections"] = client.detections;
        object["dropped"] = client.dropped;
        object["sockets"] = own.sockets;
        object["peers"] = own.peers;
        object["evidence"] = evidence_list(client.evidence);
        clients.push_back(std::move(object));
    }
    return clients;
}

std::string clients_text(const std::vector<Json>& clients, std::size_t width) {
    if (clients.empty())
        return "no client has shown BitTorrent\n";
    Table table({{"address"},
                 {"active"},
                 {"last", Table::Align::right},
                 {"found", Table::Align::right},
                 {"sockets", Table::Align::right},
                 {"peers", Table::Align::right},
                 {"evidence"}});
    for (const Json& client : clients)
        table.row({client["address"].get<std::string>(), client["active"] == true ? "yes" : "no",
                   rough_duration(client["idle"].get<std::uint64_t>()) + " ago",
                   grouped(client["detections"].get<std::uint64_t>()), grouped(client["sockets"].get<std::uint64_t>()),
                   grouped(client["peers"].get<std::uint64_t>()), plus_joined(client["evidence"])});
    return table.text(width);
}

std::string clients_csv(const std::vector<Json>& clients) {
    std::string text = "address,active,first_seen,last_seen,detections,dropped,sockets,peers,evidence\n";
    for (const Json& client : clients)
        text += csv_line({client["address"].get<std::string>(), client["active"].dump(),
                          client["first_seen"].get<std::string>(), client["last_seen"].get<std::string>(),
                          client["detections"].dump(), client["dropped"].dump(), client["sockets"].dump(),
                          client["peers"].dump(), plus_joined(client["evidence"])});
    return text;
}

void add_clients(CommandLine& line) {
    auto format = std::make_shared<Format>(Format::human);
    CLI::App* sub = line.command("clients", "Show inside hosts that use BitTorrent");
    add_format(sub, *format, {Format::human, Format::json, Format::csv});
    sub->footer("Examples:\n  btblock clients\n  btblock clients -o json");
    line.on(sub, [&line, format](Io& io) { return clients_command(line.instance(), *format, io); });
}

} // namespace btblock::app
