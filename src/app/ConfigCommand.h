// SPDX-License-Identifier: MIT
// `btblock config`: check and dump.
#pragma once

#include "core/Config.h"

#include <nlohmann/json.hpp>

namespace btblock::app {

// {"config":{"queue":{"first":0,...},...},"origins":{"queue.first":"...",...},"files":[...]}
nlohmann::ordered_json config_json(const LoadedConfig& loaded);

class CommandLine;
void add_config(CommandLine& line);

} // namespace btblock::app
