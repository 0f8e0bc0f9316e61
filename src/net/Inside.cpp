// SPDX-License-Identifier: MIT
#include "net/Inside.h"

#include "net/Netlink.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <tuple>
#include <utility>
#include <utmpx.h>

namespace btblock::net {

namespace {

// Shorter destinations cover so much of the Internet that they stand for a default route in pieces. 10.0.0.0/8 and
// fc00::/7 are the widest that a site uses for itself.
constexpr unsigned shortest_site_v4 = 8;
constexpr unsigned shortest_site_v6 = 7;

constexpr auto always_inside = {"10.0.0.0/8",     "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
                                "169.254.0.0/16", "fc00::/7",      "fe80::/10"};
constexpr auto never_banned = {"127.0.0.0/8", "::1", "224.0.0.0/4", "ff00::/8", "255.255.255.255", "0.0.0.0", "::"};

// systemd-resolved hides the real resolvers behind its stub at 127.0.0.53; they are in the second file.
constexpr auto resolver_files = {"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"};

Prefix host(const Address& address) {
    return {address, 128};
}

void add_literals(std::vector<Prefix>& prefixes, std::initializer_list<const char*> literals) {
    for (const char* literal : literals)
        prefixes.push_back(*Prefix::parse(literal));
}

bool is_default(const Prefix& destination) {
    return destination.length() < (destination.address().is_v4() ? shortest_site_v4 : shortest_site_v6);
}

bool is_multicast(const Address& address) {
    return address.is_v4() ? (address.raw().b[12] & 0xf0) == 0xe0 : address.raw().b[0] == 0xff;
}

// Sorted, IPv4 first, without prefixes that an earlier one contains.
std::vector<Prefix> reduced(std::vector<Prefix> prefixes) {
    const auto key = [](const Prefix& p) { return std::tuple(!p.address().is_v4(), p.address(), p.length()); };
    std::ranges::sort(prefixes, {}, key);
    std::vector<Prefix> kept;
    for (const Prefix& prefix : prefixes) {
        // Prefixes nest or are apart, and a containing one sorts first: looking at the last one is enough.
        if (kept.empty() || !kept.back().contains(prefix.address()))
            kept.push_back(prefix);
    }
    return kept;
}

std::optional<NetworkSnapshot::Assigned> parse_address(const nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(message) < sizeof(ifaddrmsg))
        return std::nullopt;
    const auto* info = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(message));
    std::optional<Address> local;
    std::optional<Address> address;
    NetworkSnapshot::Assigned assigned;
    for_each_attribute(message, sizeof(ifaddrmsg), [&](unsigned type, const nlattr* attribute) {
        if (type == IFA_LOCAL)
            local = attribute_address(attribute, info->ifa_family);
        else if (type == IFA_ADDRESS)
            address = attribute_address(attribute, info->ifa_family);
        else if (type == IFA_BROADCAST)
            assigned.broadcast = attribute_address(attribute, info->ifa_family);
    });
    // On a point-to-point link IFA_ADDRESS is the peer, and the prefix length belongs to it.
    if (!local)
        local = address;
    if (!address)
        address = local;
    if (!local)
        return std::nullopt;
    assigned.ifindex = info->ifa_index;
    assigned.address = *local;
    assigned.on_link = Prefix(*address, info->ifa_prefixlen);
    return assigned;
}

// RTA_VIA: the next hop's family and address, which may differ from the destination's.
std::optional<Address> via_address(const nlattr* attribute) {
    const std::size_t size = mnl_attr_get_payload_len(attribute);
    const auto* via = static_cast<const rtvia*>(mnl_attr_get_payload(attribute));
    if (size == sizeof(rtvia) + 4 && via->rtvia_family == AF_INET)
        return Address::from_v4(via->rtvia_addr);
    if (size == sizeof(rtvia) + 16 && via->rtvia_family == AF_INET6)
        return Address::from_v6(via->rtvia_addr);
    return std::nullopt;
}

struct NextHop {
    unsigned ifindex = 0;
    std::optional<Address> gateway;
};

void next_hop_attribute(unsigned type, const nlattr* attribute, unsigned char family, NextHop& hop) {
    if (type == RTA_GATEWAY)
        hop.gateway = attribute_address(attribute, family);
    else if (type == RTA_VIA)
        hop.gateway = via_address(attribute);
}

// RTA_MULTIPATH: a row of struct rtnexthop, each with attributes of its own.
void parse_next_hops(const nlattr* attribute, unsigned char family, std::vector<NextHop>& hops) {
    const auto* at = static_cast<const char*>(mnl_attr_get_payload(attribute));
    std::size_t left = mnl_attr_get_payload_len(attribute);
    while (left >= sizeof(rtnexthop)) {
        const auto* entry = reinterpret_cast<const rtnexthop*>(at);
        const std::size_t size = entry->rtnh_len;
        if (size < sizeof(rtnexthop) || size > left)
            return;
        NextHop hop{static_cast<unsigned>(entry->rtnh_ifindex), {}};
        int rest = static_cast<int>(size - sizeof(rtnexthop));
        for (auto* inner = reinterpret_cast<const nlattr*>(at + sizeof(rtnexthop)); mnl_attr_ok(inner, rest);) {
            next_hop_attribute(mnl_attr_get_type(inner), inner, family, hop);
            const int step = static_cast<int>(MNL_ALIGN(inner->nla_len));
            rest -= step;
            inner = reinterpret_cast<const nlattr*>(reinterpret_cast<const char*>(inner) + step);
        }
        hops.push_back(hop);
        const std::size_t step = std::min<std::size_t>(MNL_ALIGN(size), left);
        at += step;
        left -= step;
    }
}

// The routes of one message: none unless it is an ordinary unicast route, one per next hop otherwise.
std::vector<NetworkSnapshot::Route> parse_route(const nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(message) < sizeof(rtmsg))
        return {};
    const auto* info = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(message));
    if (info->rtm_type != RTN_UNICAST || (info->rtm_flags & RTM_F_CLONED) != 0 ||
        (info->rtm_family != AF_INET && info->rtm_family != AF_INET6))
        return {};
    const unsigned char zero[16] = {};
    Address destination = info->rtm_family == AF_INET ? Address::from_v4(zero) : Address::from_v6(zero);
    std::vector<NextHop> hops;
    NextHop single;
    for_each_attribute(message, sizeof(rtmsg), [&](unsigned type, const nlattr* attribute) {
        if (type == RTA_DST)
            destination = attribute_address(attribute, info->rtm_family).value_or(destination);
        else if (type == RTA_OIF)
            single.ifindex = attribute_u32(attribute).value_or(0);
        else if (type == RTA_MULTIPATH)
            parse_next_hops(attribute, info->rtm_family, hops);
        else
            next_hop_attribute(type, attribute, info->rtm_family, single);
    });
    if (is_multicast(destination)) // IPv6 lists ff00::/8 like any other
        return {};
    if (hops.empty())
        hops.push_back(single);
    std::vector<NetworkSnapshot::Route> routes;
    for (const NextHop& hop : hops)
        routes.push_back({hop.ifindex, Prefix(destination, info->rtm_dst_len), hop.gateway});
    return routes;
}

Result<void> read_routes(RouteSocket& netlink, unsigned char family, std::vector<NetworkSnapshot::Route>& routes) {
    using Through = std::pair<unsigned, Address>;
    const std::size_t before = routes.size();
    std::set<Through> seen; // a router can have a million routes through two gateways
    return netlink.dump(
        RTM_GETROUTE, family,
        [&] {
            routes.resize(before);
            seen.clear();
        },
        [&](const nlmsghdr* message) {
            for (const auto& route : parse_route(message)) {
                if (!is_default(route.destination) && route.gateway &&
                    !seen.insert(Through(route.ifindex, *route.gateway)).second)
                    continue;
                routes.push_back(route);
            }
        });
}

// Remote sessions in the login records, and the one that this process belongs to.
std::vector<Address> logged_in_from() {
    std::vector<Address> addresses;
    setutxent();
    while (const utmpx* session = getutxent()) {
        if (session->ut_type != USER_PROCESS)
            continue;
        const auto& words = session->ut_addr_v6;
        if (words[1] || words[2] || words[3])
            addresses.push_back(Address::from_v6(words));
        else if (words[0])
            addresses.push_back(Address::from_v4(words));
    }
    endutxent();
    if (const char* connection = std::getenv("SSH_CONNECTION"))
        if (const auto address = parse_ssh_connection(connection))
            addresses.push_back(*address);
    return addresses;
}

} // namespace

std::vector<Address> parse_resolvers(std::string_view text) {
    constexpr std::string_view blank = " \t\r";
    constexpr std::string_view keyword = "nameserver";
    std::vector<Address> resolvers;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        line.remove_prefix(std::min(line.find_first_not_of(blank), line.size()));
        if (!line.starts_with(keyword))
            continue;
        line.remove_prefix(keyword.size());
        const std::size_t start = line.find_first_not_of(blank);
        if (start == 0 || start == std::string_view::npos)
            continue;
        line.remove_prefix(start);
        line = line.substr(0, line.find_first_of(" \t\r#;%")); // '%': the scope of a link-local address
        if (auto address = Address::parse(line))
            resolvers.push_back(*address);
    }
    return resolvers;
}

Result<NetworkSnapshot> read_network() {
    auto netlink = RouteSocket::open();
    if (!netlink)
        return netlink.error();
    NetworkSnapshot network;
    auto addresses = netlink->dump(
        RTM_GETADDR, AF_UNSPEC, [&] { network.addresses.clear(); },
        [&](const nlmsghdr* message) {
            if (auto assigned = parse_address(message))
                network.addresses.push_back(*assigned);
        });
    if (!addresses)
        return error("listing the addresses: " + addresses.error().message);
    for (const int family : {AF_INET, AF_INET6})
        if (auto routes = read_routes(*netlink, static_cast<unsigned char>(family), network.routes); !routes)
            return error("listing the routes: " + routes.error().message);
    for (const char* path : resolver_files) {
        std::ifstream file(path);
        const std::string text(std::istreambuf_iterator<char>(file), {});
        for (const Address& resolver : parse_resolvers(text))
            network.resolvers.push_back(resolver);
    }
    network.administrators = logged_in_from();
    return network;
}

std::optional<Address> parse_ssh_connection(std::string_view value) {
    if (auto address = Address::parse(value.substr(0, value.find_first_of(" %"))))
        return *address;
    return std::nullopt;
}

std::set<unsigned> uplinks(const NetworkSnapshot& network) {
    std::set<unsigned> with_default;
    std::set<unsigned> with_gateway;
    for (const auto& route : network.routes) {
        if (is_default(route.destination))
            with_default.insert(route.ifindex);
        if (route.gateway)
            with_gateway.insert(route.ifindex);
    }
    return with_default.empty() ? with_gateway : with_default;
}

std::vector<Prefix> inside_of(const NetworkSnapshot& network) {
    const std::set<unsigned> outer = uplinks(network);
    std::vector<Prefix> inside;
    add_literals(inside, always_inside);
    for (const auto& assigned : network.addresses) {
        inside.push_back(host(assigned.address));
        if (!outer.contains(assigned.ifindex) && !is_default(assigned.on_link))
            inside.push_back(assigned.on_link);
    }
    for (const auto& route : network.routes)
        if (!route.gateway && route.ifindex != 0 && !outer.contains(route.ifindex))
            inside.push_back(route.destination);
    return reduced(std::move(inside));
}

std::vector<Prefix> never_ban_of(const NetworkSnapshot& network) {
    std::vector<Prefix> never;
    add_literals(never, never_banned);
    for (const auto& assigned : network.addresses) {
        never.push_back(host(assigned.address));
        if (assigned.broadcast)
            never.push_back(host(*assigned.broadcast));
    }
    for (const auto& route : network.routes)
        if (route.gateway)
            never.push_back(host(*route.gateway));
    for (const auto* addresses : {&network.resolvers, &network.administrators})
        for (const Address& address : *addresses)
            never.push_back(host(address));
    return reduced(std::move(never));
}

Result<std::vector<Prefix>> default_inside() {
    auto network = read_network();
    if (!network)
        return network.error();
    return inside_of(*network);
}

Result<std::vector<Prefix>> never_ban_addresses() {
    auto network = read_network();
    if (!network)
        return network.error();
    return never_ban_of(*network);
}

} // namespace btblock::net
