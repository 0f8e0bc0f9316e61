// SPDX-License-Identifier: MIT
// StateFile: bans and run-time allow entries on disk, so that they outlive the pins. Text, a line each, times in
// milliseconds since the epoch or "never", "-" for nothing:
//
//   btblock-state 1 SAVED
//   ban ADDRESS|PREFIX/64 CREATED EXPIRES HITS manual|automatic EVIDENCE PORTS COMMENT
//   allow PREFIX EXPIRES COMMENT
//   end BANS ALLOWS CHECKSUM            64-bit FNV-1a of all bytes before this line
#pragma once

#include "app/Render.h"
#include "bpf/Maps.h"
#include "core/Result.h"

#include <string>
#include <string_view>
#include <vector>

namespace btblock::app {

// Entries that came from the configuration carry this mark in the last byte of the comment, which is no text.
void mark_as_configured(bt_allow& entry);
bool is_configured(const bt_allow& entry);

struct State {
    std::vector<bt_addr> ban_keys;
    std::vector<bt_ban> bans; // of ban_keys, times of CLOCK_MONOTONIC
    std::vector<bt_lpm_key> allow_keys;
    std::vector<bt_allow> allow;

    [[nodiscard]] bool empty() const noexcept { return bans.empty() && allow.empty(); }
};

// What is in force now, without what the configuration brings anyway.
Result<State> read_state(const bpf::Maps& maps, std::uint64_t now_ns);

std::string state_text(const State& state, const Clocks& clocks);
// Without what has expired meanwhile. A wall clock that stands before the time of saving (no battery, no network yet)
// is not believed: then no time has passed. The error names the line.
Result<State> parse_state(std::string_view text, const Clocks& clocks);

// Leaves at most so many bans, the operator's and the longest. Returns how many went.
std::size_t keep_longest_bans(State& state, std::size_t most);

// Leaves out the bans that the operator did not make.
void keep_manual_bans(State& state);

std::string state_path(const std::string& state_dir);
// All or nothing, also when the power fails. No entries: the file goes.
Result<void> save_state(const State& state, const std::string& state_dir);
// An absent file is an empty state. A damaged one is moved aside, and the error says where to.
Result<State> load_state(const std::string& state_dir);

} // namespace btblock::app
