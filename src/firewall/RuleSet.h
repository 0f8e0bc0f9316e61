// SPDX-License-Identifier: MIT
// The firewall rules that btblock needs. Packets whose mark has the punt bit go from raw PREROUTING to an NFQUEUE; of
// packets that only leave through a guarded device those that the punt filter picks (PuntFilter.h).
// They live in an own nftables table or own iptables chains; no rule of anybody else is changed.
#pragma once

#include "core/Result.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace btblock::firewall {

// Of the punt filter, see PuntFilter.h.
struct FilterOptions {
    std::vector<std::string> devices;       // guarded ones; none: no punt filter
    std::string pass_program, drop_program; // paths of pinned socket filters
    bool forwarded = true;                  // packets may come in through devices that are not guarded
    bool own_programs = false;              // also what this machine itself sends
};

struct RuleOptions {
    std::string instance;          // 1 to 64 of A-Z a-z 0-9 _ -, not starting with '-'
    std::uint32_t mark = 0;        // packets with (mark & this) == this; never 0
    std::uint16_t queue_first = 0; // queues queue_first .. queue_first + queue_count - 1, one flow staying on one queue
    std::uint16_t queue_count = 1;
    FilterOptions filter{};
    bool bypass = true; // fail open: packets pass while nobody listens on the queue
};

enum class Backend { automatic, nftables, iptables, none };

class RuleSet {
public:
    RuleSet() = default;
    RuleSet(const RuleSet&) = delete;
    RuleSet& operator=(const RuleSet&) = delete;
    virtual ~RuleSet() = default; // leaves the rules as they are

    // Idempotent: twice gives the same rules, other options replace them. What another back end left of this instance
    // is removed. On an error nothing of this call stays behind.
    virtual Result<void> install() = 0;
    // Idempotent.
    virtual Result<void> remove() = 0;
    [[nodiscard]] virtual std::string_view name() const noexcept = 0; // "nftables", "iptables", "none"

    // What the operator may want to know after install(), for instance that IPv6 has no rule and why.
    [[nodiscard]] const std::vector<std::string>& notes() const noexcept { return notes_; }
    // Whether the punt filter is in place, or nothing would pass it; notes() say why not.
    [[nodiscard]] bool filters() const noexcept { return filters_; }

protected:
    // Last step of install(): the punt filter, or a note.
    Result<void> install_filter(const RuleOptions& options);
    bool filters_ = false;
    std::vector<std::string> notes_;
};

// Only letters, digits, '_' and '-', so that the name fits everywhere; ExitCode::usage otherwise.
Result<void> check_instance(std::string_view instance);

// Errors: options out of range (ExitCode::usage), or no back end works; the message tells what each said.
// `automatic` takes the first of nftables and iptables for which probe() succeeds.
Result<std::unique_ptr<RuleSet>> make_rule_set(Backend backend, const RuleOptions& options);

// Whether the tools and the kernel accept a rule with these options. Tried for real, but nothing stays and no packet is
// affected.
Result<void> probe(Backend backend, const RuleOptions& options);

// Removes what any back end, also of another version, left of this instance in the calling thread's network
// namespace. Returns how many tables and chains that were. Tools that are missing, or for which the kernel has no
// support, cannot have left anything.
Result<int> remove_all_rules(const std::string& instance);

} // namespace btblock::firewall
