// SPDX-License-Identifier: MIT
#include "core/Log.h"

#include <cstdlib>
#include <memory>
#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

namespace btblock {

namespace {

spdlog::level::level_enum spdlog_level(LogLevel level) {
    switch (level) {
    case LogLevel::trace: return spdlog::level::trace;
    case LogLevel::debug: return spdlog::level::debug;
    case LogLevel::info: return spdlog::level::info;
    case LogLevel::warn: return spdlog::level::warn;
    case LogLevel::error: return spdlog::level::err;
    case LogLevel::off: break;
    }
    return spdlog::level::off;
}

// systemd names the stream it connected as "device:inode"; a redirected stderr is another one.
bool stderr_is_journal() {
    const char* stream = std::getenv("JOURNAL_STREAM");
    struct stat info {};
    return stream && fstat(STDERR_FILENO, &info) == 0 &&
           stream == std::to_string(info.st_dev) + ":" + std::to_string(info.st_ino);
}

} // namespace

void setup_log(LogLevel level) {
    std::shared_ptr<spdlog::logger> logger;
    const char* pattern = "%Y-%m-%dT%H:%M:%S%z %l: %v";
    if (isatty(STDERR_FILENO) == 1) {
        logger = std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::ansicolor_stderr_sink_mt>());
        pattern = "%H:%M:%S %^%l%$: %v";
    } else {
        logger = std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::stderr_sink_mt>());
        if (stderr_is_journal())
            pattern = "%l: %v";
    }
    logger->set_pattern(pattern);
    logger->flush_on(spdlog::level::trace);
    spdlog::set_default_logger(std::move(logger));
    set_log_level(level);
}

void set_log_level(LogLevel level) {
    spdlog::set_level(spdlog_level(level));
}

} // namespace btblock
