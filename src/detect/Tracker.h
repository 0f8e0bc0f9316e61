// SPDX-License-Identifier: MIT
// UDP trackers: BEP 15, with the extension bytes of BEP 41 and the IPv6 form of its later revision.
#pragma once

#include "detect/EndpointSink.h"
#include "detect/Finding.h"

#include <array>

namespace btblock::detect {

// The requests one half-flow has sent lately: what a response must answer.
struct TrackerRequests {
    struct Request {
        std::uint32_t transaction = 0;
        std::uint8_t action = 0xff; // 0 connect, 1 announce, 2 scrape; 0xff: empty
    };
    std::array<Request, 4> last{};
    std::uint8_t next = 0;
    bool connected = false; // a connect was seen

    void remember(std::uint32_t transaction, std::uint8_t action) noexcept {
        last[next] = {transaction, action};
        next = static_cast<std::uint8_t>((next + 1) % last.size());
    }
    [[nodiscard]] const Request* find(std::uint32_t transaction) const noexcept {
        for (const Request& r : last)
            if (r.action != 0xff && r.transaction == transaction)
                return &r;
        return nullptr;
    }
};

// A datagram from the client. Connect proves by itself; announce and scrape prove in a half-flow whose connect was
// seen, and an announce also by itself when all of its fields are plausible.
Finding inspect_tracker_request(Bytes datagram, TrackerRequests& own) noexcept;

// A datagram from the tracker, judged by the requests of the mirror half-flow: the transaction id must be one of
// them. v6: the flow runs over IPv6, so peers are 18 bytes. Adds the peers of an announce response to `named`.
Finding inspect_tracker_response(Bytes datagram, const TrackerRequests& asked, bool v6, EndpointSink& named) noexcept;

// A peer id as clients build them: "-qB4520-", "A2-1-36-0-", "M7-9-2--", "T03I-----", ... in the first bytes.
bool is_known_peer_id(const std::uint8_t* twenty) noexcept;

} // namespace btblock::detect
