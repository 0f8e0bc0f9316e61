// SPDX-License-Identifier: MIT
#include "firewall/IptablesTool.h"

#include <algorithm>
#include <unistd.h>

namespace btblock::firewall {

const Family ipv4{"iptables", "/proc/thread-self/net/ip_tables_names"};
const Family ipv6{"ip6tables", "/proc/thread-self/net/ip6_tables_names"};

std::vector<Tool> available_tools(const Family& family) {
    std::vector<Tool> tools;
    const auto add = [&](const std::string& command, Flavour flavour) {
        const bool known = std::ranges::any_of(tools, [&](const Tool& t) { return t.flavour == flavour; });
        if (!known && find_tool(command) && find_tool(command + "-restore"))
            tools.push_back({command, command + "-restore", flavour});
    };
    if (auto version = run_command({family.tool, "-V"}); version && version->succeeded())
        add(family.tool, version->out.find("nf_tables") != std::string::npos ? Flavour::nf_tables : Flavour::legacy);
    add(family.tool + "-nft", Flavour::nf_tables);
    add(family.tool + "-legacy", Flavour::legacy);
    return tools;
}

Result<std::string> list_table(const Tool& tool, const std::string& table) {
    auto output = run_command({tool.command, "-w", "5", "-t", table, "-S"});
    if (!output)
        return output.error();
    if (!output->succeeded())
        return error(tool.command + ": " + output->complaint());
    return std::move(output->out);
}

Result<void> restore(const Tool& tool, const std::string& text) {
    auto output = run_command({tool.restore, "-w", "5", "--noflush"}, text);
    if (!output)
        return output.error();
    if (!output->succeeded())
        return error(tool.restore + ": " + output->complaint());
    return {};
}

Result<Tool> first_that_works(const Family& family, const std::function<Result<void>(const Tool&)>& action) {
    const std::vector<Tool> tools = available_tools(family);
    if (tools.empty())
        return error(family.tool + ": no such program");
    std::string said;
    for (const Tool& tool : tools) {
        Result<void> done = action(tool);
        if (done)
            return tool;
        said += (said.empty() ? "" : "; ") + done.error().message;
    }
    return error(said);
}

bool ipv6_exists() {
    return access("/proc/thread-self/net/if_inet6", F_OK) == 0;
}

} // namespace btblock::firewall
