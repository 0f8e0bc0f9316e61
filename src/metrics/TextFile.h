// SPDX-License-Identifier: MIT
// The exposition as a file for the textfile collector of Prometheus' node exporter.
#pragma once

#include "core/Result.h"

#include <string>

namespace btblock::metrics {

// Readers see the old text or the new one, never a part. Mode 0644.
Result<void> write_text_file(const std::string& path, const std::string& text);

} // namespace btblock::metrics
