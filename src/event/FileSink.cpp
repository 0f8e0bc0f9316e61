// SPDX-License-Identifier: MIT
#include "event/FileSink.h"

#include <utility>

namespace btblock::event {
namespace {

std::string format_line(const Event& event, FileFormat format) {
    switch (format) {
    case FileFormat::json: return to_json_line(event);
    case FileFormat::ecs: return to_ecs_line(event);
    case FileFormat::human: return to_human(event);
    }
    return {};
}

} // namespace

std::optional<FileFormat> parse_file_format(std::string_view name) noexcept {
    if (name == "json" || name == "eve")
        return FileFormat::json;
    if (name == "ecs")
        return FileFormat::ecs;
    if (name == "human" || name == "text")
        return FileFormat::human;
    return std::nullopt;
}

Result<std::unique_ptr<FileSink>> FileSink::open(std::string path, FileFormat format, mode_t mode) {
    auto file = AppendFile::open(std::move(path), {.what = "event file", .mode = mode});
    if (!file)
        return file.error();
    return std::unique_ptr<FileSink>(new FileSink(std::move(*file), format));
}

void FileSink::write(const Event& event) {
    file_.append(format_line(event, format_) + '\n');
}

} // namespace btblock::event
