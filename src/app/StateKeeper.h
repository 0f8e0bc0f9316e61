// SPDX-License-Identifier: MIT
// StateKeeper: writes the state file soon after a change and at the end, in a thread of its own: with a million bans it
// takes longer than the daemon's lease may wait.
#pragma once

#include "bpf/Maps.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace btblock::app {

class StateKeeper {
public:
    // maps: not owned.
    StateKeeper(const bpf::Maps& maps, std::string state_dir);
    StateKeeper(const StateKeeper&) = delete;
    StateKeeper& operator=(const StateKeeper&) = delete;
    ~StateKeeper(); // writes once more

    // Something that is kept has changed.
    void changed();
    // From the next writing on only what the operator said is kept.
    void forget_automatic();

private:
    void work();
    void save();

    const bpf::Maps& maps_;
    std::string state_dir_;
    std::string complaint_; // the last one, so that a full disk is told once
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<bool> forget_automatic_{false};
    bool changed_ = false;  // under mutex_
    bool stopping_ = false; // under mutex_
    std::thread thread_;    // last: it uses the others
};

} // namespace btblock::app
