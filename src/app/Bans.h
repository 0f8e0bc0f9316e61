// SPDX-License-Identifier: MIT
// `btblock bans`: list, add, del, flush, import, export.
#pragma once

#include "app/Operations.h"
#include "app/Render.h"
#include "bpf/Maps.h"

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace btblock::app {

// Live bans, as ban_json() makes them: those that end last come first, equal ones by address.
Result<std::vector<Json>> read_bans(const bpf::Maps& maps, const Clocks& clocks);
std::vector<Json> live_bans(std::vector<std::pair<bt_addr, bt_ban>> entries, const Clocks& clocks);

// Renderings of such a list. Pure.
std::string bans_text(const std::vector<Json>& bans, std::size_t width = 0);
std::string bans_json(const std::vector<Json>& bans); // {"bans":[...]}
std::string bans_csv(const std::vector<Json>& bans);
std::string bans_plain(const std::vector<Json>& bans); // one address or endpoint a line

// The bans of a file in any of the three forms; which one shows in its first character that is no blank. Every bad line
// is named: "NAME:LINE: what is wrong", ExitCode::usage.
Result<ImportedBans> parse_bans(std::string_view text, const std::string& name, std::string* skipped = nullptr);

class CommandLine;
struct Io;
void add_bans(CommandLine& line);

// Has the daemon carry out a request or, when none runs, does it on the pinned maps.
Result<nlohmann::json> change(const std::string& instance, const nlohmann::json& request);

} // namespace btblock::app
