// SPDX-License-Identifier: MIT
#include "app/Lease.h"

#include "core/Clock.h"

#include <chrono>
#include <spdlog/spdlog.h>

namespace btblock::app {

Lease::Lease(const bpf::Maps& maps, bool fail_open, std::function<bool()> healthy)
    : maps_(maps), fail_open_(fail_open), is_healthy_(std::move(healthy)), thread_([this] { work(); }) {}

// NOLINTNEXTLINE(bugprone-exception-escape): a lock or join that fails is a programming error
Lease::~Lease() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
    write(0);
}

void Lease::work() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        const bool healthy = is_healthy_();
        healthy_now_.store(healthy, std::memory_order_relaxed);
        if (!fail_open_)
            write(~0ULL);
        else if (healthy)
            write(monotonic_ns() + holds_ns);
        wake_.wait_for(lock, std::chrono::milliseconds(250), [this] { return stopping_; });
    }
}

void Lease::write(std::uint64_t until_ns) {
    auto settings = maps_.read_config();
    if (settings) {
        settings->lease_until_ns = until_ns;
        if (maps_.write_config(*settings))
            return;
    }
    spdlog::warn("the lease cannot be renewed");
}

Result<void> Lease::change_settings(bt_config settings) {
    const std::lock_guard lock(mutex_);
    auto before = maps_.read_config();
    if (!before)
        return before.error();
    settings.lease_until_ns = before->lease_until_ns;
    return maps_.write_config(settings);
}

} // namespace btblock::app
