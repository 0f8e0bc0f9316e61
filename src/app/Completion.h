// SPDX-License-Identifier: MIT
// `btblock completion SHELL`: scripts for bash, zsh and fish.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace btblock::app {

// None for an unknown shell.
std::optional<std::string> completion_script(std::string_view shell);

class CommandLine;
void add_completion(CommandLine& line);

} // namespace btblock::app
