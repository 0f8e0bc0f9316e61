// SPDX-License-Identifier: MIT
// One daemon per instance: a lock on a file in its run-time directory, held as long as the process lives.
#pragma once

#include "core/Fd.h"
#include "core/Result.h"

#include <string>

namespace btblock::app {

// Takes the lock and writes the process id; ExitCode::refused names the process that holds it. Makes the directory.
Result<Fd> lock_instance(const std::string& instance, const std::string& run_dir);

// The process that holds the lock, or 0.
int lock_holder(const std::string& run_dir);

} // namespace btblock::app
