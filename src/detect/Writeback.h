// SPDX-License-Identifier: MIT
// What a finding of the deep detectors changes in the tables that the packet path reads.
#pragma once

#include "detect/Finding.h"
#include "detect/Scorer.h"

#include <cstdint>
#include <span>

namespace btblock::detect {

// The tables, in memory or in the kernel. Times are CLOCK_MONOTONIC nanoseconds.
class Tables {
public:
    virtual ~Tables() = default;
    [[nodiscard]] virtual bool is_inside(const bt_addr& address) = 0;
    // Sets the half-flow's verdict, making the entry when there is none.
    virtual void block(const bt_tuple& tuple, std::uint32_t evidence, std::uint64_t now_ns) = 0;
    virtual void clear(const bt_tuple& tuple, std::uint64_t now_ns) = 0; // certainly another protocol
    virtual void condemn(const bt_endpoint& socket, std::uint32_t evidence, std::uint64_t now_ns) = 0;
    virtual void client_seen(const bt_addr& client, std::uint32_t evidence, std::uint64_t now_ns) = 0;
    virtual void learn(const bt_peer_key& peer, std::uint32_t evidence, std::uint64_t now_ns) = 0;
    // What is known of a half-flow; all zeros when nothing is.
    [[nodiscard]] virtual bt_flow known(const bt_tuple& tuple) = 0;
};

// A TCP segment from outside to an inside host that does not acknowledge what that host sent.
bool is_unasked(Tables& tables, const Payload& payload);

// A proving finding's flow is blocked in both directions; an inside sender becomes an active client, its UDP socket is
// condemned; peers named to an inside receiver are learned for that receiver. Mirrors bt_convict() of inspect.h.
// What nobody asked for blocks its own half-flow only. Where only the operator's list of names proves, nothing is
// concluded about the client. What a weighing one adds goes to the score of an inside sender, which becomes active when
// that suffices. What comes from outside tells about its sender, and its sender can be forged. Returns the evidence
// when this finding made a client active by its score, else 0.
std::uint32_t write_back(Tables& tables, Scorer& scorer, const bt_tuple& tuple, const Finding& finding,
                         std::span<const bt_endpoint> named_peers, std::uint64_t now_ns);

} // namespace btblock::detect
