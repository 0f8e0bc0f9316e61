// SPDX-License-Identifier: MIT
#include "firewall/RuleSet.h"

#include "firewall/IptablesRules.h"
#include "firewall/NftRules.h"
#include "firewall/PuntFilter.h"

#include <algorithm>

namespace btblock::firewall {

namespace {

constexpr std::size_t longest_instance = 64;

// The operator brings the rule.
class NoRules final : public RuleSet {
public:
    Result<void> install() override { return {}; }
    Result<void> remove() override { return {}; }
    [[nodiscard]] std::string_view name() const noexcept override { return "none"; }
};

bool is_name_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

Result<void> check_options(const RuleOptions& options) {
    if (auto named = check_instance(options.instance); !named)
        return named;
    if (options.mark == 0)
        return error("the packet mark of the firewall rule must not be 0", ExitCode::usage);
    if (options.queue_count == 0)
        return error("the number of queues must not be 0", ExitCode::usage);
    if (options.queue_first + options.queue_count > 65536)
        return error("queues " + std::to_string(options.queue_first) + " to " +
                         std::to_string(options.queue_first + options.queue_count - 1) + ": queue numbers end at 65535",
                     ExitCode::usage);
    return {};
}

Result<Backend> choose(const RuleOptions& options) {
    auto nft = probe_nft(options);
    if (nft)
        return Backend::nftables;
    auto iptables = probe_iptables(options);
    if (iptables)
        return Backend::iptables;
    return error("no firewall back end works here. nftables: " + nft.error().message +
                 ". iptables: " + iptables.error().message);
}

} // namespace

Result<void> check_instance(std::string_view instance) {
    const bool good = !instance.empty() && instance.size() <= longest_instance && instance.front() != '-' &&
                      std::ranges::all_of(instance, is_name_character);
    if (!good)
        return error("instance name '" + std::string(instance) +
                         "': use 1 to 64 letters, digits, '_' and '-', not starting with '-'",
                     ExitCode::usage);
    return {};
}

Result<void> RuleSet::install_filter(const RuleOptions& options) {
    filters_ = false;
    if (options.filter.devices.empty())
        return {};
    if (punt_filter_jumps(options).empty()) {
        filters_ = true;
        if (auto earlier = remove_punt_filter(options.instance); !earlier)
            notes_.push_back("looking for rules of an earlier run in the mangle tables: " + earlier.error().message);
        return {};
    }
    auto installed = install_punt_filter(options);
    filters_ = static_cast<bool>(installed);
    if (!installed)
        notes_.push_back(
            "what only leaves through a guarded device is judged by the kernel alone, HTTP requests are not "
            "read there: " +
            installed.error().message);
    return {};
}

Result<std::unique_ptr<RuleSet>> make_rule_set(Backend backend, const RuleOptions& options) {
    if (backend == Backend::none)
        return std::unique_ptr<RuleSet>(std::make_unique<NoRules>());
    if (auto checked = check_options(options); !checked)
        return checked.error();
    if (backend == Backend::automatic) {
        auto chosen = choose(options);
        if (!chosen)
            return chosen.error();
        backend = *chosen;
    }
    if (backend == Backend::nftables)
        return std::unique_ptr<RuleSet>(std::make_unique<NftRules>(options));
    return std::unique_ptr<RuleSet>(std::make_unique<IptablesRules>(options));
}

Result<void> probe(Backend backend, const RuleOptions& options) {
    if (backend == Backend::none)
        return {};
    if (auto checked = check_options(options); !checked)
        return checked;
    if (backend == Backend::nftables)
        return probe_nft(options);
    if (backend == Backend::iptables)
        return probe_iptables(options);
    auto chosen = choose(options);
    if (!chosen)
        return chosen.error();
    return {};
}

Result<int> remove_all_rules(const std::string& instance) {
    if (auto named = check_instance(instance); !named)
        return named.error();
    auto nft = remove_nft_rules(instance);
    auto iptables = remove_iptables_rules(instance); // also when nft failed: remove what can be removed
    auto filter = remove_punt_filter(instance);
    if (!nft)
        return nft;
    if (!iptables)
        return iptables;
    if (!filter)
        return filter;
    return *nft + *iptables + *filter;
}

} // namespace btblock::firewall
