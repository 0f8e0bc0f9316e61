// SPDX-License-Identifier: MIT
#include "app/Watch.h"

#include "app/Render.h"

#include <cerrno>
#include <charconv>
#include <csignal>

namespace btblock::app {

namespace {

constexpr double least = 0.1, most = 86400;

// Signals that end a watch wait until they are asked for, so that none is lost while something is shown.
class HeldSignals {
public:
    HeldSignals() {
        sigemptyset(&set_);
        sigaddset(&set_, SIGINT);
        sigaddset(&set_, SIGTERM);
        pthread_sigmask(SIG_BLOCK, &set_, &before_);
    }
    HeldSignals(const HeldSignals&) = delete;
    HeldSignals& operator=(const HeldSignals&) = delete;
    ~HeldSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

    // True when one came within the time.
    [[nodiscard]] bool wait(double seconds) const {
        timespec left{};
        left.tv_sec = static_cast<time_t>(seconds);
        left.tv_nsec = static_cast<long>((seconds - static_cast<double>(left.tv_sec)) * 1e9);
        return sigtimedwait(&set_, nullptr, &left) > 0;
    }

private:
    sigset_t set_{}, before_{};
};

// Each line clears what is left of the older one; so nothing flickers.
std::string redrawn(const std::string& text) {
    std::string out = "\x1b[H";
    for (const char c : text)
        out += c == '\n' ? std::string("\x1b[K\n") : std::string(1, c);
    return out + "\x1b[J";
}

} // namespace

Result<double> parse_interval(const std::string& text) {
    double seconds = 0;
    const char* end = text.data() + text.size();
    const auto [after, failed] = std::from_chars(text.data(), end, seconds);
    if (failed != std::errc{} || after != end || !(seconds >= least && seconds <= most))
        return error("--watch: '" + printable(text) + "' is not a number of seconds from 0.1 to 86400",
                     ExitCode::usage);
    return seconds;
}

int watch(Io& io, double seconds, std::string_view between, const std::function<Result<std::string>()>& show) {
    const HeldSignals signals;
    for (bool first = true;; first = false) {
        const auto text = show();
        if (!text && first)
            return fail(io, text.error());
        const std::string shown = text ? *text : "btblock: " + text.error().message + "\n";
        if (io.screen.terminal)
            io.out << (first ? "\x1b[2J" : "") << redrawn(shown);
        else
            io.out << (first ? "" : between) << shown;
        if (!io.out.flush() || signals.wait(seconds))
            return 0;
    }
}

} // namespace btblock::app
