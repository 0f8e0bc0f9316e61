// SPDX-License-Identifier: MIT
// Events of every kind, made as the daemon makes them.
#pragma once

#include "event/FloodGuard.h"

#include <netinet/in.h>
#include <string>
#include <vector>

namespace event_samples {

using btblock::event::Event;
using btblock::event::EventType;
using btblock::event::FloodGuard;

inline constexpr std::uint64_t moment = 1'763'870'706'000'007'000; // 2025-11-23 04:05:06.000007 UTC

inline bt_event record(unsigned kind, unsigned hook, unsigned action, std::uint32_t evidence, bool v6) {
    const auto address = [](const char* text) { return btblock::net::Address::parse(text)->raw(); };
    bt_event made{};
    made.time_ns = 5'000;
    made.ifindex = 7;
    made.evidence = evidence;
    made.tuple.src = address(v6 ? "fd77::2" : "10.8.0.2");
    made.tuple.dst = address(v6 ? "2001:db8::7" : "192.0.2.7");
    made.tuple.sport = 51413;
    made.tuple.dport = 6881;
    made.tuple.proto = hook == BT_HOOK_QUEUE ? IPPROTO_TCP : IPPROTO_UDP;
    made.kind = static_cast<bt_u8>(kind);
    made.hook = static_cast<bt_u8>(hook);
    made.action = static_cast<bt_u8>(action);
    made.client_is = v6 ? 2 : 1;
    return made;
}

inline std::vector<Event> all() {
    std::vector<Event> events;
    const btblock::event::WallClock clock{static_cast<std::int64_t>(moment)};
    const auto names = [](unsigned) { return std::string("wg0"); };
    const auto add = [&](const bt_event& made) { events.push_back(from_kernel(made, clock, names)); };
    for (unsigned code = 0; code < BT_EV_COUNT; ++code)
        add(record(BT_K_DETECTION, BT_HOOK_INGRESS, BT_ACT_DROP, BT_EV_BIT(code), code % 2));
    for (const unsigned hook :
         {BT_HOOK_XDP, BT_HOOK_INGRESS, BT_HOOK_EGRESS, BT_HOOK_QUEUE, BT_HOOK_OUTPUT, BT_HOOK_OFFLINE})
        for (const unsigned action : {BT_ACT_PASS, BT_ACT_DROP, BT_ACT_PUNT}) {
            bt_event made =
                record(BT_K_DETECTION, hook, action, BT_EV_BIT(BT_EV_UTP_SYN) | BT_EV_BIT(BT_EV_UTP_PAIR), false);
            add(made);
            made.monitor = 1;
            made.client_is = 0;
            made.kind = BT_K_CONDEMN;
            add(made);
        }
    Event ban = events.front(); // by a detection
    ban.type = EventType::ban;
    ban.action = "ban";
    ban.target = "192.0.2.7";
    ban.ban_expires = moment + 3'600'000'000'000;
    events.push_back(ban);
    Event manual; // by an operator
    manual.type = EventType::ban;
    manual.time_ns = moment;
    manual.action = "ban";
    manual.mode = "enforce";
    manual.peer = *btblock::net::Address::parse("2001:db8:1:2::");
    manual.target = "2001:db8:1:2::/64";
    manual.ban_expires = btblock::never;
    manual.message = "complaint 17, \"quoted\"";
    events.push_back(manual);
    manual.type = EventType::unban;
    manual.action = "unban";
    manual.ban_expires.reset();
    manual.message = "expired";
    events.push_back(manual);
    Event health;
    health.type = EventType::health;
    health.time_ns = moment;
    health.mode = "monitor";
    health.message = "a queue worker does not answer \xff";
    events.push_back(health);
    FloodGuard guard;
    const Event like = events.front();
    for (unsigned i = 0; i < 1000; ++i)
        guard.pass(like);
    for (const Event& event : guard.next_second(moment))
        events.push_back(event);
    return events;
}

} // namespace event_samples
