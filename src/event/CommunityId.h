// SPDX-License-Identifier: MIT
// Community ID flow hash, version 1 (https://github.com/corelight/community-id-spec).
#pragma once

#include "net/Address.h"

#include <cstdint>
#include <string>

namespace btblock::event {

// The same text for both directions of a flow, so that it correlates with Suricata, Zeek and others. Ports in host byte
// order. Empty for protocols without ports and when the hash is not to be had.
std::string community_id(const net::Address& src, std::uint16_t src_port, const net::Address& dst,
                         std::uint16_t dst_port, std::uint8_t proto, std::uint16_t seed = 0);

} // namespace btblock::event
