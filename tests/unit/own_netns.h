// SPDX-License-Identifier: MIT
// Runs a part of a test in a forked child with a network namespace of its own, which ends with the child.
#pragma once

#include "firewall/Command.h"

#include <cstdio>
#include <gtest/gtest.h>
#include <sched.h>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

namespace own_netns {

// Empty if namespaces can be made here, else why not.
inline std::string missing() {
    if (geteuid() != 0)
        return "needs root";
    if (!btblock::firewall::find_tool("ip"))
        return "needs the ip tool";
    const pid_t child = fork();
    if (child == 0)
        _exit(unshare(CLONE_NEWNET) == 0 ? 0 : 1);
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : "may not make network namespaces";
}

// Failures of `body` are printed by the child and fail the caller's test.
template <typename Body> void run(Body body) {
    std::fflush(nullptr);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        if (unshare(CLONE_NEWNET) != 0)
            _exit(2);
        body();
        std::fflush(nullptr);
        _exit(::testing::Test::HasFailure() ? 1 : 0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status)) << "child ended by signal " << WTERMSIG(status);
    EXPECT_EQ(WEXITSTATUS(status), 0) << "failed in its network namespace, see above";
}

// Words separated by blanks; false and a failure if the command does not work.
inline bool shell(const std::string& line, const std::string& input = "") {
    std::istringstream words(line);
    std::vector<std::string> arguments;
    for (std::string word; words >> word;)
        arguments.push_back(word);
    auto output = btblock::firewall::run_command(arguments, input);
    const bool worked = output && output->succeeded();
    EXPECT_TRUE(worked) << line << ": " << (output ? output->complaint() : output.error().message);
    return worked;
}

inline std::string output_of(const std::string& line) {
    std::istringstream words(line);
    std::vector<std::string> arguments;
    for (std::string word; words >> word;)
        arguments.push_back(word);
    auto output = btblock::firewall::run_command(arguments);
    return output ? output->out : "";
}

} // namespace own_netns

#define SKIP_WITHOUT_NETNS()                                                                                           \
    if (const std::string reason = own_netns::missing(); !reason.empty())                                              \
    GTEST_SKIP() << reason
