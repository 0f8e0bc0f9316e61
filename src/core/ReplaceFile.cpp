// SPDX-License-Identifier: MIT
#include "core/ReplaceFile.h"

#include "core/Fd.h"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace btblock {

namespace {

Result<void> write_all(int fd, std::string_view text, const std::string& path) {
    while (!text.empty()) {
        const ssize_t written = write(fd, text.data(), text.size());
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return errno_error(path);
        text.remove_prefix(static_cast<std::size_t>(written));
    }
    return {};
}

Result<void> write_draft(const std::string& draft, const std::string& path, std::string_view text, mode_t mode,
                         Durable durable) {
    const Fd file(open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
    if (!file)
        return errno_error(draft);
    if (auto written = write_all(file.get(), text, draft); !written)
        return written;
    if (fchmod(file.get(), mode) < 0 || (durable == Durable::yes && fsync(file.get()) < 0) ||
        rename(draft.c_str(), path.c_str()) < 0)
        return errno_error(draft);
    return {};
}

} // namespace

Result<void> replace_file(const std::string& path, std::string_view text, mode_t mode, Durable durable) {
    const std::string draft = path + "." + std::to_string(getpid()) + ".new";
    unlink(draft.c_str()); // of an earlier process with this number
    if (auto written = write_draft(draft, path, text, mode, durable); !written) {
        unlink(draft.c_str());
        return written;
    }
    if (durable == Durable::no)
        return {};
    const std::string parent = path.substr(0, path.rfind('/') + 1);
    const Fd dir(open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!dir || fsync(dir.get()) < 0)
        return errno_error(parent);
    return {};
}

} // namespace btblock
