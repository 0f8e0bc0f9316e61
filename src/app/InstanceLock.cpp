// SPDX-License-Identifier: MIT
#include "app/InstanceLock.h"

#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <unistd.h>

namespace btblock::app {

namespace {

std::string lock_path(const std::string& run_dir) {
    return run_dir + "/lock";
}

int written_pid(int fd) {
    char text[16] = "";
    const ssize_t length = pread(fd, text, sizeof text - 1, 0);
    return length > 0 ? std::atoi(text) : 0;
}

} // namespace

Result<Fd> lock_instance(const std::string& instance, const std::string& run_dir) {
    std::error_code failed;
    std::filesystem::create_directories(run_dir, failed);
    if (failed)
        return error(run_dir + ": " + failed.message());
    Fd fd(open(lock_path(run_dir).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd)
        return errno_error(lock_path(run_dir));
    if (flock(fd.get(), LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return errno_error(lock_path(run_dir));
        return error("instance '" + instance + "' is already running (pid " + std::to_string(written_pid(fd.get())) +
                         "); stop it first, or choose another name with --instance",
                     ExitCode::refused);
    }
    const std::string pid = std::to_string(getpid()) + "\n";
    if (ftruncate(fd.get(), 0) < 0 || pwrite(fd.get(), pid.data(), pid.size(), 0) < 0)
        return errno_error(lock_path(run_dir));
    return fd;
}

int lock_holder(const std::string& run_dir) {
    const Fd fd(open(lock_path(run_dir).c_str(), O_RDWR | O_CLOEXEC));
    if (!fd || flock(fd.get(), LOCK_EX | LOCK_NB) == 0)
        return 0;
    return written_pid(fd.get());
}

} // namespace btblock::app
