// SPDX-License-Identifier: MIT
// Progress: a line on a terminal that says how far a long work is, and is gone when it ends.
#pragma once

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <string>

namespace btblock::app {

class Progress {
public:
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::milliseconds patience{1000}; // shorter work shows nothing
    static constexpr std::chrono::milliseconds step{200};

    // Shows nothing at all unless `wanted`.
    Progress(std::ostream& out, bool wanted, Clock::time_point now = Clock::now());
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;
    ~Progress() { clear(); }

    [[nodiscard]] bool wanted() const noexcept { return wanted_; }
    void show(const std::string& what, std::uint64_t packets, Clock::time_point now = Clock::now());
    // Before anything else is written to the terminal.
    void clear();

private:
    std::ostream& out_;
    bool wanted_;
    bool shown_ = false;
    Clock::time_point start_, next_;
};

} // namespace btblock::app
