// SPDX-License-Identifier: MIT
// Sink: a place where events go.
#pragma once

#include "event/Event.h"

#include <cstdint>

namespace btblock::event {

// Called from one thread at a time (the bus's). A failure is the sink's own matter: told once, counted, never fatal.
class Sink {
public:
    Sink() = default;
    Sink(const Sink&) = delete;
    Sink& operator=(const Sink&) = delete;
    virtual ~Sink() = default;

    virtual void write(const Event& event) = 0;
    // The outside world has moved on (log rotation): open anew what is held open.
    virtual void reopen() {}
    // Events that this sink could not deliver. Any thread.
    [[nodiscard]] virtual std::uint64_t failed() const noexcept { return 0; }
};

} // namespace btblock::event
