// SPDX-License-Identifier: MIT
// The status of a running instance in Prometheus' text format 0.0.4.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace btblock::metrics {

inline constexpr const char* content_type = "text/plain; version=0.0.4; charset=utf-8";

// `status` is what `btblock status --json` shows; numbers that are missing in it read as 0. Labels have few, fixed
// values, interface names apart: never an address. start_time: seconds since the epoch.
std::string exposition(const nlohmann::ordered_json& status, std::uint64_t start_time);

} // namespace btblock::metrics
