// SPDX-License-Identifier: MIT
#include "net/Interface.h"

#include "core/Fd.h"
#include "net/Netlink.h"

#include <algorithm>
#include <cstring>
#include <libmnl/libmnl.h>
#include <linux/ethtool.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace btblock::net {

namespace {

constexpr std::size_t listed_names = 12; // in the error about an unknown name

// Before 5.14 netlink does not tell the parent device; the driver's bus address does. Software devices that answer
// at all say "N/A" or the like, and they have a driver_kind, by which the caller excludes them.
bool has_bus_address(int socket_fd, const std::string& name) {
    ethtool_drvinfo info{};
    info.cmd = ETHTOOL_GDRVINFO;
    ifreq request{};
    name.copy(request.ifr_name, sizeof request.ifr_name - 1);
    request.ifr_data = reinterpret_cast<char*>(&info);
    if (ioctl(socket_fd, SIOCETHTOOL, &request) != 0)
        return false;
    const std::string bus(info.bus_info, strnlen(info.bus_info, sizeof info.bus_info));
    return !bus.empty() && bus != "N/A";
}

std::optional<Interface> parse_link(const nlmsghdr* message, int socket_fd) {
    if (message->nlmsg_type != RTM_NEWLINK || mnl_nlmsg_get_payload_len(message) < sizeof(ifinfomsg))
        return std::nullopt;
    const auto* info = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message));
    if (info->ifi_family != AF_UNSPEC)
        return std::nullopt;
    Interface interface;
    interface.ifindex = static_cast<unsigned>(info->ifi_index);
    interface.hardware_type = info->ifi_type;
    interface.kind = link_kind(info->ifi_type).value_or(LinkKind::ip);
    interface.up = (info->ifi_flags & IFF_UP) != 0;
    bool has_parent = false;
    for_each_attribute(message, sizeof(ifinfomsg), [&](unsigned type, const nlattr* attribute) {
        switch (type) {
        case IFLA_IFNAME: interface.name = attribute_string(attribute); break;
        case IFLA_LINKINFO:
            for_each_nested(attribute, [&](unsigned inner_type, const nlattr* inner) {
                if (inner_type == IFLA_INFO_KIND)
                    interface.driver_kind = attribute_string(inner);
            });
            break;
        case IFLA_PROP_LIST:
            for_each_nested(attribute, [&](unsigned inner_type, const nlattr* inner) {
                if (inner_type == IFLA_ALT_IFNAME)
                    interface.alternative_names.push_back(attribute_string(inner));
            });
            break;
        case IFLA_PARENT_DEV_NAME: has_parent = true; break;
        default: break;
        }
    });
    interface.has_device = interface.driver_kind.empty() && (has_parent || has_bus_address(socket_fd, interface.name));
    return interface;
}

} // namespace

std::optional<LinkKind> link_kind(unsigned hardware_type) noexcept {
    switch (hardware_type) {
    case ARPHRD_ETHER:
    case ARPHRD_LOOPBACK: return LinkKind::ethernet;
    case ARPHRD_NONE: // WireGuard, tun
    case ARPHRD_RAWIP:
    case ARPHRD_PPP:
    case ARPHRD_SLIP:
    case ARPHRD_CSLIP:
    case ARPHRD_TUNNEL:
    case ARPHRD_TUNNEL6:
    case ARPHRD_SIT:
    case ARPHRD_IPGRE:
    case ARPHRD_IP6GRE: return LinkKind::ip;
    default: return std::nullopt;
    }
}

Result<std::vector<Interface>> list_interfaces() {
    auto netlink = RouteSocket::open();
    if (!netlink)
        return netlink.error();
    const Fd any_socket(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)); // only carries the ioctl; may fail
    std::vector<Interface> interfaces;
    auto dumped = netlink->dump(
        RTM_GETLINK, AF_UNSPEC, [&] { interfaces.clear(); },
        [&](const nlmsghdr* message) {
            if (auto interface = parse_link(message, any_socket.get()))
                interfaces.push_back(std::move(*interface));
        });
    if (!dumped)
        return error("listing the network interfaces: " + dumped.error().message);
    std::ranges::sort(interfaces, {}, &Interface::ifindex);
    return interfaces;
}

Result<Interface> find_interface_in(const std::vector<Interface>& interfaces, const std::string& name) {
    auto found = std::ranges::find(interfaces, name, &Interface::name);
    if (found == interfaces.end())
        found = std::ranges::find_if(
            interfaces, [&](const Interface& i) { return std::ranges::count(i.alternative_names, name) > 0; });
    if (found == interfaces.end()) {
        std::string names;
        for (std::size_t i = 0; i < interfaces.size() && i < listed_names; ++i)
            names += (i ? ", " : "") + interfaces[i].name;
        if (interfaces.size() > listed_names)
            names += ", ... " + std::to_string(interfaces.size() - listed_names) + " more";
        return error("interface '" + name + "' does not exist (there are: " + (names.empty() ? "none" : names) + ")");
    }
    if (!link_kind(found->hardware_type))
        return error("interface '" + name + "' has link type " + std::to_string(found->hardware_type) +
                     ", which carries neither Ethernet nor bare IP packets and cannot be inspected");
    return *found;
}

Result<Interface> find_interface(const std::string& name) {
    auto interfaces = list_interfaces();
    if (!interfaces)
        return interfaces.error();
    return find_interface_in(*interfaces, name);
}

} // namespace btblock::net
