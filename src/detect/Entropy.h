// SPDX-License-Identifier: MIT
// Does a payload look uniformly random? Necessary for encrypted peers, never sufficient: it only weighs.
#pragma once

#include "detect/Bytes.h"

namespace btblock::detect {

// Mean number of set bits per byte, 0..8; 0 for no bytes. Random bytes give 4 +- 1.41 / sqrt(n).
double bits_per_byte(Bytes bytes) noexcept;
// Printable ASCII: how many at the start, the share of all, the longest run.
std::size_t printable_prefix(Bytes bytes) noexcept;
double printable_share(Bytes bytes) noexcept;
std::size_t longest_printable_run(Bytes bytes) noexcept;

// The exemptions of Wu et al. (USENIX Security 2023) turned round: bits per byte within 3.4..4.6, no six printable
// bytes at the start, not more than half printable, no more than twenty printable in a row. False under 32 bytes,
// where the mean of random bytes leaves the range too often to mean anything.
bool looks_random(Bytes bytes) noexcept;

} // namespace btblock::detect
