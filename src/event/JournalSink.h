// SPDX-License-Identifier: MIT
// JournalSink: events as structured entries of the systemd journal.
#pragma once

#include "core/Result.h"
#include "event/Sink.h"

#include <atomic>
#include <memory>
#include <string>
#include <vector>

namespace btblock::event {

// "NAME=value" for each field that the event has: MESSAGE, PRIORITY, SYSLOG_IDENTIFIER and BTBLOCK_*.
std::vector<std::string> journal_fields(const Event& event);

class JournalSink : public Sink {
public:
    // An error where no journal listens: libsystemd would discard every entry and call it a success.
    static Result<std::unique_ptr<JournalSink>> open();

    void write(const Event& event) override;
    [[nodiscard]] std::uint64_t failed() const noexcept override { return failed_.load(std::memory_order_relaxed); }

private:
    JournalSink() = default;

    bool failing_ = false; // told already
    std::atomic<std::uint64_t> failed_{0};
};

} // namespace btblock::event
