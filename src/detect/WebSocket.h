// SPDX-License-Identifier: MIT
// WebSocket (RFC 6455) as WebTorrent's trackers use it: a client sends its announces and scrapes as JSON in masked
// frames, compressed or not (RFC 7692).
#pragma once

#include "detect/Finding.h"
#include "detect/Inflater.h"

namespace btblock::detect {

struct WebSocketFrame {
    Finding finding; // tracker.http when it is a tracker request; host_evidence is always false
    // More of it could make it one; without this nothing that comes will.
    bool need_more = false;
    std::uint64_t length = 0; // bytes of header and payload; 0: its header is cut
};

// Does a frame with the beginning of a client's message start here: text or binary, masked (sections 5.2, 5.3)?
bool is_client_frame(Bytes stream) noexcept;

// The client's frame that starts at the first byte; its payload may be cut. `all`: no more bytes of it can be had.
WebSocketFrame read_client_frame(Bytes stream, bool all, Inflater& inflater);

} // namespace btblock::detect
