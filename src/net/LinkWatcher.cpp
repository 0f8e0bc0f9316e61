// SPDX-License-Identifier: MIT
#include "net/LinkWatcher.h"

#include "net/Netlink.h"

#include <cerrno>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <memory>
#include <sys/socket.h>

namespace btblock::net {

namespace {

constexpr std::size_t buffer_size = 64 * 1024;
constexpr int receive_buffer = 1 << 20; // bytes; a VPN server restarting brings bursts

} // namespace

Result<LinkWatcher> LinkWatcher::open() {
    Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
    if (!fd)
        return errno_error("opening an rtnetlink socket");
    if (setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &receive_buffer, sizeof receive_buffer) != 0)
        setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_nl self{};
    self.nl_family = AF_NETLINK;
    self.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
    if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&self), sizeof self) != 0)
        return errno_error("subscribing to interface changes");
    LinkWatcher watcher(std::move(fd));
    // After subscribing: what changes in between is seen twice, not never.
    if (auto loaded = watcher.load(); !loaded)
        return loaded.error();
    return watcher;
}

Result<void> LinkWatcher::load() {
    auto netlink = RouteSocket::open();
    if (!netlink)
        return netlink.error();
    std::vector<LinkEvent> ignored;
    names_.clear();
    addresses_.clear();
    auto links = netlink->dump(
        RTM_GETLINK, AF_UNSPEC, [&] { names_.clear(); },
        [&](const nlmsghdr* message) { link_message(message, ignored); });
    if (!links)
        return links;
    return netlink->dump(
        RTM_GETADDR, AF_UNSPEC, [&] { addresses_.clear(); },
        [&](const nlmsghdr* message) { address_message(message, ignored); });
}

void LinkWatcher::link_message(const nlmsghdr* message, std::vector<LinkEvent>& events) {
    if (mnl_nlmsg_get_payload_len(message) < sizeof(ifinfomsg))
        return;
    const auto* info = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message));
    if (info->ifi_family != AF_UNSPEC) // AF_BRIDGE: a bridge port, whose "deletion" leaves the interface alive
        return;
    const auto ifindex = static_cast<unsigned>(info->ifi_index);
    std::string name;
    for_each_attribute(message, sizeof(ifinfomsg), [&](unsigned type, const nlattr* attribute) {
        if (type == IFLA_IFNAME)
            name = attribute_string(attribute);
    });
    const auto known = names_.find(ifindex);
    if (message->nlmsg_type == RTM_DELLINK) {
        if (known == names_.end())
            return;
        events.push_back({LinkEvent::Kind::gone, known->second, ifindex});
        names_.erase(known);
        std::erase_if(addresses_, [&](const Assigned& a) { return a.ifindex == ifindex; });
        return;
    }
    if (known != names_.end()) {
        if (known->second == name || name.empty())
            return;
        events.push_back({LinkEvent::Kind::gone, known->second, ifindex});
    }
    names_[ifindex] = name;
    events.push_back({LinkEvent::Kind::appeared, name, ifindex});
}

void LinkWatcher::address_message(const nlmsghdr* message, std::vector<LinkEvent>& events) {
    if (mnl_nlmsg_get_payload_len(message) < sizeof(ifaddrmsg))
        return;
    const auto* info = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(message));
    std::optional<Address> local;
    std::optional<Address> address;
    for_each_attribute(message, sizeof(ifaddrmsg), [&](unsigned type, const nlattr* attribute) {
        if (type == IFA_LOCAL)
            local = attribute_address(attribute, info->ifa_family);
        else if (type == IFA_ADDRESS)
            address = attribute_address(attribute, info->ifa_family);
    });
    if (!local)
        local = address;
    if (!local)
        return;
    const Assigned assigned{info->ifa_index, *local, info->ifa_prefixlen};
    const bool changed =
        message->nlmsg_type == RTM_NEWADDR ? addresses_.insert(assigned).second : addresses_.erase(assigned) > 0;
    if (!changed) // a lifetime renewed by a router advertisement
        return;
    const auto known = names_.find(info->ifa_index);
    const std::string name = known == names_.end() ? "" : known->second;
    const LinkEvent event{LinkEvent::Kind::addresses_changed, name, info->ifa_index};
    if (events.empty() || events.back() != event)
        events.push_back(event);
}

std::vector<LinkEvent> LinkWatcher::read() {
    std::vector<LinkEvent> events;
    bool lost = false;
    const std::unique_ptr<char[]> buffer(new char[buffer_size]);
    for (;;) {
        const ssize_t received = recv(fd_.get(), buffer.get(), buffer_size, MSG_TRUNC);
        if (received < 0 && errno == EINTR)
            continue;
        if (received < 0 && errno == ENOBUFS) { // the kernel dropped messages; what is queued can still be read
            lost = true;
            continue;
        }
        if (received < 0)
            break;
        if (static_cast<std::size_t>(received) > buffer_size) {
            lost = true;
            continue;
        }
        int left = static_cast<int>(received);
        for (auto* message = reinterpret_cast<const nlmsghdr*>(buffer.get()); mnl_nlmsg_ok(message, left);
             message = mnl_nlmsg_next(message, &left)) {
            if (message->nlmsg_type == RTM_NEWLINK || message->nlmsg_type == RTM_DELLINK)
                link_message(message, events);
            else if (message->nlmsg_type == RTM_NEWADDR || message->nlmsg_type == RTM_DELADDR)
                address_message(message, events);
        }
    }
    if (!lost)
        return events;
    // A failure here only makes later events repeat what the caller sees on its own when it resyncs.
    (void)load();
    return {LinkEvent{LinkEvent::Kind::resync, "", 0}};
}

} // namespace btblock::net
