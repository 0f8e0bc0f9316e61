// SPDX-License-Identifier: MIT
// Built-in values that the configuration and the analysis of captures share.
#pragma once

#include <array>
#include <cstdint>

namespace btblock {

// Ports of what everyone needs: statistics and bans do not count there.
inline constexpr std::array<std::uint16_t, 7> default_whitelist_ports{22, 53, 80, 443, 853, 5222, 5269};

// Distinct hosts and ports of a client in a minute that make a fan-out.
inline constexpr std::uint16_t default_fanout_hosts = 25;
inline constexpr std::uint16_t default_fanout_ports = 20;

} // namespace btblock
