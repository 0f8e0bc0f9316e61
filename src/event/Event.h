// SPDX-License-Identifier: MIT
// Event: what the gateway tells people and SIEMs. It has no place for payload, info-hashes or peer ids.
#pragma once

#include "btblock/abi.h"
#include "core/Clock.h"
#include "net/Address.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace btblock::event {

enum class EventType { detection, ban, unban, condemn, health, suppressed };

inline constexpr int event_schema = 1;

// Times are wall-clock nanoseconds since the epoch; ports are in host byte order. What is unknown stays empty or zero
// and is left out of the output.
struct Event {
    EventType type = EventType::detection;
    std::uint64_t time_ns = 0;

    // The packet that decided, as it went by. Empty for an operator's ban and for health.
    std::optional<net::Address> src, dst;
    std::uint16_t src_port = 0, dst_port = 0;
    std::uint8_t proto = 0; // IPPROTO_TCP, IPPROTO_UDP
    std::string in_iface;

    std::uint32_t evidence = 0;               // mask of 1 << enum bt_evidence
    std::string action;                       // detection, condemn: "drop", "pass", "punt"; others: "ban", "unban"
    std::optional<net::Address> client, peer; // the inside end and the outside end
    std::optional<std::uint64_t> ban_expires; // ban, condemn; `never`: no end
    std::string hook;                         // "xdp", "ingress", "egress", "queue", "output", "offline"
    std::string mode;                         // "enforce", "monitor"
    std::string target;                       // ban, unban: what is banned, as text (address, prefix or endpoint)
    std::uint64_t count = 0;                  // suppressed: how many events are not told one by one
    std::string message;                      // health, suppressed: what happened; ban, unban: the operator's comment
};

// Maps CLOCK_MONOTONIC to the wall clock, as both stand when it is made.
struct WallClock {
    std::int64_t offset_ns = 0;

    static WallClock now() noexcept;
    [[nodiscard]] std::uint64_t at(std::uint64_t monotonic_ns) const noexcept;
};

// The name of an interface; empty if there is none by this number (any more).
using InterfaceName = std::function<std::string(unsigned ifindex)>;

// The event for a record of the ring buffer. A drop that monitor mode only counted is told as "pass".
Event from_kernel(const bt_event& record, const WallClock& clock, const InterfaceName& interface_name);

std::string_view type_name(EventType type) noexcept;
std::string_view hook_name(unsigned hook) noexcept;     // of enum bt_hook; "unknown" for others
std::string_view action_name(unsigned action) noexcept; // of enum bt_action; "unknown" for others
std::string_view proto_name(unsigned proto) noexcept;   // "TCP", "UDP" or ""

// Local time like "2025-11-23T04:05:06.000007+0100".
std::string timestamp(std::uint64_t time_ns);

// Local time like "2025-11-23 04:05:06.000".
std::string log_time(std::uint64_t time_ns);

// The shape of Suricata's EVE.
nlohmann::ordered_json to_json(const Event& event);
// The shape of the Elastic Common Schema.
nlohmann::ordered_json to_ecs(const Event& event);
// One line without the newline; bytes that are not UTF-8 are replaced.
std::string to_json_line(const Event& event);
std::string to_ecs_line(const Event& event);

// "dropped dht.query: 10.8.0.2:51413 -> 192.0.2.7:6881 UDP on wg0"; client on the left, the arrow points to where the
// packet went. Never more than one line, never a control character.
std::string describe(const Event& event);
// The same after the local time.
std::string to_human(const Event& event);

} // namespace btblock::event
