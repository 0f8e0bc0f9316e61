// SPDX-License-Identifier: MIT
#include "event/FileSink.h"

#include <cerrno>

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

namespace btblock::event {
namespace {

Result<Fd> open_for_append(const std::string& path, mode_t mode) {
    // Non-blocking matters for a FIFO only: nobody reading must not stop the events.
    constexpr int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    // Twice, for the file may vanish between the two calls.
    for (int attempt = 0; attempt < 2; ++attempt) {
        if (Fd created(::open(path.c_str(), flags | O_CREAT | O_EXCL, mode)); created) {
            fchmod(created.get(), mode); // what the umask took
            return created;
        }
        if (errno != EEXIST)
            break;
        if (Fd existing(::open(path.c_str(), flags)); existing)
            return existing;
        if (errno != ENOENT)
            break;
    }
    return errno_error("cannot open event file '" + path + "'");
}

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

FileSink::FileSink(std::string path, FileFormat format, mode_t mode, Fd fd)
    : path_(std::move(path)), format_(format), mode_(mode), fd_(std::move(fd)) {}

Result<std::unique_ptr<FileSink>> FileSink::open(std::string path, FileFormat format, mode_t mode) {
    auto fd = open_for_append(path, mode);
    if (!fd)
        return fd.error();
    return std::unique_ptr<FileSink>(new FileSink(std::move(path), format, mode, std::move(*fd)));
}

void FileSink::write(const Event& event) {
    std::string text = format_line(event, format_) + '\n';
    if (torn_)
        text.insert(text.begin(), '\n');
    // One call for each line: other writers to the same file cannot come in between.
    ssize_t written;
    do
        written = ::write(fd_.get(), text.data(), text.size());
    while (written < 0 && errno == EINTR);
    if (written == static_cast<ssize_t>(text.size())) {
        torn_ = false;
        if (failing_)
            spdlog::info("event file '{}' can be written again; {} events are missing from it", path_, failed());
        failing_ = false;
        return;
    }
    const int err = written < 0 ? errno : ENOSPC;
    if (written > 0)
        torn_ = text[static_cast<std::size_t>(written) - 1] != '\n';
    failed_.fetch_add(1, std::memory_order_relaxed);
    if (!failing_)
        spdlog::error("cannot write event file '{}': {}; events are lost until this is mended", path_,
                      std::generic_category().message(err));
    failing_ = true;
}

void FileSink::reopen() {
    auto fd = open_for_append(path_, mode_);
    if (!fd) {
        spdlog::error("{}; writing goes on in the old file", fd.error().message);
        return;
    }
    fd_ = std::move(*fd);
    torn_ = false;
}

} // namespace btblock::event
