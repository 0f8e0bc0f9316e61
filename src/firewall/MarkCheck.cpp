// SPDX-License-Identifier: MIT
#include "firewall/MarkCheck.h"

#include "net/Netlink.h"

#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <spdlog/fmt/fmt.h>
#include <sys/socket.h>

namespace btblock::firewall {

namespace {

constexpr std::uint32_t whole_mark = 0xffffffff;

std::optional<MarkRule> parse_rule(const nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWRULE || mnl_nlmsg_get_payload_len(message) < sizeof(fib_rule_hdr))
        return std::nullopt;
    const auto* header = static_cast<const fib_rule_hdr*>(mnl_nlmsg_get_payload(message));
    if (header->family != AF_INET && header->family != AF_INET6)
        return std::nullopt;
    MarkRule rule;
    rule.ipv6 = header->family == AF_INET6;
    rule.table = header->table;
    bool marked = false;
    net::for_each_attribute(message, sizeof(fib_rule_hdr), [&](unsigned type, const nlattr* attribute) {
        const std::uint32_t number = net::attribute_u32(attribute).value_or(0);
        switch (type) {
        case FRA_FWMARK:
            rule.value = number;
            marked = true;
            break;
        case FRA_FWMASK:
            rule.mask = number;
            marked = true;
            break;
        case FRA_PRIORITY: rule.priority = number; break;
        case FRA_TABLE: rule.table = number; break;
        default: break;
        }
    });
    if (!marked)
        return std::nullopt;
    return rule;
}

} // namespace

std::optional<std::string> mark_conflict(std::uint32_t mark, const std::vector<MarkRule>& rules) {
    for (const MarkRule& rule : rules) {
        const bool uses = rule.mask == whole_mark ? (rule.value & mark) != 0 : (rule.mask & mark) != 0;
        if (uses)
            return fmt::format("'ip {}rule' {}: fwmark {:#x}/{:#x} lookup {}", rule.ipv6 ? "-6 " : "", rule.priority,
                               rule.value, rule.mask, rule.table);
    }
    return std::nullopt;
}

Result<std::vector<MarkRule>> read_mark_rules() {
    auto netlink = net::RouteSocket::open();
    if (!netlink)
        return netlink.error();
    std::vector<MarkRule> rules;
    for (const int family : {AF_INET, AF_INET6}) {
        const std::size_t before = rules.size();
        auto dumped = netlink->dump(
            RTM_GETRULE, static_cast<unsigned char>(family), [&] { rules.resize(before); },
            [&](const nlmsghdr* message) {
                if (auto rule = parse_rule(message))
                    rules.push_back(*rule);
            });
        if (!dumped)
            return error("listing the routing rules: " + dumped.error().message);
    }
    return rules;
}

Result<void> check_mark_free(std::uint32_t mark) {
    auto rules = read_mark_rules();
    if (!rules)
        return rules.error();
    if (const auto conflict = mark_conflict(mark, *rules))
        return error(
            fmt::format("mark bit {:#x} is used by policy routing ({}); choose another with mark_bit", mark, *conflict),
            ExitCode::refused);
    return {};
}

} // namespace btblock::firewall
