// SPDX-License-Identifier: MIT
// LogSink: events as lines of the program's own log.
#pragma once

#include "event/Sink.h"

namespace btblock::event {

// Through spdlog's default logger: health as warnings, the rest as info.
class LogSink : public Sink {
public:
    void write(const Event& event) override;
};

} // namespace btblock::event
