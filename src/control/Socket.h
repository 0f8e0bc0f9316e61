// SPDX-License-Identifier: MIT
// What both ends of the control socket share.
//
// The protocol: newline-delimited JSON. A request is one object with a text "command"; the answer is one object,
// {"ok":true,...} or {"ok":false,"error":"...","exit_code":n}. The commands and their fields are in
// app/Operations.h. {"command":"events","follow":true} turns the connection into a stream: after the answer come event
// lines until either side closes; a last line with "ok":false tells why the server ended it.
#pragma once

#include "core/Fd.h"
#include "core/Result.h"

#include <cstddef>
#include <string>
#include <sys/un.h>

namespace btblock::control {

inline constexpr std::size_t request_limit = 64 << 10; // bytes of one request line
inline constexpr std::size_t backlog_limit = 1 << 20;  // bytes that may wait for one subscriber
inline constexpr std::size_t answer_limit = 16u << 20; // bytes of one answer line that a client accepts

// /run/btblock/INSTANCE/control.sock
std::string socket_path(const std::string& instance);

// Error: the path does not fit (107 bytes).
Result<sockaddr_un> socket_address(const std::string& path);

} // namespace btblock::control
