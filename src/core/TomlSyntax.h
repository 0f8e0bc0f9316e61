// SPDX-License-Identifier: MIT
// Mistakes in the writing of TOML: what to do about them, and where the next one is.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace btblock {

// What to change, for a parser's complaint about a line.
std::string syntax_remedy(std::string_view complaint, std::string_view line);

// Line `number` (from 1) of a text, without its end; empty beyond the last.
std::string_view line_of(std::string_view text, std::size_t number);

// The first line after `number` that is neither empty nor a comment.
std::size_t next_line_with_content(std::string_view text, std::size_t number);

// Whether the rest of the file means the same without this line: a key and its value, not the heading of a section.
bool can_be_left_out(std::string_view line);

// The text with this line emptied, so that the others keep their numbers.
std::string without_line(std::string_view text, std::size_t number);
// The lines before it.
std::string before_line(std::string_view text, std::size_t number);

} // namespace btblock
