// SPDX-License-Identifier: MIT
#include "firewall/IptablesRules.h"

#include "firewall/IptablesTool.h"
#include "firewall/NftRules.h"

#include <cerrno>
#include <fstream>
#include <spdlog/fmt/fmt.h>
#include <sstream>

namespace btblock::firewall {

namespace {

constexpr std::size_t longest_chain_name = 28;
constexpr std::string_view chain_prefix = "BTBLOCK-";

std::uint32_t fnv1a(std::string_view text) {
    std::uint32_t hash = 2166136261u;
    for (const char c : text)
        hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
    return hash;
}

// '~' is in no instance name, so this is nobody's chain.
std::string probe_chain_name(std::string_view instance) {
    return iptables_chain_name(std::string(instance) + "~probe");
}

std::string rule_text(const RuleOptions& options, std::string_view chain) {
    return fmt::format("-A {} -j {}\n", chain, iptables_queue_target(options));
}

// Most packets are not marked and have no more to do with it than this.
std::string jump_text(const RuleOptions& options) {
    return fmt::format("PREROUTING -m mark --mark {0:#x}/{0:#x} -j {1}", options.mark,
                       iptables_chain_name(options.instance));
}

Result<void> install_with(const Tool& tool, const RuleOptions& options) {
    auto listing = list_table(tool, "raw");
    if (!listing)
        return listing.error();
    const ChainState state = iptables_chain_state(*listing, iptables_chain_name(options.instance));
    return restore(tool, iptables_install_text(options, state.jumps));
}

// A chain that nothing jumps to: the kernel has to accept the rule, and no packet sees it.
Result<void> probe_with(const Tool& tool, const RuleOptions& options) {
    const std::string chain = probe_chain_name(options.instance);
    auto added = restore(tool, fmt::format("*raw\n:{} - [0:0]\n{}COMMIT\n", chain, rule_text(options, chain)));
    if (!added)
        return added;
    return restore(tool, iptables_remove_text(chain, {}, true));
}

// Merely asking the legacy tool would register its hooks in the kernel.
bool legacy_table_exists(const Family& family, const std::string& table) {
    errno = 0;
    std::ifstream names(family.table_names);
    if (!names)
        return errno != ENOENT; // not readable: let the tool say why
    std::string name;
    while (names >> name)
        if (name == table)
            return true;
    return false;
}

Result<int> remove_chain(const Tool& tool, const std::string& table, std::string_view listing, std::string_view chain) {
    const ChainState state = iptables_chain_state(listing, chain);
    if (!state.exists && state.jumps.empty())
        return 0;
    if (auto removed = restore(tool, iptables_remove_text(chain, state.jumps, state.exists, table)); !removed)
        return removed.error();
    return 1;
}

Result<int> remove_from_table(const Family& family, const std::string& table, const std::string& instance,
                              std::optional<Flavour> except) {
    int removed = 0;
    for (const Tool& tool : available_tools(family)) {
        if (tool.flavour == except || (tool.flavour == Flavour::legacy && !legacy_table_exists(family, table)))
            continue;
        auto listing = list_table(tool, table);
        if (!listing) {
            if (says_unsupported(listing.error().message))
                continue;
            return listing.error();
        }
        auto chain = remove_chain(tool, table, *listing, iptables_chain_name(instance));
        if (!chain)
            return chain;
        if (auto probe_chain = remove_chain(tool, table, *listing, probe_chain_name(instance)); !probe_chain)
            return probe_chain;
        removed += *chain;
    }
    return removed;
}

Result<int> remove_family(const Family& family, const std::string& instance, std::optional<Flavour> except) {
    return remove_from_table(family, "raw", instance, except);
}

} // namespace

std::string iptables_chain_name(std::string_view instance) {
    std::string name = std::string(chain_prefix) + std::string(instance);
    if (name.size() > longest_chain_name) {
        const std::string hash = fmt::format("-{:08x}", fnv1a(instance));
        name.resize(longest_chain_name - hash.size());
        name += hash;
    }
    return name;
}

std::string iptables_install_text(const RuleOptions& options, const std::vector<std::string>& jumps) {
    const std::string chain = iptables_chain_name(options.instance);
    const std::string jump = jump_text(options);
    std::string text = fmt::format("*raw\n:{} - [0:0]\n{}", chain, rule_text(options, chain));
    if (jumps != std::vector{jump}) {
        for (const std::string& stale : jumps)
            text += "-D " + stale + "\n";
        text += "-A " + jump + "\n";
    }
    return text + "COMMIT\n";
}

std::string iptables_queue_target(const RuleOptions& options) {
    const unsigned last = options.queue_first + options.queue_count - 1u;
    const std::string queues = options.queue_count == 1
                                   ? fmt::format("--queue-num {}", options.queue_first)
                                   : fmt::format("--queue-balance {}:{}", options.queue_first, last);
    return "NFQUEUE " + queues + (options.bypass ? " --queue-bypass" : "");
}

std::string iptables_remove_text(std::string_view chain, const std::vector<std::string>& jumps, bool chain_exists,
                                 std::string_view table) {
    std::string text = fmt::format("*{}\n", table);
    for (const std::string& jump : jumps)
        text += "-D " + jump + "\n";
    if (chain_exists)
        text += fmt::format("-F {0}\n-X {0}\n", chain);
    return text + "COMMIT\n";
}

ChainState iptables_chain_state(std::string_view listing, std::string_view chain) {
    const std::string declared = fmt::format("-N {}", chain);
    const std::string jump = fmt::format(" -j {}", chain);
    const std::string go_to = fmt::format(" -g {}", chain);
    ChainState state;
    std::istringstream lines{std::string(listing)};
    for (std::string line; std::getline(lines, line);) {
        if (line == declared)
            state.exists = true;
        else if (line.starts_with("-A ") && (line.ends_with(jump) || line.ends_with(go_to)))
            state.jumps.push_back(line.substr(3));
    }
    return state;
}

Result<void> probe_iptables(const RuleOptions& options) {
    auto tool = first_that_works(ipv4, [&](const Tool& t) { return probe_with(t, options); });
    if (!tool)
        return tool.error();
    return {};
}

Result<int> remove_punt_filter(const std::string& instance) {
    auto v4 = remove_from_table(ipv4, "mangle", instance, std::nullopt);
    auto v6 = remove_from_table(ipv6, "mangle", instance, std::nullopt);
    if (!v4)
        return v4;
    if (!v6)
        return v6;
    return *v4 + *v6;
}

Result<int> remove_iptables_rules(const std::string& instance, std::optional<Flavour> except) {
    auto v4 = remove_family(ipv4, instance, except);
    auto v6 = remove_family(ipv6, instance, except);
    if (!v4)
        return v4;
    if (!v6)
        return v6;
    return *v4 + *v6;
}

Result<void> IptablesRules::install() {
    notes_.clear();
    const auto action = [&](const Tool& tool) { return install_with(tool, options_); };
    auto v4 = first_that_works(ipv4, action);
    if (!v4)
        return v4.error();
    auto v6 = first_that_works(ipv6, action);
    if (!v6) {
        if (ipv6_exists() && !available_tools(ipv6).empty()) {
            (void)remove_iptables_rules(options_.instance);
            return v6.error();
        }
        notes_.push_back("no IPv6 rule: " + v6.error().message);
    }
    const auto note = [&](const Result<int>& removed) {
        if (!removed)
            notes_.push_back("looking for rules that an earlier run left elsewhere: " + removed.error().message);
    };
    note(remove_nft_rules(options_.instance));
    note(remove_family(ipv4, options_.instance, v4->flavour));
    if (v6)
        note(remove_family(ipv6, options_.instance, v6->flavour));
    return install_filter(options_);
}

Result<void> IptablesRules::remove() {
    auto filter = remove_punt_filter(options_.instance);
    auto removed = remove_iptables_rules(options_.instance);
    if (!removed)
        return removed.error();
    if (!filter)
        return filter.error();
    return {};
}

} // namespace btblock::firewall
