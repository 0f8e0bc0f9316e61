// SPDX-License-Identifier: MIT
#include "event/Event.h"

#include "core/Clock.h"
#include "core/Evidence.h"

#include <algorithm>
#include <array>
#include <ctime>

#include <netinet/in.h>
#include <spdlog/fmt/fmt.h>

namespace btblock::event {
namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;

std::tm local_time(std::uint64_t time_ns) noexcept {
    const auto seconds = static_cast<std::time_t>(time_ns / second_ns);
    std::tm broken_down{};
    localtime_r(&seconds, &broken_down);
    return broken_down;
}

std::string format_time(const char* format, std::uint64_t time_ns) {
    const std::tm broken_down = local_time(time_ns);
    std::array<char, 64> text;
    return {text.data(), std::strftime(text.data(), text.size(), format, &broken_down)};
}

// Names and comments come from outside: they must not forge lines or steer a terminal.
std::string printable(std::string_view text) {
    std::string clean(text);
    std::replace_if(
        clean.begin(), clean.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
    return clean;
}

std::string end_string(const net::Address& address, std::uint16_t port) {
    return port ? net::endpoint_string(address, port) : address.to_string();
}

// "client -> peer", "client <- peer", or source and destination where no end is known to be inside.
std::string flow_string(const Event& event) {
    if (!event.src || !event.dst) {
        if (event.client && event.peer)
            return fmt::format("{} -> {}", event.client->to_string(), event.peer->to_string());
        if (event.client)
            return "client " + event.client->to_string();
        return {};
    }
    const std::string src = end_string(*event.src, event.src_port), dst = end_string(*event.dst, event.dst_port);
    std::string text =
        event.client == event.dst ? fmt::format("{} <- {}", dst, src) : fmt::format("{} -> {}", src, dst);
    if (const auto proto = proto_name(event.proto); !proto.empty())
        text.append(" ").append(proto);
    return text;
}

std::string until(const Event& event) {
    if (!event.ban_expires)
        return {};
    return *event.ban_expires == never ? " for good" : " until " + format_time("%Y-%m-%d %H:%M:%S", *event.ban_expires);
}

std::string what_was_done(const Event& event) {
    switch (event.type) {
    case EventType::detection:
        if (event.mode == "monitor")
            return "noticed (monitor mode)";
        if (event.action == "drop")
            return "dropped";
        if (event.action == "pass")
            return "let pass";
        return event.action.empty() ? "noticed" : printable(event.action);
    case EventType::condemn: return "condemned socket" + until(event);
    case EventType::ban:
    case EventType::unban: {
        std::string target = event.target.empty() && event.peer ? event.peer->to_string() : printable(event.target);
        return event.type == EventType::unban ? "unbanned " + target : "banned " + target + until(event);
    }
    case EventType::health: return "health";
    case EventType::suppressed: return "suppressed";
    }
    return "unknown event";
}

} // namespace

WallClock WallClock::now() noexcept {
    return {static_cast<std::int64_t>(btblock::wall_ns()) - static_cast<std::int64_t>(btblock::monotonic_ns())};
}

std::uint64_t WallClock::at(std::uint64_t monotonic_ns) const noexcept {
    return monotonic_ns + static_cast<std::uint64_t>(offset_ns);
}

Event from_kernel(const bt_event& record, const WallClock& clock, const InterfaceName& interface_name) {
    Event event;
    event.type = record.kind == BT_K_CONDEMN ? EventType::condemn : EventType::detection;
    event.time_ns = clock.at(record.time_ns);
    event.src = net::Address(record.tuple.src);
    event.dst = net::Address(record.tuple.dst);
    event.src_port = record.tuple.sport;
    event.dst_port = record.tuple.dport;
    event.proto = record.tuple.proto;
    if (record.ifindex != 0) {
        event.in_iface = interface_name ? interface_name(record.ifindex) : std::string{};
        if (event.in_iface.empty())
            event.in_iface = fmt::format("#{}", record.ifindex);
    }
    event.evidence = record.evidence;
    const bool only_counted = record.monitor && record.action == BT_ACT_DROP;
    event.action = action_name(only_counted ? unsigned{BT_ACT_PASS} : record.action);
    if (record.client_is == 1) {
        event.client = event.src;
        event.peer = event.dst;
    } else if (record.client_is == 2) {
        event.client = event.dst;
        event.peer = event.src;
    }
    event.hook = hook_name(record.hook);
    event.mode = record.monitor ? "monitor" : "enforce";
    return event;
}

std::string_view type_name(EventType type) noexcept {
    switch (type) {
    case EventType::detection: return "detection";
    case EventType::ban: return "ban";
    case EventType::unban: return "unban";
    case EventType::condemn: return "condemn";
    case EventType::health: return "health";
    case EventType::suppressed: return "suppressed";
    }
    return "unknown";
}

std::string_view hook_name(unsigned hook) noexcept {
    switch (hook) {
    case BT_HOOK_XDP: return "xdp";
    case BT_HOOK_INGRESS: return "ingress";
    case BT_HOOK_EGRESS: return "egress";
    case BT_HOOK_QUEUE: return "queue";
    case BT_HOOK_OUTPUT: return "output";
    case BT_HOOK_OFFLINE: return "offline";
    default: return "unknown";
    }
}

std::string_view action_name(unsigned action) noexcept {
    switch (action) {
    case BT_ACT_PASS: return "pass";
    case BT_ACT_DROP: return "drop";
    case BT_ACT_PUNT: return "punt";
    default: return "unknown";
    }
}

std::string_view proto_name(unsigned proto) noexcept {
    switch (proto) {
    case IPPROTO_TCP: return "TCP";
    case IPPROTO_UDP: return "UDP";
    default: return "";
    }
}

std::string timestamp(std::uint64_t time_ns) {
    return fmt::format("{}.{:06}{}", format_time("%Y-%m-%dT%H:%M:%S", time_ns), time_ns % second_ns / 1000,
                       format_time("%z", time_ns));
}

std::string log_time(std::uint64_t time_ns) {
    return fmt::format("{}.{:03}", format_time("%Y-%m-%d %H:%M:%S", time_ns), time_ns % second_ns / 1'000'000);
}

std::string describe(const Event& event) {
    std::string line = what_was_done(event);
    const std::string evidence = evidence_string(event.evidence);
    if (event.type == EventType::detection) {
        if (!evidence.empty())
            line += " " + evidence;
    }
    std::string details;
    const auto add = [&details](std::string_view separator, const std::string& text) {
        if (text.empty())
            return;
        if (!details.empty())
            details += separator;
        details += text;
    };
    add(" ", printable(event.message));
    if (event.type != EventType::detection)
        add(", ", evidence);
    add(", ", flow_string(event));
    if (!event.in_iface.empty())
        add(" ", "on " + printable(event.in_iface));
    return details.empty() ? line : line + ": " + details;
}

std::string to_human(const Event& event) {
    return log_time(event.time_ns) + " " + describe(event);
}

} // namespace btblock::event
