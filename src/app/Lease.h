// SPDX-License-Identifier: MIT
// Lease: tells the kernel programs, four times a second, that somebody takes care of the packets handed to user space.
// A thread of its own: what the daemon's loop does may take longer than the lease holds. When the process stops, dies
// or has a stuck queue worker, the lease ends and packets pass without it.
#pragma once

#include "bpf/Maps.h"

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace btblock::app {

class Lease {
public:
    // fail_open false: the lease never ends by itself, so that nothing passes unseen. maps: not owned.
    Lease(const bpf::Maps& maps, bool fail_open, std::function<bool()> healthy);
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease(); // ends it. NOLINT(bugprone-exception-escape)

    [[nodiscard]] bool healthy() const noexcept { return healthy_now_.load(std::memory_order_relaxed); }
    // Replaces everything in the kernel's settings but the lease.
    Result<void> change_settings(bt_config settings);

    static constexpr std::uint64_t holds_ns = BT_NSEC_PER_SEC;

private:
    void work();
    void write(std::uint64_t until_ns);

    const bpf::Maps& maps_;
    bool fail_open_;
    std::function<bool()> is_healthy_;
    std::atomic<bool> healthy_now_{true};
    std::mutex mutex_; // settings are read, changed and written back
    std::condition_variable wake_;
    bool stopping_ = false; // under mutex_
    std::thread thread_;    // last: it uses the others
};

} // namespace btblock::app
