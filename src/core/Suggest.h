// SPDX-License-Identifier: MIT
// "did you mean": the known word nearest to one that is not known.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace btblock {

// Insertions, deletions, substitutions and swaps of neighbours that turn one word into the other.
std::size_t edit_distance(std::string_view a, std::string_view b);

// The nearest candidate, case ignored, or else one that begins with the word. None when every one is too far away to be
// meant: more than a third of the word.
std::optional<std::string> suggest(std::string_view word, const std::vector<std::string>& candidates);

// " (did you mean 'X'?)", or nothing.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

} // namespace btblock
