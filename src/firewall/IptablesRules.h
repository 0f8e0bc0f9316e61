// SPDX-License-Identifier: MIT
// The iptables back end, for kernels without the nft queue expression: one chain BTBLOCK-INSTANCE in the raw tables of
// iptables and ip6tables, and one jump to it for marked packets at the end of PREROUTING. The jump is needed since
// iptables has no chains with a hook of their own. It comes last because an accepting verdict ends the table: the
// operator's own raw rules see the packet first, a drop or notrack there holds.
#pragma once

#include "firewall/RuleSet.h"

#include <optional>

namespace btblock::firewall {

// At most 28 characters; of a long instance name the start and a hash.
std::string iptables_chain_name(std::string_view instance);

// Input for `iptables-restore --noflush`, one transaction: the chain emptied or made, its rule, the jump.
// `jumps` are those that exist now, as rule specifications ("PREROUTING -m mark --mark M/M -j CHAIN"); one proper jump
// is left in place, anything else is replaced.
std::string iptables_install_text(const RuleOptions& options, const std::vector<std::string>& jumps);
std::string iptables_remove_text(std::string_view chain, const std::vector<std::string>& jumps, bool chain_exists,
                                 std::string_view table = "raw");
// "NFQUEUE" and its options.
std::string iptables_queue_target(const RuleOptions& options);

// What a listing (`iptables -t raw -S`) says about a chain.
struct ChainState {
    bool exists = false;
    std::vector<std::string> jumps; // rules of other chains that go to it, without their leading "-A "
};
ChainState iptables_chain_state(std::string_view listing, std::string_view chain);

// Flavours of the same tool that keep separate rules: iptables on nf_tables, and the older one.
enum class Flavour { nf_tables, legacy };

Result<void> probe_iptables(const RuleOptions& options);
// Leaves the rules of the flavour `except` alone.
Result<int> remove_iptables_rules(const std::string& instance, std::optional<Flavour> except = std::nullopt);

// The chain of PuntFilter.h. Returns how many there were.
Result<int> remove_punt_filter(const std::string& instance);

class IptablesRules final : public RuleSet {
public:
    explicit IptablesRules(RuleOptions options) : options_(std::move(options)) {}
    Result<void> install() override;
    Result<void> remove() override;
    [[nodiscard]] std::string_view name() const noexcept override { return "iptables"; }

private:
    RuleOptions options_;
};

} // namespace btblock::firewall
