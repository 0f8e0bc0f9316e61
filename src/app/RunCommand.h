// SPDX-License-Identifier: MIT
// The options of the commands whose work is elsewhere: `btblock run`, `analyze` and `detach`.
#pragma once

#include "app/Analyze.h"
#include "app/Run.h"

#include <functional>
#include <string>

namespace btblock::app {

// What they call; tests put their own in.
struct Actions {
    std::function<int(const RunOptions&)> run;
    std::function<int(const AnalyzeOptions&, std::ostream& out, std::ostream& err)> analyze;
    std::function<int(const std::string& instance, bool all)> detach;
};

class CommandLine;
void add_run(CommandLine& line, const Actions& actions);
void add_analyze(CommandLine& line, const Actions& actions);
void add_detach(CommandLine& line, const Actions& actions);

} // namespace btblock::app
