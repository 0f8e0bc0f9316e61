// SPDX-License-Identifier: MIT
// Whether the punt bit is free, or policy routing uses it.
#pragma once

#include "core/Result.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace btblock::firewall {

// An `ip rule` with a firewall mark; packets with (mark & mask) == value match it.
struct MarkRule {
    bool ipv6 = false;
    std::uint32_t priority = 0;
    std::uint32_t value = 0;
    std::uint32_t mask = 0xffffffff;
    std::uint32_t table = 0;
};

// The first rule that uses a bit of `mark`, described for the operator. A rule that compares the whole mark, as
// wg-quick's does, is none while its value has the bit clear: the bit never lives until routing.
std::optional<std::string> mark_conflict(std::uint32_t mark, const std::vector<MarkRule>& rules);

Result<std::vector<MarkRule>> read_mark_rules();

// ExitCode::refused if an `ip rule` of the calling thread's network namespace uses the bit.
Result<void> check_mark_free(std::uint32_t mark);

} // namespace btblock::firewall
