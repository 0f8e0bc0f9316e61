// SPDX-License-Identifier: MIT
// Runs a program, without a shell, and collects what it says.
#pragma once

#include "core/Result.h"

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace btblock::firewall {

struct CommandOutput {
    int exit_code = 0;
    std::string out; // the first MiB
    std::string err;

    [[nodiscard]] bool succeeded() const noexcept { return exit_code == 0; }
    // What went wrong in one line: what the program wrote to stderr, or its exit code.
    [[nodiscard]] std::string complaint() const;
};

// The path of a program in $PATH or, since services often have a short one, in the usual system directories.
std::optional<std::string> find_tool(std::string_view name);

// Runs arguments[0] (a path, or a name for find_tool) in the calling thread's network namespace, with `input` as its
// standard input, the C locale and default signal handling. An exit code other than 0 is no error here. Errors: it does
// not exist, cannot be started, was killed by a signal, or ran longer than `limit` (it is killed then, with its
// children).
Result<CommandOutput> run_command(const std::vector<std::string>& arguments, std::string_view input = {},
                                  std::chrono::milliseconds limit = std::chrono::seconds(15));

// Whether a firewall tool's message means that the kernel has no such tables at all, as opposed to: not permitted.
bool says_unsupported(std::string_view message);

} // namespace btblock::firewall
