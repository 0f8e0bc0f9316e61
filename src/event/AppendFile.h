// SPDX-License-Identifier: MIT
// AppendFile: a log file that others rotate. A failure is told once, counted, and never fatal.
#pragma once

#include "core/Fd.h"
#include "core/Result.h"

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include <sys/types.h>

namespace btblock::event {

struct AppendFileOptions {
    std::string what = "event file"; // what messages call it
    mode_t mode = 0600;              // of a file that is created; an existing one keeps its mode, unless
    bool secret = false;             // it holds what only its owner may read: then no symbolic link either
};

class AppendFile {
public:
    // Its directory must exist. A FIFO needs SIGPIPE to be ignored or blocked, as it is in the bus's thread.
    static Result<AppendFile> open(std::string path, AppendFileOptions options);
    AppendFile(AppendFile&& other) noexcept;

    // In one call, so that other writers to the same file cannot come in between. The text ends with a newline.
    void append(std::string text);
    // Keeps the old file when the new one cannot be opened.
    void reopen();
    // Any thread.
    [[nodiscard]] std::uint64_t failed() const noexcept { return failed_.load(std::memory_order_relaxed); }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }

private:
    AppendFile(std::string path, AppendFileOptions options, Fd fd);

    std::string path_;
    AppendFileOptions options_;
    Fd fd_;
    bool failing_ = false; // told already
    bool torn_ = false;    // the file ends within a line
    std::atomic<std::uint64_t> failed_{0};
};

} // namespace btblock::event
