// SPDX-License-Identifier: MIT
// Watch: shows something again and again, until Ctrl-C.
#pragma once

#include "app/Command.h"

#include <functional>
#include <string>
#include <string_view>

namespace btblock::app {

// "2", "0.5": seconds from 0.1 to a day.
Result<double> parse_interval(const std::string& text);

// Calls `show` every `seconds`; its text is drawn over the one before on a terminal, and elsewhere follows it after
// `between`. An error ends it the first time, and is shown afterwards: what is watched may come back.
// 0 when SIGINT or SIGTERM ends it, or nobody reads any more.
int watch(Io& io, double seconds, std::string_view between, const std::function<Result<std::string>()>& show);

} // namespace btblock::app
