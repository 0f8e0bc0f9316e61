// SPDX-License-Identifier: MIT
// Worker: the thread of one queue. It asks a handler about each packet and gives the verdict.
#pragma once

#include "core/Fd.h"
#include "core/Result.h"
#include "queue/NfQueue.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <thread>

namespace btblock::queue {

struct QueuedPacket {
    std::span<const std::uint8_t> ip; // from the IP header on, perhaps cut to the copy range
    std::uint32_t mark = 0;
    unsigned in_ifindex = 0;
};

enum class QueueVerdict { accept, drop };

// Runs in the worker's thread. An exception lets the packet pass and counts as an error.
using QueueHandler = std::function<QueueVerdict(const QueuedPacket&)>;

// Since the start of the worker.
struct WorkerCounters {
    std::uint64_t received = 0;
    std::uint64_t accepted = 0;
    std::uint64_t dropped = 0;
    std::uint64_t errors = 0; // malformed messages, exceptions in the handler, verdicts that could not be sent
    std::uint64_t missed = 0; // queued but never delivered, for the socket was full: passed (fail-open) or dropped
};

class Worker {
public:
    // Starts the thread. Signals stay with the other threads. `punt_mark` is the bit that a verdict clears.
    static Result<std::unique_ptr<Worker>> start(NfQueue queue, std::uint32_t punt_mark, QueueHandler handler);

    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;
    ~Worker(); // stop()

    // Finishes what waits (for half a second at most), unbinds the queue, ends the thread. Idempotent; one thread.
    // Take the firewall rule away first: a rule without bypass drops what comes after.
    void stop();

    // False when the thread has ended, or has not come round within `stall_ns`, for instance in the handler.
    [[nodiscard]] bool healthy(std::uint64_t now_ns) const noexcept;
    // CLOCK_MONOTONIC time of the last loop turn.
    [[nodiscard]] std::uint64_t heartbeat_ns() const noexcept { return heartbeat_.load(std::memory_order_relaxed); }
    [[nodiscard]] WorkerCounters counters() const noexcept;
    [[nodiscard]] std::uint16_t number() const noexcept { return number_; }

    static constexpr int poll_ms = 500;
    static constexpr std::uint64_t stall_ns = 2'000'000'000;

private:
    Worker(NfQueue queue, Fd stop_event, std::uint32_t punt_mark, QueueHandler handler);
    void run() noexcept;
    bool drain(std::uint64_t deadline_ns) noexcept;
    bool take(std::uint64_t deadline_ns) noexcept;
    void release() noexcept;
    void answer(const Packet& packet, bool inspect) noexcept;
    void beat() noexcept;

    std::optional<NfQueue> queue_;
    Fd stop_event_;
    std::uint32_t punt_mark_;
    QueueHandler handler_;
    std::uint16_t number_;
    std::uint32_t last_id_ = 0;
    // Accepted, but the kernel does not know yet: as long as more packets wait, one message speaks for all of them.
    struct Accepted {
        std::uint32_t id;                  // the last one
        std::optional<std::uint32_t> mark; // of them all
        int count;
    };
    std::optional<Accepted> unsaid_;
    std::atomic<std::uint64_t> heartbeat_;
    std::atomic<bool> running_{true};
    std::atomic<std::uint64_t> received_{0}, accepted_{0}, dropped_{0}, errors_{0}, missed_{0};
    std::thread thread_;
};

} // namespace btblock::queue
