// SPDX-License-Identifier: MIT
// FileSink: events as lines at the end of a file.
#pragma once

#include "core/Fd.h"
#include "core/Result.h"
#include "event/Sink.h"

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <sys/types.h>

namespace btblock::event {

enum class FileFormat { json, ecs, human };

// "json" (or "eve"), "ecs", "human" (or "text")
std::optional<FileFormat> parse_file_format(std::string_view name) noexcept;

class FileSink : public Sink {
public:
    // Creates the file with exactly `mode`; the mode of an existing file is left alone. Its directory must exist.
    // A FIFO needs SIGPIPE to be ignored or blocked, as it is in the bus's thread.
    static Result<std::unique_ptr<FileSink>> open(std::string path, FileFormat format = FileFormat::json,
                                                  mode_t mode = 0600);

    void write(const Event& event) override;
    // Keeps the old file when the new one cannot be opened.
    void reopen() override;
    [[nodiscard]] std::uint64_t failed() const noexcept override { return failed_.load(std::memory_order_relaxed); }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }

private:
    FileSink(std::string path, FileFormat format, mode_t mode, Fd fd);

    std::string path_;
    FileFormat format_;
    mode_t mode_;
    Fd fd_;
    bool failing_ = false; // told already
    bool torn_ = false;    // the file ends within a line
    std::atomic<std::uint64_t> failed_{0};
};

} // namespace btblock::event
