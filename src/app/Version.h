// SPDX-License-Identifier: MIT
// `btblock version`.
#pragma once

namespace btblock::app {

class CommandLine;
void add_version(CommandLine& line);

} // namespace btblock::app
