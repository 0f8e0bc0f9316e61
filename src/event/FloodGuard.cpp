// SPDX-License-Identifier: MIT
#include "event/FloodGuard.h"

#include <utility>

#include <spdlog/fmt/fmt.h>

namespace btblock::event {

bool FloodGuard::pass(const Event& event) {
    if (event.type != EventType::detection && event.type != EventType::condemn)
        return true;
    const Kind kind{event.type, event.client ? event.client : event.src, event.evidence, event.action};
    auto seen = seen_.find(kind);
    if (seen == seen_.end()) {
        if (seen_.size() >= capacity)
            return true;
        seen = seen_.emplace(kind, 0).first;
    }
    if (++seen->second <= limit)
        return true;
    ++suppressed_;
    return false;
}

std::vector<Event> FloodGuard::next_second(std::uint64_t now_ns) {
    std::vector<Event> told;
    for (const auto& [kind, count] : std::exchange(seen_, {})) {
        if (count <= limit)
            continue;
        Event event;
        event.type = EventType::suppressed;
        event.time_ns = now_ns;
        event.client = std::get<1>(kind);
        event.evidence = std::get<2>(kind);
        event.action = std::get<3>(kind);
        event.count = count - limit;
        event.message = fmt::format("{} more events of the type {}", event.count, type_name(std::get<0>(kind)));
        told.push_back(std::move(event));
    }
    return told;
}

} // namespace btblock::event
