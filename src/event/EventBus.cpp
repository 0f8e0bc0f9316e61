// SPDX-License-Identifier: MIT
#include "event/EventBus.h"

#include <csignal>
#include <utility>

#include <spdlog/spdlog.h>
#include <sys/prctl.h>

namespace btblock::event {

EventBus::EventBus(std::vector<std::unique_ptr<Sink>> sinks) : sinks_(std::move(sinks)) {
    // The new thread inherits this mask: signals stay with the thread that waits for them.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        thread_ = std::thread([this] { run(); });
    } catch (const std::system_error& e) {
        spdlog::error("no thread for the event sinks ({}): events are kept, but not written", e.what());
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

EventBus::~EventBus() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable())
        thread_.join();
}

void EventBus::publish(Event event, PacketStart packet) {
    {
        const std::lock_guard lock(mutex_);
        ++totals_.published;
        if (pending_.size() < backlog)
            pending_.push_back({event, std::move(packet)});
        else
            ++totals_.lost;
        recent_.push_back({totals_.published, std::move(event)});
        if (recent_.size() > kept)
            recent_.pop_front();
    }
    wake_.notify_one();
}

void EventBus::reopen() {
    {
        const std::lock_guard lock(mutex_);
        ++reopen_asked_;
    }
    wake_.notify_one();
}

void EventBus::flush() {
    std::unique_lock lock(mutex_);
    if (!thread_.joinable())
        return;
    idle_.wait(lock, [this] { return pending_.empty() && reopen_done_ == reopen_asked_ && !busy_; });
}

std::vector<EventBus::Numbered> EventBus::since(std::uint64_t number) const {
    const std::lock_guard lock(mutex_);
    std::vector<Numbered> events;
    for (const Numbered& entry : recent_)
        if (entry.number > number)
            events.push_back(entry);
    return events;
}

EventBus::Totals EventBus::totals() const {
    Totals totals;
    {
        const std::lock_guard lock(mutex_);
        totals = totals_;
    }
    for (const auto& sink : sinks_)
        totals.failed += sink->failed();
    return totals;
}

void EventBus::run() noexcept {
    prctl(PR_SET_NAME, "btblock-events");
    std::unique_lock lock(mutex_);
    for (;;) {
        wake_.wait(lock, [this] { return stopping_ || !pending_.empty() || reopen_done_ != reopen_asked_; });
        if (pending_.empty() && reopen_done_ == reopen_asked_)
            return;
        const std::deque<Pending> batch = std::exchange(pending_, {});
        const std::uint64_t asked = reopen_asked_;
        const bool reopen = reopen_done_ != asked;
        busy_ = true;
        lock.unlock();
        const auto guarded = [](const auto& step) {
            try {
                step();
            } catch (const std::exception& e) {
                spdlog::error("event sink: {}", e.what());
            }
        };
        for (const auto& sink : sinks_) {
            for (const Pending& one : batch)
                guarded([&] { sink->write_packet(one.event, one.packet); });
            if (reopen)
                guarded([&] { sink->reopen(); });
        }
        lock.lock();
        busy_ = false;
        reopen_done_ = asked;
        if (pending_.empty() && reopen_done_ == reopen_asked_)
            idle_.notify_all();
    }
}

} // namespace btblock::event
