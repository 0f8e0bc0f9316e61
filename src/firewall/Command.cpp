// SPDX-License-Identifier: MIT
#include "firewall/Command.h"

#include "core/Fd.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sstream>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace btblock::firewall {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t output_limit = 1 << 20;
constexpr std::string_view system_path =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";

bool is_program(const std::string& path) {
    struct stat status {};
    return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && access(path.c_str(), X_OK) == 0;
}

// A descriptor that cannot collide with 0, 1 and 2 while those are set up in the child.
Fd above_standard(Fd fd) {
    if (!fd || fd.get() > STDERR_FILENO)
        return fd;
    return Fd(fcntl(fd.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
}

// A file in memory instead of a pipe: nothing to write while the program runs, and no SIGPIPE.
Result<Fd> input_file(std::string_view text) {
    Fd fd = above_standard(Fd(memfd_create("input", MFD_CLOEXEC)));
    if (!fd)
        return errno_error("making an input file in memory");
    while (!text.empty()) {
        const ssize_t written = write(fd.get(), text.data(), text.size());
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return errno_error("writing an input file in memory");
        text.remove_prefix(static_cast<std::size_t>(written));
    }
    lseek(fd.get(), 0, SEEK_SET);
    return fd;
}

struct Pipe {
    Fd read_end;
    Fd write_end;
};

Result<Pipe> make_pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return errno_error("making a pipe");
    Pipe made{Fd(ends[0]), Fd(ends[1])};
    made.read_end = above_standard(std::move(made.read_end));
    made.write_end = above_standard(std::move(made.write_end));
    if (!made.read_end || !made.write_end)
        return errno_error("making a pipe");
    return made;
}

// The environment with messages in English, whatever the operator's language: some are recognised.
std::vector<std::string> plain_environment() {
    std::vector<std::string> environment;
    for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
        const std::string_view text(*entry);
        if (!text.starts_with("LC_") && !text.starts_with("LANG"))
            environment.emplace_back(text);
    }
    environment.emplace_back("LC_ALL=C");
    return environment;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> result;
    for (std::string& text : texts)
        result.push_back(text.data());
    result.push_back(nullptr);
    return result;
}

// Own process group, so that a timeout also ends the program's children; no signal blocked or ignored as in a daemon.
Result<pid_t> spawn(const std::string& path, const std::vector<std::string>& arguments, int in, int out, int err) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
    posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1); // what our own parent left open
#endif
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);

    std::vector<std::string> argument_texts = arguments;
    std::vector<std::string> environment_texts = plain_environment();
    pid_t pid = 0;
    const int failed = posix_spawn(&pid, path.c_str(), &actions, &attributes, pointers(argument_texts).data(),
                                   pointers(environment_texts).data());
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (failed != 0)
        return errno_error("starting " + path, failed);
    return pid;
}

int milliseconds_until(Clock::time_point deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    return static_cast<int>(std::clamp<long long>(left, 0, 60'000));
}

// Appends what can be read; false at the end of the stream.
bool drain(int fd, std::string& text) {
    std::array<char, 8192> buffer;
    const ssize_t received = read(fd, buffer.data(), buffer.size());
    if (received < 0)
        return errno == EINTR || errno == EAGAIN;
    const std::size_t room = output_limit - std::min(output_limit, text.size());
    text.append(buffer.data(), std::min(static_cast<std::size_t>(received), room));
    return received > 0;
}

// Reads both streams until the program ended and closed them; false when the deadline came first.
bool collect(int process, Fd out, Fd err, CommandOutput& output, Clock::time_point deadline) {
    std::array<pollfd, 3> watched{{{out.get(), POLLIN, 0}, {err.get(), POLLIN, 0}, {process, POLLIN, 0}}};
    const auto open = [](const pollfd& p) { return p.fd >= 0; };
    while (std::ranges::any_of(watched, open)) {
        const int ready = poll(watched.data(), watched.size(), milliseconds_until(deadline));
        if (ready < 0 && errno != EINTR)
            return false;
        if (ready == 0 && Clock::now() >= deadline)
            return false;
        if (ready <= 0)
            continue;
        if (watched[0].revents != 0 && !drain(watched[0].fd, output.out))
            watched[0].fd = -1;
        if (watched[1].revents != 0 && !drain(watched[1].fd, output.err))
            watched[1].fd = -1;
        if (watched[2].revents != 0)
            watched[2].fd = -1;
    }
    return true;
}

} // namespace

std::string CommandOutput::complaint() const {
    std::istringstream lines(err);
    std::string text;
    for (std::string line; std::getline(lines, line);) {
        if (line.find_first_not_of(" \t^~") == std::string::npos) // nft underlines what it means
            continue;
        std::istringstream words(line);
        for (std::string word; words >> word;)
            text += (text.empty() ? "" : " ") + word;
    }
    return text.empty() ? "exit code " + std::to_string(exit_code) : text;
}

std::optional<std::string> find_tool(std::string_view name) {
    if (name.find('/') != std::string_view::npos)
        return is_program(std::string(name)) ? std::optional(std::string(name)) : std::nullopt;
    const char* configured = std::getenv("PATH");
    std::string directories = configured != nullptr ? std::string(configured) + ":" : "";
    directories += system_path;
    std::string_view left = directories;
    while (!left.empty()) {
        const std::size_t end = std::min(left.find(':'), left.size());
        const std::string_view directory = left.substr(0, end);
        left.remove_prefix(std::min(end + 1, left.size()));
        if (!directory.starts_with('/')) // a relative entry would depend on where the daemon was started
            continue;
        std::string path = std::string(directory) + "/" + std::string(name);
        if (is_program(path))
            return path;
    }
    return std::nullopt;
}

Result<CommandOutput> run_command(const std::vector<std::string>& arguments, std::string_view input,
                                  std::chrono::milliseconds limit) {
    if (arguments.empty())
        return error("no program to run");
    const std::string& name = arguments.front();
    const auto path = find_tool(name);
    if (!path)
        return error(name + ": no such program");
    auto in = input_file(input);
    if (!in)
        return in.error();
    auto out = make_pipe();
    if (!out)
        return out.error();
    auto err = make_pipe();
    if (!err)
        return err.error();

    const auto deadline = Clock::now() + limit;
    auto pid = spawn(*path, arguments, in->get(), out->write_end.get(), err->write_end.get());
    if (!pid)
        return pid.error();
    out->write_end.reset();
    err->write_end.reset();
    const Fd process(static_cast<int>(syscall(SYS_pidfd_open, *pid, 0)));
    CommandOutput output;
    const bool in_time = collect(process.get(), std::move(out->read_end), std::move(err->read_end), output, deadline);
    if (!in_time)
        kill(-*pid, SIGKILL);
    int status = 0;
    pid_t waited = 0;
    do
        waited = waitpid(*pid, &status, 0);
    while (waited < 0 && errno == EINTR);
    if (!in_time)
        return error(name + ": no answer within " + std::to_string(limit.count()) + " ms, killed");
    if (waited < 0)
        return errno_error(name + ": waiting for its end");
    if (WIFSIGNALED(status))
        return error(name + ": killed by signal " + std::to_string(WTERMSIG(status)));
    output.exit_code = WEXITSTATUS(status);
    return output;
}

bool says_unsupported(std::string_view message) {
    // "Invalid argument" is nfnetlink's answer for a subsystem that is not there.
    constexpr std::array<std::string_view, 5> phrases{"Protocol not supported", "Operation not supported",
                                                      "Table does not exist", "Address family not supported",
                                                      "Invalid argument"};
    return std::ranges::any_of(phrases, [&](std::string_view p) { return message.find(p) != std::string_view::npos; });
}

} // namespace btblock::firewall
