// SPDX-License-Identifier: MIT
// `btblock status`: maps and counters as JSON, for the daemon and for the command, and as text.
#pragma once

#include "app/Screen.h"
#include "bpf/Maps.h"

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace btblock::app {

struct InterfaceStatus {
    std::string name;
    unsigned ifindex = 0; // 0: no such interface now
    std::string link;     // "ethernet", "ip", or "" when it is not known
    std::string xdp;      // "native", "generic", "offload", "off", "foreign"
    std::string tc;       // "tcx", "clsact", "off"
};

// What is not in the maps.
struct StatusExtras {
    std::string instance;
    bool daemon = false; // it runs and answers
    std::vector<InterfaceStatus> interfaces;
    std::uint64_t queue_depth = 0;       // packets that wait for a verdict now
    std::uint64_t queue_dropped = 0;     // lost because a queue or its socket was full
    std::uint64_t queue_failed_open = 0; // passed unseen for the same reason
    std::uint64_t events_suppressed = 0; // like others within a second: told by number
    std::vector<std::string> problems;   // anything here means "degraded"
};

// What the maps say.
struct MapsSummary {
    bpf::Counters counters{};
    bt_config config{};
    std::size_t bans = 0, flows = 0, sockets = 0, peers = 0, clients = 0, allow = 0; // live entries
    std::uint64_t memory = 0; // of the maps in the kernel, bytes; 0: not told
    unsigned bans_capacity = 0, flows_capacity = 0, sockets_capacity = 0, peers_capacity = 0, clients_capacity = 0,
             allow_capacity = 0;
};
Result<MapsSummary> summarize(const bpf::Maps& maps, std::uint64_t now_ns);

// The contract's fields and some more. Pure.
nlohmann::ordered_json status_json(const MapsSummary& maps, const StatusExtras& extras);
// Reads the maps; when that fails, the answer's "problems" say so and the numbers are 0.
nlohmann::ordered_json status_json(const bpf::Maps& maps, const StatusExtras& extras);

// At most 80 columns. Takes what status_json() makes, also from a daemon of another version.
std::string status_text(const nlohmann::ordered_json& status, const Screen& screen = {});

// ok, or degraded: no daemon, or problems.
int status_exit_code(const nlohmann::ordered_json& status);

// What the pins tell about the hooks of an instance.
std::vector<InterfaceStatus> pinned_interfaces(const std::string& instance);

class CommandLine;
void add_status(CommandLine& line);

} // namespace btblock::app
