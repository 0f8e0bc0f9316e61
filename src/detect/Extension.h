// SPDX-License-Identifier: MIT
// The extension protocol (BEP 10) and what rides on it: ut_metadata (BEP 9), ut_pex (BEP 11), ut_holepunch (BEP 55).
// All functions take the payload of message 20 after the extended message id.
#pragma once

#include "detect/EndpointSink.h"

namespace btblock::detect {

enum class Extended : std::uint8_t {
    none,
    cut,       // correct as far as the bytes go
    handshake, // sub-id 0: "m" maps extension names to numbers
    pex,
    metadata,
    holepunch,
    other, // another well-formed dictionary
};

// Sub-id 0. Proof needs a dictionary that ends exactly where the message does, with "m" a dictionary of small numbers
// and a name or key out of BEP 10 and its relatives: an empty m alone would be any bencode.
Extended read_extension_handshake(Bytes payload) noexcept;

// Any other sub-id (the receiver chose the number, so its value says nothing). Adds the peers of a PEX message.
Extended read_extension_message(Bytes payload, EndpointSink& named) noexcept;

} // namespace btblock::detect
