// SPDX-License-Identifier: MIT
// What every subcommand is made of.
#pragma once

#include "app/Screen.h"
#include "core/Result.h"

#include <functional>
#include <initializer_list>
#include <iosfwd>
#include <memory>
#include <ostream> // IWYU pragma: keep
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

namespace btblock::app {

enum class Format { human, json, csv, plain };

struct Io {
    std::ostream& out;
    std::ostream& err;
    Screen screen{}; // that `out` is shown on
    bool err_is_terminal = false;
};

// Writes "btblock: MESSAGE" and returns its exit code.
int fail(Io& io, const Error& failure);

// The root command with its global options. Subcommands register themselves.
class CommandLine {
public:
    CommandLine();
    CommandLine(const CommandLine&) = delete;
    CommandLine& operator=(const CommandLine&) = delete;

    // A new subcommand of the root, or of `parent`.
    CLI::App* command(const std::string& name, const std::string& description, CLI::App* parent = nullptr);
    // What `sub` does once the command line has been understood; returns the exit code.
    void on(CLI::App* sub, std::function<int(Io&)> action);

    [[nodiscard]] const std::string& instance() const noexcept { return instance_; }
    [[nodiscard]] CLI::App& root() noexcept { return root_; }

    // Understands the arguments (without the program's name) and does what they say.
    int run(std::vector<std::string> arguments, Io& io);

private:
    int usage(const std::string& message, Io& io);
    CLI::App* chosen(); // the innermost subcommand on the command line

    CLI::App root_;
    std::string instance_ = "main";
    std::vector<std::pair<CLI::App*, std::function<int(Io&)>>> actions_;
};

// Option -o,--output with these formats; `value` holds the default and must outlive the parsing.
void add_format(CLI::App* sub, Format& value, std::initializer_list<Format> formats);

} // namespace btblock::app
