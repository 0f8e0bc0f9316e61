// SPDX-License-Identifier: MIT
#include "control/Socket.h"

#include <cstring>
#include <sys/socket.h>

namespace btblock::control {

std::string socket_path(const std::string& instance) {
    return "/run/btblock/" + instance + "/control.sock";
}

Result<sockaddr_un> socket_address(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path)
        return error("'" + path + "': the path of a socket must have 1 to " +
                     std::to_string(sizeof address.sun_path - 1) + " bytes");
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    return address;
}

} // namespace btblock::control
