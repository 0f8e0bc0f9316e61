// SPDX-License-Identifier: MIT
// Network interfaces of the calling thread's network namespace, as rtnetlink tells them (/sys may show another's).
#pragma once

#include "core/Result.h"

#include <optional>
#include <string>
#include <vector>

namespace btblock::net {

// What a packet starts with at the TC hooks: an Ethernet header, or the IP header itself.
enum class LinkKind { ethernet, ip };

// The kind of a hardware type (ARPHRD_*); none for links that carry neither, such as InfiniBand or CAN.
std::optional<LinkKind> link_kind(unsigned hardware_type) noexcept;

struct Interface {
    std::string name;
    unsigned ifindex = 0;
    LinkKind kind = LinkKind::ethernet; // meaningful where link_kind(hardware_type) is
    unsigned hardware_type = 0;         // ARPHRD_*
    bool up = false;                    // set up by the administrator, whether or not there is a carrier
    bool has_device = false;            // a real or paravirtual NIC, not a software device
    std::string driver_kind;            // IFLA_INFO_KIND: "veth", "bridge", "wireguard", "tun", ..., or empty
    std::vector<std::string> alternative_names;
};

Result<std::vector<Interface>> list_interfaces();

// By name or alternative name. Errors: no such interface (some that exist are listed), or a link type that cannot be
// inspected.
Result<Interface> find_interface(const std::string& name);

// The same in a list made before; this is what find_interface does after reading it.
Result<Interface> find_interface_in(const std::vector<Interface>& interfaces, const std::string& name);

} // namespace btblock::net
