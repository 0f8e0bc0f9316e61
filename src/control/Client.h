// SPDX-License-Identifier: MIT
// The other end of the control socket: what the commands use.
#pragma once

#include "control/Socket.h"

#include <chrono>
#include <functional>
#include <string>

#include <nlohmann/json.hpp>

namespace btblock::control {

inline constexpr std::chrono::milliseconds default_timeout{5000};

// Asks the daemon of an instance. Errors: it is not running or does not answer in time (ExitCode::daemon_unreachable),
// no permission, or what the daemon answered, with its exit code.
Result<nlohmann::json> request(const std::string& instance, const nlohmann::json& message,
                               std::chrono::milliseconds timeout = default_timeout);

// The same on any path; `instance` is for the messages.
Result<nlohmann::json> request_at(const std::string& path, const std::string& instance, const nlohmann::json& message,
                                  std::chrono::milliseconds timeout = default_timeout);

// Sends a request and hands every line after the answer to `take`, until it returns false. `answered` gets the answer.
// Ends with an error when the daemon ends the stream.
Result<void> follow_at(const std::string& path, const std::string& instance, const nlohmann::json& message,
                       const std::function<bool(const nlohmann::json& answer)>& answered,
                       const std::function<bool(const std::string& line)>& take,
                       std::chrono::milliseconds timeout = default_timeout);

} // namespace btblock::control
