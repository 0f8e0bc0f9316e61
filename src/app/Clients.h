// SPDX-License-Identifier: MIT
// `btblock clients`: inside hosts that showed BitTorrent.
#pragma once

#include "app/Render.h"
#include "btblock/abi.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace btblock::app {

struct ClientCounts {
    std::size_t sockets = 0; // condemned, live
    std::size_t peers = 0;   // learned, live
};
using CountsByAddress = std::map<std::string, ClientCounts>; // key: the address as text

// Those with a detection first, then by how recently they were active.
std::vector<Json> listed_clients(std::vector<std::pair<bt_addr, bt_client>> entries, const CountsByAddress& counts,
                                 const Clocks& clocks);
std::string clients_text(const std::vector<Json>& clients, std::size_t width = 0);
std::string clients_csv(const std::vector<Json>& clients);

class CommandLine;
void add_clients(CommandLine& line);

} // namespace btblock::app
