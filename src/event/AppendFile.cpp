// SPDX-License-Identifier: MIT
#include "event/AppendFile.h"

#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

namespace btblock::event {
namespace {

// A file that was there before, perhaps the predecessor's, which everybody could read.
Result<void> keep_secret(const Fd& file, const std::string& name) {
    struct stat info {};
    if (fstat(file.get(), &info) != 0)
        return errno_error(name);
    if (S_ISREG(info.st_mode) && (info.st_mode & 077) != 0 && fchmod(file.get(), 0600) != 0)
        return error(name + ": others can read it, and its mode cannot be changed: " +
                     std::generic_category().message(errno) + "; make it 0600 or remove it");
    return {};
}

Result<Fd> open_for_append(const std::string& path, const AppendFileOptions& options) {
    const std::string name = options.what + " '" + path + "'";
    // Non-blocking matters for a FIFO only: nobody reading must not stop the events.
    const int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (options.secret ? O_NOFOLLOW : 0);
    // Twice, for the file may vanish between the two calls.
    for (int attempt = 0; attempt < 2; ++attempt) {
        if (Fd created(::open(path.c_str(), flags | O_CREAT | O_EXCL, options.mode)); created) {
            fchmod(created.get(), options.mode); // what the umask took
            return created;
        }
        if (errno != EEXIST)
            break;
        if (Fd existing(::open(path.c_str(), flags)); existing) {
            if (options.secret)
                if (auto kept = keep_secret(existing, name); !kept)
                    return kept.error();
            return existing;
        }
        if (errno == ELOOP && options.secret)
            return error("cannot open " + name +
                         ": it is a symbolic link, which is not followed; name the file itself");
        if (errno != ENOENT)
            break;
    }
    return errno_error("cannot open " + name);
}

} // namespace

AppendFile::AppendFile(std::string path, AppendFileOptions options, Fd fd)
    : path_(std::move(path)), options_(std::move(options)), fd_(std::move(fd)) {}

AppendFile::AppendFile(AppendFile&& other) noexcept
    : path_(std::move(other.path_)), options_(std::move(other.options_)), fd_(std::move(other.fd_)),
      failing_(other.failing_), torn_(other.torn_), failed_(other.failed()) {}

Result<AppendFile> AppendFile::open(std::string path, AppendFileOptions options) {
    auto fd = open_for_append(path, options);
    if (!fd)
        return fd.error();
    return AppendFile(std::move(path), std::move(options), std::move(*fd));
}

void AppendFile::append(std::string text) {
    if (torn_)
        text.insert(text.begin(), '\n');
    ssize_t written;
    do
        written = ::write(fd_.get(), text.data(), text.size());
    while (written < 0 && errno == EINTR);
    if (written == static_cast<ssize_t>(text.size())) {
        torn_ = false;
        if (failing_)
            spdlog::info("{} '{}' can be written again; {} events are missing from it", options_.what, path_, failed());
        failing_ = false;
        return;
    }
    const int err = written < 0 ? errno : ENOSPC;
    if (written > 0)
        torn_ = text[static_cast<std::size_t>(written) - 1] != '\n';
    failed_.fetch_add(1, std::memory_order_relaxed);
    if (!failing_)
        spdlog::error("cannot write {} '{}': {}; events are lost until this is mended", options_.what, path_,
                      std::generic_category().message(err));
    failing_ = true;
}

void AppendFile::reopen() {
    auto fd = open_for_append(path_, options_);
    if (!fd) {
        spdlog::error("{}; writing goes on in the old file", fd.error().message);
        return;
    }
    fd_ = std::move(*fd);
    torn_ = false;
}

} // namespace btblock::event
