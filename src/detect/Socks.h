// SPDX-License-Identifier: MIT
// SOCKS 4, 4a and 5 (RFC 1928, 1929): where the negotiation of one direction ends, and the header of UDP datagrams.
#pragma once

#include "detect/Bytes.h"

#include <optional>

namespace btblock::detect {

struct SocksTurns {
    Match match = Match::no; // partial: correct so far
    std::size_t length = 0;  // full: bytes of the negotiation; what follows is the stream inside
    bool version4 = false;   // little structure: other protocols' first bytes can look the same
    bool stream = false;     // full: a stream follows (CONNECT or BIND, and not refused)
};

// All that the client sends before its own data: SOCKS 5 greeting, user name and password, request; or the SOCKS 4
// request. `sent` is its stream from the first byte.
SocksTurns read_socks_client(Bytes sent) noexcept;
// The same for the server: method, authentication status, reply; or the SOCKS 4 reply.
SocksTurns read_socks_server(Bytes sent) noexcept;

// RFC 1928 section 7: RSV 0000, FRAG 0 (fragments are never used in practice), ATYP, address, port, then the datagram.
// Nothing when it is no such header or nothing follows it.
std::optional<Bytes> unwrap_socks_udp(Bytes datagram) noexcept;

} // namespace btblock::detect
