// SPDX-License-Identifier: MIT
// FileSink: events as lines at the end of a file.
#pragma once

#include "event/AppendFile.h"
#include "event/Sink.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace btblock::event {

enum class FileFormat { json, ecs, human };

// "json" (or "eve"), "ecs", "human" (or "text")
std::optional<FileFormat> parse_file_format(std::string_view name) noexcept;

class FileSink : public Sink {
public:
    // Creates the file with exactly `mode`; the mode of an existing file is left alone.
    static Result<std::unique_ptr<FileSink>> open(std::string path, FileFormat format = FileFormat::json,
                                                  mode_t mode = 0600);

    void write(const Event& event) override;
    void reopen() override { file_.reopen(); }
    [[nodiscard]] std::uint64_t failed() const noexcept override { return file_.failed(); }
    [[nodiscard]] const std::string& path() const noexcept { return file_.path(); }

private:
    FileSink(AppendFile file, FileFormat format) : file_(std::move(file)), format_(format) {}

    AppendFile file_;
    FileFormat format_;
};

} // namespace btblock::event
