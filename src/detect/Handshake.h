// SPDX-License-Identifier: MIT
// The peers' opening (BEP 3): 0x13 "BitTorrent protocol" reserved[8] info_hash[20] peer_id[20].
#pragma once

#include "detect/Bytes.h"

namespace btblock::detect {

inline constexpr std::string_view handshake_signature{"\x13"
                                                      "BitTorrent protocol",
                                                      20};
inline constexpr std::size_t handshake_length = 68;

// Only ever asked at the first byte of a stream (or of the stream inside a proxy): the words elsewhere are text about
// BitTorrent. All twenty bytes must agree; what follows is free.
inline Match match_handshake(Bytes stream) noexcept {
    return match(stream, handshake_signature);
}

} // namespace btblock::detect
