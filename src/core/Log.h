// SPDX-License-Identifier: MIT
// Where the program's own messages go: standard error, by way of spdlog's default logger.
#pragma once

namespace btblock {

enum class LogLevel { trace, debug, info, warn, error, off };

// Coloured with the time of day on a terminal, plain with date elsewhere, without any time under the journal, which has
// its own. May be called again; the logger is flushed at every line.
void setup_log(LogLevel level);
void set_log_level(LogLevel level);

} // namespace btblock
