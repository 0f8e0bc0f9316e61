// SPDX-License-Identifier: MIT
#include "app/Command.h"

#include "app/Render.h"
#include "core/Suggest.h"

#include <algorithm>
#include <map>
#include <spdlog/fmt/fmt.h>

namespace btblock::app {

namespace {

// The pin and run-time directories and the firewall's names are made of it.
std::string check_instance_name(const std::string& name) {
    const bool good =
        !name.empty() && name.size() <= 32 && name.front() != '-' && std::all_of(name.begin(), name.end(), [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
        });
    return good ? std::string() : "'" + printable(name) + "' is not a name of 1 to 32 letters, digits, '_' and '-'";
}

const char* format_name(Format format) {
    switch (format) {
    case Format::json: return "json";
    case Format::csv: return "csv";
    case Format::plain: return "plain";
    case Format::human: break;
    }
    return "human";
}

// "btblock bans add"
std::string path_of(const CLI::App* app) {
    return app->get_parent() ? path_of(app->get_parent()) + " " + app->get_name() : app->get_name();
}

std::vector<std::string> names_of_commands(const CLI::App* app) {
    std::vector<std::string> names;
    for (const CLI::App* sub : app->get_subcommands([](const CLI::App*) { return true; }))
        names.push_back(sub->get_name());
    return names;
}

std::vector<std::string> names_of_options(const CLI::App* app) {
    std::vector<std::string> names;
    for (const CLI::App* level = app; level; level = level->get_parent())
        for (const CLI::Option* option : level->get_options())
            for (const std::string& name : option->get_lnames())
                names.push_back("--" + name);
    return names;
}

} // namespace

int fail(Io& io, const Error& failure) {
    io.out.flush();
    io.err << "btblock: " << failure.message << "\n";
    return static_cast<int>(failure.exit_code);
}

CommandLine::CommandLine() : root_("Inline BitTorrent blocker for Linux gateways", "btblock") {
    root_.set_version_flag("--version", "btblock " BTBLOCK_VERSION, "Print the version and exit");
    root_.add_option("--instance", instance_, "Which of several side by side (pins, socket, state)")
        ->type_name("NAME")
        ->capture_default_str()
        ->check(CLI::Validator(check_instance_name, "", "instance"));
    root_.require_subcommand(0, 1);
    root_.allow_extras(); // to explain them ourselves
    root_.footer("Run `btblock COMMAND --help` for the options of a command.\n\n"
                 "Exit codes: 0 ok, 1 failure, 2 usage, 3 daemon needed and not reachable,\n"
                 "4 degraded, 5 refused for safety.");
}

CLI::App* CommandLine::command(const std::string& name, const std::string& description, CLI::App* parent) {
    CLI::App* sub = (parent ? parent : &root_)->add_subcommand(name, description);
    sub->fallthrough(); // --instance may stand anywhere
    if (parent)
        parent->require_subcommand(0, 1);
    return sub;
}

void CommandLine::on(CLI::App* sub, std::function<int(Io&)> action) {
    actions_.emplace_back(sub, std::move(action));
}

CLI::App* CommandLine::chosen() {
    CLI::App* app = &root_;
    for (auto subs = app->get_subcommands(); !subs.empty(); subs = app->get_subcommands())
        app = subs.back();
    return app;
}

int CommandLine::usage(const std::string& message, Io& io) {
    io.err << "btblock: " << message << "\nTry `" << path_of(chosen()) << " --help`.\n";
    return static_cast<int>(ExitCode::usage);
}

int CommandLine::run(std::vector<std::string> arguments, Io& io) {
    std::reverse(arguments.begin(), arguments.end()); // the library takes them from the back
    std::string complaint;
    try {
        root_.parse(std::move(arguments));
    } catch (const CLI::Success& request) { // --help, --version
        return root_.exit(request, io.out, io.err);
    } catch (const CLI::ParseError& failure) {
        complaint = failure.what();
    }
    CLI::App* const app = chosen();
    const auto extras = root_.remaining(true);
    const auto commands = names_of_commands(app);
    // An unknown word explains itself better than what is missing because of it.
    if (!extras.empty() && extras.front().starts_with("-") && extras.front() != "-")
        return usage(
            "unknown option " + printable(extras.front()) + did_you_mean(extras.front(), names_of_options(app)), io);
    if (!extras.empty() && !commands.empty())
        return usage("unknown command '" + printable(extras.front()) + "'" + did_you_mean(extras.front(), commands),
                     io);
    if (!complaint.empty())
        return usage(complaint, io);
    if (!extras.empty())
        return usage("unexpected argument '" + printable(extras.front()) + "'", io);
    for (const auto& [sub, action] : actions_)
        if (sub == app)
            return action(io);
    std::string list;
    for (const std::string& name : commands)
        list += (list.empty() ? "" : ", ") + name;
    return usage("name a command: " + list, io);
}

void add_format(CLI::App* sub, Format& value, std::initializer_list<Format> formats) {
    std::map<std::string, Format> names;
    std::string shown;
    for (const Format format : formats) {
        names[format_name(format)] = format;
        shown += (shown.empty() ? "" : "|") + std::string(format_name(format));
    }
    sub->add_option_function<std::string>(
           "-o,--output",
           [&value, names, shown](const std::string& name) {
               const auto found = names.find(name);
               if (found == names.end())
                   throw CLI::ValidationError("--output", "'" + printable(name) + "' is not one of " + shown);
               value = found->second;
           },
           fmt::format("Format of the output, default {}", format_name(value)))
        ->type_name(shown);
}

} // namespace btblock::app
