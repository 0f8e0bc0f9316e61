// SPDX-License-Identifier: MIT
// The shape of one uTP datagram (BEP 29), for datagrams that come wrapped in a SOCKS UDP header. Pairing the two
// directions is done by the shared code in include/btblock.
#pragma once

#include "detect/Bytes.h"

namespace btblock::detect {

struct UtpShape {
    bool valid = false;
    bool strict_syn =
        false;  // type SYN, nothing but header and extensions, no timestamp difference, nothing acknowledged
    Bytes data; // what a DATA packet carries
};

// Version 1, a known type, an extension chain that ends inside the datagram. Many other protocols pass that.
UtpShape read_utp(Bytes datagram) noexcept;

} // namespace btblock::detect
