// SPDX-License-Identifier: MIT
#include "app/Cli.h"

#include "app/Allow.h"
#include "app/Bans.h"
#include "app/Clients.h"
#include "app/Completion.h"
#include "app/ConfigCommand.h"
#include "app/Doctor.h"
#include "app/EventsCommand.h"
#include "app/Explain.h"
#include "app/Flows.h"
#include "app/Status.h"
#include "app/Version.h"

#include <poll.h>
#include <unistd.h>

namespace btblock::app {

namespace {

// Whoever read standard output has closed it (`btblock ... | head`): no reason to complain.
bool reader_left() {
    pollfd output{STDOUT_FILENO, POLLOUT, 0};
    return poll(&output, 1, 0) == 1 && (output.revents & POLLERR);
}

} // namespace

int run_cli(std::vector<std::string> arguments, Io& io, const Actions& actions) {
    std::string program = arguments.empty() ? "" : arguments.front();
    program.erase(0, program.rfind('/') + 1); // npos + 1 is 0
    if (!arguments.empty())
        arguments.erase(arguments.begin());
    if (program == "btblocker")
        arguments.insert(arguments.begin(), "run");
    try {
        CommandLine line;
        add_run(line, actions);
        add_analyze(line, actions);
        add_status(line);
        add_bans(line);
        add_allow(line);
        add_clients(line);
        add_flows(line);
        add_explain(line);
        add_events(line);
        add_doctor(line);
        add_detach(line, actions);
        add_config(line);
        add_version(line);
        add_completion(line);
        int code = line.run(std::move(arguments), io);
        io.out.flush();
        if (!io.out && code == 0 && !reader_left())
            code = fail(io, error("the output could not be written"));
        return code;
    } catch (const std::exception& failure) {
        return fail(io, error(std::string("internal error: ") + failure.what()));
    }
}

} // namespace btblock::app
