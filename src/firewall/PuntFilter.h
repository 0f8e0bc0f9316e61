// SPDX-License-Identifier: MIT
// Rules for packets that only leave through a guarded device: one chain in the mangle tables of iptables and ip6tables,
// entered from FORWARD, where packets may come in elsewhere, and with own_programs from OUTPUT. There the outgoing
// device is known and the chain asks two BPF programs (include/btblock/punt.h) whether to pass the packet, to drop it,
// or to queue it. nft cannot call BPF programs, so these rules are iptables' with either back end.
#pragma once

#include "firewall/RuleSet.h"

#include <string>
#include <vector>

namespace btblock::firewall {

// The rules that enter the chain, without their leading "-A ".
std::vector<std::string> punt_filter_jumps(const RuleOptions& options);
// Input for `iptables-restore --noflush`; `jumps` are those that exist now.
std::string punt_filter_text(const RuleOptions& options, const std::vector<std::string>& jumps);

// Error: no iptables, or the kernel has no xt_bpf. Nothing of this call stays then.
Result<void> install_punt_filter(const RuleOptions& options);

} // namespace btblock::firewall
