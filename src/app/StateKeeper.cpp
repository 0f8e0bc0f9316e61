// SPDX-License-Identifier: MIT
#include "app/StateKeeper.h"

#include "app/StateFile.h"
#include "core/Clock.h"

#include <chrono>
#include <spdlog/spdlog.h>

namespace btblock::app {

namespace {

using std::chrono::steady_clock;

constexpr auto settle = std::chrono::seconds(1); // changes come in bursts
constexpr int idle_share = 10;                   // at most one part in so many of the time goes into writing

} // namespace

StateKeeper::StateKeeper(const bpf::Maps& maps, std::string state_dir)
    : maps_(maps), state_dir_(std::move(state_dir)), thread_([this] { work(); }) {}

StateKeeper::~StateKeeper() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
    save(); // always: the kernel counts hits without telling
}

void StateKeeper::forget_automatic() {
    forget_automatic_ = true;
}

void StateKeeper::changed() {
    {
        const std::lock_guard lock(mutex_);
        changed_ = true;
    }
    wake_.notify_one();
}

void StateKeeper::work() {
    std::unique_lock lock(mutex_);
    while (true) {
        wake_.wait(lock, [this] { return changed_ || stopping_; });
        if (stopping_ || wake_.wait_for(lock, settle, [this] { return stopping_; }))
            return;
        changed_ = false;
        lock.unlock();
        const auto before = steady_clock::now();
        save();
        const auto pause = (steady_clock::now() - before) * idle_share;
        lock.lock();
        if (wake_.wait_for(lock, pause, [this] { return stopping_; }))
            return;
    }
}

void StateKeeper::save() {
    auto state = read_state(maps_, monotonic_ns());
    if (state && forget_automatic_)
        keep_manual_bans(*state);
    const auto saved = state ? save_state(*state, state_dir_) : Result<void>(state.error());
    const std::string complaint = saved ? "" : saved.error().message;
    if (!complaint.empty() && complaint != complaint_)
        spdlog::warn("bans are not kept for the next start: {}", complaint);
    complaint_ = complaint;
}

} // namespace btblock::app
