// SPDX-License-Identifier: MIT
// Listener: answers GET /metrics over HTTP, in the caller's own event loop.
#pragma once

#include "core/Fd.h"
#include "core/Result.h"

#include <functional>
#include <memory>
#include <string>

struct MHD_Daemon;

namespace btblock::metrics {

class Listener {
public:
    // address: "127.0.0.1:9478" or "[::1]:9478". `text` makes the body of an answer, in process().
    static Result<std::unique_ptr<Listener>> open(const std::string& address, std::function<std::string()> text);
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;
    ~Listener() = default;

    // Readable when process() has something to do.
    [[nodiscard]] int fd() const noexcept;
    // Never blocks. Also to be called now and then, so that connections which say nothing are closed.
    void process() noexcept;
    [[nodiscard]] const std::function<std::string()>& text() const noexcept { return text_; }

private:
    struct Stop {
        void operator()(MHD_Daemon* daemon) const noexcept;
    };
    explicit Listener(std::function<std::string()> text) : text_(std::move(text)) {}

    std::function<std::string()> text_;
    std::unique_ptr<MHD_Daemon, Stop> daemon_;
};

} // namespace btblock::metrics
