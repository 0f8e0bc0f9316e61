// SPDX-License-Identifier: MIT
// FloodGuard: of like detections within a second the first ones pass, and the rest become one event with their number.
#pragma once

#include "event/Event.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

namespace btblock::event {

class FloodGuard {
public:
    static constexpr std::uint64_t limit = 10;    // like events a second
    static constexpr std::size_t capacity = 4096; // kinds that are told apart within a second; more pass

    // Whether the event is to be told. Detections and condemned sockets are like each other when client, evidence and
    // action are the same; everything else passes.
    bool pass(const Event& event);
    // Call it each second: an event for every kind of which some did not pass.
    std::vector<Event> next_second(std::uint64_t now_ns);
    // Since the start.
    [[nodiscard]] std::uint64_t suppressed() const noexcept { return suppressed_; }

private:
    using Kind = std::tuple<EventType, std::optional<net::Address>, std::uint32_t, std::string>;

    std::map<Kind, std::uint64_t> seen_;
    std::uint64_t suppressed_ = 0;
};

} // namespace btblock::event
