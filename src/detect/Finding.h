// SPDX-License-Identifier: MIT
// What goes into the deep detectors and what comes out.
#pragma once

#include "btblock/abi.h"
#include "detect/Bytes.h"

#include <cstdint>

namespace btblock::detect {

// One packet's transport payload. Not owned; only read during the call.
struct Payload {
    bt_tuple tuple{};      // as seen at the hook; ports in host byte order
    Bytes bytes;           // what follows the TCP or UDP header
    std::uint32_t seq = 0; // TCP: sequence number of the first byte, host byte order
    bool has_seq = false;  // false: packets of a half-flow are taken to come in order
    std::uint32_t ack = 0; // TCP: what it acknowledges, host byte order
};

enum class Judgement : std::uint8_t {
    none,   // nothing to say, or not enough seen yet
    clean,  // the half-flow is certainly something else: stop looking
    weighs, // counts only together with other evidence of the same flow or client
    proves, // BitTorrent: may block alone
};

struct Finding {
    Judgement judgement = Judgement::none;
    std::uint32_t evidence = 0; // mask of BT_EV_BIT: everything known of this half-flow
    bool host_evidence = false; // false for what HTTP requests or a proxy showed: the address must never be banned
    std::uint32_t fresh = 0;    // the part of evidence that this packet added
    bool listed = false;        // proves by the operator's list of names: that tells nothing about the client
    bool unasked = false;       // from outside and no answer to the inside: its sender may be forged
};

} // namespace btblock::detect
