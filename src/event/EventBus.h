// SPDX-License-Identifier: MIT
// EventBus: takes events from any thread, keeps the last ones, and hands them to the sinks from a thread of its own, so
// that a stalled disk never holds up a packet.
#pragma once

#include "event/Event.h"
#include "event/Sink.h"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace btblock::event {

class EventBus {
public:
    static constexpr std::size_t kept = 256;     // for `btblock events`
    static constexpr std::size_t backlog = 8192; // waiting for the sinks; beyond this events are lost and counted

    // Starts the writer thread, which takes no signals.
    explicit EventBus(std::vector<std::unique_ptr<Sink>> sinks);
    EventBus(const EventBus&) = delete;
    EventBus& operator=(const EventBus&) = delete;
    ~EventBus(); // writes what waits, then ends the thread

    // Any thread; never blocks on a sink.
    void publish(Event event, PacketStart packet = {});
    // Lets the writer thread reopen the sinks (SIGHUP, log rotation), after what was published before.
    void reopen();
    // Waits until everything published or asked for before has reached the sinks.
    void flush();

    struct Numbered {
        std::uint64_t number; // 1, 2, 3, ... in the order of publishing
        Event event;
    };
    // Those of the last `kept` events whose number is greater, oldest first. 0 gives all.
    [[nodiscard]] std::vector<Numbered> since(std::uint64_t number) const;

    struct Totals {
        std::uint64_t published = 0;
        std::uint64_t lost = 0;   // the backlog was full
        std::uint64_t failed = 0; // sum over the sinks
    };
    [[nodiscard]] Totals totals() const;

private:
    struct Pending {
        Event event;
        PacketStart packet;
    };
    void run() noexcept;

    const std::vector<std::unique_ptr<Sink>> sinks_;
    mutable std::mutex mutex_; // all below
    std::condition_variable wake_, idle_;
    std::deque<Numbered> recent_;
    std::deque<Pending> pending_;
    Totals totals_;
    std::uint64_t reopen_asked_ = 0, reopen_done_ = 0;
    bool busy_ = false, stopping_ = false;
    std::thread thread_;
};

} // namespace btblock::event
