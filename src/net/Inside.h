// SPDX-License-Identifier: MIT
// What is "inside" of this gateway, and which addresses must never be banned, from the state of its network namespace.
#pragma once

#include "core/Result.h"
#include "net/Address.h"

#include <optional>
#include <set>
#include <string_view>
#include <vector>

namespace btblock::net {

// The part of a network namespace's state that the questions below depend on.
struct NetworkSnapshot {
    struct Assigned { // an address of an interface
        unsigned ifindex = 0;
        Address address;
        Prefix on_link; // reachable through it without a gateway; the peer's on a point-to-point link
        std::optional<Address> broadcast;
    };
    struct Route { // unicast, any routing table; one per next hop
        unsigned ifindex = 0;
        Prefix destination;
        std::optional<Address> gateway;
    };

    std::vector<Assigned> addresses;
    std::vector<Route> routes;
    std::vector<Address> resolvers;
    std::vector<Address> administrators; // where people are logged in from
};

// Reads rtnetlink (IPv4 and IPv6, all tables) and the resolver files. Of a large table's many routes through one
// gateway only one is kept, unless it counts as a default route.
Result<NetworkSnapshot> read_network();

// The `nameserver` lines of a resolv.conf; what is not an address is skipped.
std::vector<Address> parse_resolvers(std::string_view resolv_conf);

// Interfaces (by ifindex) that lead out: those that carry a default route, also one cut in pieces (0.0.0.0/1 and
// 128.0.0.0/1, 2000::/3). Where no interface does, those that carry any route through a gateway.
std::set<unsigned> uplinks(const NetworkSnapshot& network);

// Private, CGNAT, ULA and link-local ranges, what is on-link at interfaces that are no uplinks, and the machine's own
// addresses; without prefixes that another one contains.
std::vector<Prefix> inside_of(const NetworkSnapshot& network);

// The client's address in the value of SSH_CONNECTION: of the session that this process was started from.
std::optional<Address> parse_ssh_connection(std::string_view value);

// The machine's own addresses, gateways, resolvers, where administrators are logged in from, loopback, multicast,
// broadcast and "no address".
std::vector<Prefix> never_ban_of(const NetworkSnapshot& network);

// Both for the calling thread's network namespace, now.
Result<std::vector<Prefix>> default_inside();
Result<std::vector<Prefix>> never_ban_addresses();

} // namespace btblock::net
