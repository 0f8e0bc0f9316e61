// SPDX-License-Identifier: MIT
#include "metrics/TextFile.h"

#include "core/Fd.h"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace btblock::metrics {

Result<void> write_text_file(const std::string& path, const std::string& text) {
    const std::string draft = path + ".new"; // the collector reads *.prom only
    unlink(draft.c_str());
    const Fd file(open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    if (!file)
        return errno_error("metrics.file: " + draft);
    errno = ENOSPC; // what a short write means
    const bool written = write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                         fchmod(file.get(), 0644) == 0 && // whatever the umask is
                         rename(draft.c_str(), path.c_str()) == 0;
    if (!written) {
        const Error failure = errno_error("metrics.file: " + path);
        unlink(draft.c_str());
        return failure;
    }
    return {};
}

} // namespace btblock::metrics
