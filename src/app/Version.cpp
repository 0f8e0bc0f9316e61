// SPDX-License-Identifier: MIT
#include "app/Version.h"

#include "app/Command.h"
#include "app/Render.h"
#include "btblock/abi.h"
#include "control/Client.h"

#include <bpf/libbpf.h>
#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>

namespace btblock::app {

namespace {

int version_command(const std::string& instance, Format format, Io& io) {
    nlohmann::ordered_json version{{"version", BTBLOCK_VERSION},
                                   {"abi", BT_ABI},
                                   {"libbpf", fmt::format("{}.{}", libbpf_major_version(), libbpf_minor_version())}};
    // A daemon started before an upgrade is another version than this program.
    std::string running;
    if (const auto answer = control::request(instance, {{"command", "version"}}, std::chrono::seconds(1)))
        running = answer->value("version", "");
    version["daemon"] = running.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(running);
    if (format == Format::json) {
        io.out << version.dump(2) << "\n";
        return 0;
    }
    io.out << "btblock " << BTBLOCK_VERSION << " (map ABI " << BT_ABI << ", libbpf "
           << version["libbpf"].get<std::string>() << ")\n";
    if (!running.empty() && running != BTBLOCK_VERSION)
        io.out << "the running daemon is " << printable(running) << "\n";
    return 0;
}

} // namespace

void add_version(CommandLine& line) {
    auto format = std::make_shared<Format>(Format::human);
    CLI::App* sub = line.command("version", "Print the version, also that of a running daemon");
    add_format(sub, *format, {Format::human, Format::json});
    sub->footer("Example:\n  btblock version -o json");
    line.on(sub, [&line, format](Io& io) { return version_command(line.instance(), *format, io); });
}

} // namespace btblock::app
