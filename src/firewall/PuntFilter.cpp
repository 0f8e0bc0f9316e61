// SPDX-License-Identifier: MIT
#include "firewall/PuntFilter.h"

#include "firewall/IptablesRules.h"
#include "firewall/IptablesTool.h"

#include <spdlog/fmt/fmt.h>

namespace btblock::firewall {

namespace {

Result<void> install_with(const Tool& tool, const RuleOptions& options) {
    auto listing = list_table(tool, "mangle");
    if (!listing)
        return listing.error();
    const ChainState state = iptables_chain_state(*listing, iptables_chain_name(options.instance));
    return restore(tool, punt_filter_text(options, state.jumps));
}

} // namespace

std::vector<std::string> punt_filter_jumps(const RuleOptions& options) {
    const std::vector<std::string>& devices = options.filter.devices;
    const std::string chain = iptables_chain_name(options.instance);
    std::vector<std::string> jumps;
    // Between two guarded devices, which is most of the traffic, no packet needs the chain.
    for (std::size_t i = 0; i < devices.size() && options.filter.forwarded; ++i)
        jumps.push_back(
            fmt::format("FORWARD ! -i {} -o {} -j {}", devices[(i + 1) % devices.size()], devices[i], chain));
    for (std::size_t i = 0; i < devices.size() && options.filter.own_programs; ++i)
        jumps.push_back(fmt::format("OUTPUT -o {} -j {}", devices[i], chain));
    return jumps;
}

// What came in through a guarded device has been judged there. The jump comes last in the chains: an accepting verdict
// ends the table, and the operator's own mangle rules see the packet first.
std::string punt_filter_text(const RuleOptions& options, const std::vector<std::string>& jumps) {
    const std::string chain = iptables_chain_name(options.instance);
    std::string text = fmt::format("*mangle\n:{} - [0:0]\n", chain);
    for (const std::string& device : options.filter.devices)
        text += fmt::format("-A {} -i {} -j RETURN\n", chain, device);
    text +=
        fmt::format("-A {0} -m bpf --object-pinned {1} -j RETURN\n"
                    "-A {0} -m bpf --object-pinned {2} -j DROP\n"
                    "-A {0} -j {3}\n",
                    chain, options.filter.pass_program, options.filter.drop_program, iptables_queue_target(options));
    const std::vector<std::string> wanted = punt_filter_jumps(options);
    if (jumps != wanted) {
        for (const std::string& stale : jumps)
            text += "-D " + stale + "\n";
        for (const std::string& jump : wanted)
            text += "-A " + jump + "\n";
    }
    return text + "COMMIT\n";
}

Result<void> install_punt_filter(const RuleOptions& options) {
    const auto action = [&](const Tool& tool) { return install_with(tool, options); };
    auto v4 = first_that_works(ipv4, action);
    if (!v4)
        return v4.error();
    if (auto v6 = first_that_works(ipv6, action); !v6 && ipv6_exists()) {
        (void)remove_punt_filter(options.instance);
        return v6.error();
    }
    return {};
}

} // namespace btblock::firewall
