// SPDX-License-Identifier: MIT
// `btblock events`: the event stream.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace btblock::app {

// One line for people out of an event as the daemon sends it. Pure; unknown members do not matter.
std::string event_text(const nlohmann::json& event);

class CommandLine;
void add_events(CommandLine& line);

} // namespace btblock::app
