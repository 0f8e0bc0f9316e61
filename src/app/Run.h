// SPDX-License-Identifier: MIT
// `btblock run`: from options to a running daemon.
#pragma once

#include <string>
#include <vector>

namespace btblock::app {

struct RunOptions {
    std::string config_file;             // -c; empty: the default file, if it exists
    std::vector<std::string> interfaces; // -i
    bool monitor_only = false;           // --monitor-only
    std::vector<std::string> set;        // --set KEY=VALUE
    std::string instance = "main";
};

// Runs until SIGTERM or SIGINT; returns the exit code.
int run_main(const RunOptions& options);

} // namespace btblock::app
