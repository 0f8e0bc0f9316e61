// SPDX-License-Identifier: MIT
// Sink: a place where events go.
#pragma once

#include "event/Event.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace btblock::event {

// The payload of the packet that decided, for the detection log alone: no event holds any of it.
struct PacketStart {
    static constexpr std::size_t most = 512; // bytes that are kept

    std::size_t size = 0;            // of the whole payload
    std::vector<std::uint8_t> bytes; // its beginning; empty where user space has not seen the packet
};

// Called from one thread at a time (the bus's). A failure is the sink's own matter: told once, counted, never fatal.
class Sink {
public:
    Sink() = default;
    Sink(const Sink&) = delete;
    Sink& operator=(const Sink&) = delete;
    virtual ~Sink() = default;

    virtual void write(const Event& event) = 0;
    virtual void write_packet(const Event& event, const PacketStart&) { write(event); }
    // The outside world has moved on (log rotation): open anew what is held open.
    virtual void reopen() {}
    // Events that this sink could not deliver. Any thread.
    [[nodiscard]] virtual std::uint64_t failed() const noexcept { return 0; }
};

} // namespace btblock::event
