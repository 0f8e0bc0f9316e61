// SPDX-License-Identifier: MIT
// `btblock explain ADDRESS`: everything the maps say about one address, and what follows from it.
#pragma once

#include "app/Render.h"
#include "btblock/abi.h"
#include "net/Address.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace btblock::app {

// What was found about the address.
struct Findings {
    bool inside = false;
    std::optional<std::pair<bt_lpm_key, bt_allow>> allowed;
    std::optional<std::pair<bt_addr, bt_ban>> ban; // of the address, or of its /64
    std::optional<bt_client> client;
    std::vector<std::pair<bt_endpoint, bt_mark>> sockets; // of the address
    std::vector<std::pair<bt_peer_key, bt_mark>> peers;   // where it is the client or the peer
    std::vector<std::pair<bt_tuple, bt_flow>> flows;      // where it takes part
};

Json explain_json(const net::Address& address, const Findings& found, const Clocks& clocks);
std::string explain_text(const Json& explanation, std::size_t width = 0);

class CommandLine;
void add_explain(CommandLine& line);

} // namespace btblock::app
