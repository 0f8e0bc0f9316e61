// SPDX-License-Identifier: MIT
#include "event/LogSink.h"

#include <spdlog/spdlog.h>

namespace btblock::event {

void LogSink::write(const Event& event) {
    spdlog::log(event.type == EventType::health ? spdlog::level::warn : spdlog::level::info, "{}", describe(event));
}

} // namespace btblock::event
