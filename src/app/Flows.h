// SPDX-License-Identifier: MIT
// `btblock flows`: the half-flows that the kernel knows.
#pragma once

#include "app/Render.h"
#include "btblock/abi.h"

#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace btblock::app {

struct FlowFilter {
    bool all = false;      // else only blocked ones
    std::size_t limit = 0; // the most recent; 0: no limit
};

// "unknown", "clean", "allowed", "http", "blocked"
std::string verdict_name(unsigned verdict);

// Most recently seen first.
std::vector<Json> listed_flows(std::vector<std::pair<bt_tuple, bt_flow>> entries, const FlowFilter& filter,
                               const Clocks& clocks);
std::string flows_text(const std::vector<Json>& flows, std::size_t width = 0);
std::string flows_csv(const std::vector<Json>& flows);

class CommandLine;
void add_flows(CommandLine& line);

} // namespace btblock::app
