// SPDX-License-Identifier: MIT
// `btblock detach`: undo everything.
#pragma once

#include "core/Result.h"

#include <string>

namespace btblock::app {

struct Detached {
    int links = 0; // pinned links and filters
    int pins = 0;  // maps and links
    int rules = 0; // firewall tables and chains
};

// Removes every program, pin and rule of an instance, of any version; a daemon that still runs is stopped first.
// Idempotent.
Result<Detached> detach_instance(const std::string& instance);

// The subcommand; all: every instance that has pins here, besides the named one.
int detach_main(const std::string& instance, bool all);

} // namespace btblock::app
