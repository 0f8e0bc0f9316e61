// SPDX-License-Identifier: MIT
// Writes a file as a whole: who reads it finds the old text or the new one, never a part.
#pragma once

#include "core/Result.h"

#include <string>
#include <string_view>
#include <sys/types.h>

namespace btblock {

// yes: after a power failure, too, which means waiting for the disk.
enum class Durable { no, yes };

// `mode` whatever the umask is. On an error the old file is left as it was.
Result<void> replace_file(const std::string& path, std::string_view text, mode_t mode, Durable durable);

} // namespace btblock
