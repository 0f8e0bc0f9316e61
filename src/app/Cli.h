// SPDX-License-Identifier: MIT
// The whole command line.
#pragma once

#include "app/Command.h"
#include "app/RunCommand.h"

#include <string>
#include <vector>

namespace btblock::app {

// `arguments` begins with the program's name: "btblocker" means `btblock run`. Returns the exit code.
int run_cli(std::vector<std::string> arguments, Io& io, const Actions& actions);

} // namespace btblock::app
