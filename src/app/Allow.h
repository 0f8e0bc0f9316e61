// SPDX-License-Identifier: MIT
// `btblock allow`: addresses that are never blocked.
#pragma once

#include "app/Render.h"
#include "btblock/abi.h"

#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace btblock::app {

// As allow_json() makes them, by prefix; expired ones are left out.
std::vector<Json> live_allow(std::vector<std::pair<bt_lpm_key, bt_allow>> entries, const Clocks& clocks);
std::string allow_text(const std::vector<Json>& entries, std::size_t width = 0);
std::string allow_csv(const std::vector<Json>& entries);

class CommandLine;
void add_allow(CommandLine& line);

} // namespace btblock::app
