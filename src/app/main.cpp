// SPDX-License-Identifier: MIT
#include "app/Cli.h"
#include "app/Detach.h"

#include <iostream>
#include <unistd.h>

int main(int argc, char** argv) {
    using namespace btblock::app;
    const Actions actions{
        .run = run_main,
        .analyze = [](const AnalyzeOptions& options, std::ostream& out,
                      std::ostream& err) { return analyze_main(options, out, err); },
        .detach = detach_main,
    };
    Io io{std::cout, std::cerr, Screen::of(STDOUT_FILENO), isatty(STDERR_FILENO) == 1};
    return run_cli({argv, argv + argc}, io, actions);
}
