// SPDX-License-Identifier: MIT
#include "app/Progress.h"

#include "app/Render.h"

#include <ostream>

#include <spdlog/fmt/fmt.h>

namespace btblock::app {

Progress::Progress(std::ostream& out, bool wanted, Clock::time_point now)
    : out_(out), wanted_(wanted), start_(now), next_(now + patience) {}

void Progress::show(const std::string& what, std::uint64_t packets, Clock::time_point now) {
    if (!wanted_ || now < next_)
        return;
    next_ = now + step;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now - start_).count();
    constexpr std::size_t room = 40; // so that the line stays within 80 columns
    const std::string name = what.size() > room ? "..." + what.substr(what.size() - (room - 3)) : what;
    out_ << fmt::format("\r{}: {}, {} s\x1b[K", name, counted(packets, "packet", "packets"), seconds) << std::flush;
    shown_ = true;
}

void Progress::clear() {
    if (shown_)
        out_ << "\r\x1b[K" << std::flush;
    shown_ = false;
}

} // namespace btblock::app
