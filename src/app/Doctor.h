// SPDX-License-Identifier: MIT
// `btblock doctor`: what this machine can and cannot do, and what to change.
#pragma once

#include "app/Screen.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace btblock::app {

struct Check {
    enum class Level { ok, warn, fail };
    std::string name;
    Level level = Level::ok;
    std::string text;
    std::string advice; // what to change; empty where nothing need be
};

// "6.1.0-13-amd64" -> {6, 1}
std::optional<std::pair<unsigned, unsigned>> kernel_version(std::string_view release);
Check check_kernel(std::string_view release);
// `effective`: the mask of CapEff in /proc/self/status.
Check check_capabilities(std::uint64_t effective);
// The mask out of the text of /proc/self/status.
std::optional<std::uint64_t> effective_capabilities(std::string_view status);

std::string checks_text(const std::vector<Check>& checks, const Screen& screen = {});
nlohmann::ordered_json checks_json(const std::vector<Check>& checks);
int checks_exit_code(const std::vector<Check>& checks); // degraded when anything is not ok

class CommandLine;
void add_doctor(CommandLine& line);

} // namespace btblock::app
