// SPDX-License-Identifier: MIT
// The nftables back end: one table `inet btblock_INSTANCE`, loaded and deleted in one transaction.
#pragma once

#include "firewall/RuleSet.h"

namespace btblock::firewall {

std::string nft_table_name(std::string_view instance);

// Input for `nft -f -`. Declaring, deleting and creating the table in one transaction gives the same result whether or
// not it existed, and packets see either the old rules or the new.
std::string nft_install_text(const RuleOptions& options);
std::string nft_remove_text(std::string_view instance);

Result<void> probe_nft(const RuleOptions& options);
Result<int> remove_nft_rules(const std::string& instance);

class NftRules final : public RuleSet {
public:
    explicit NftRules(RuleOptions options) : options_(std::move(options)) {}
    Result<void> install() override;
    Result<void> remove() override;
    [[nodiscard]] std::string_view name() const noexcept override { return "nftables"; }

private:
    RuleOptions options_;
};

} // namespace btblock::firewall
