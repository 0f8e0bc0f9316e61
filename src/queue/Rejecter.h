// SPDX-License-Identifier: MIT
// Rejecter: tells both ends of a dropped packet that it will not get through, for action = reject.
//
// The answers are made here and not by the firewall's reject target: that is allowed in FORWARD, INPUT and OUTPUT only,
// so the packet would have to travel there, through rules that may change its mark, and would leave where a queue fails
// open. TC drops it as ever instead, and tells the daemon what an answer needs.
#pragma once

#include "btblock/abi.h"
#include "core/Fd.h"
#include "core/Result.h"

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace btblock::queue {

// Whole IP packets. To the sender: what the other end would say if nobody listened (RFC 9293, 3.10.7.1).
std::vector<std::uint8_t> reset_for_sender(const bt_reject& packet);
// To the receiver: the sender gives up, at the sequence number that the receiver expects next.
std::vector<std::uint8_t> reset_for_receiver(const bt_reject& packet);
// ICMP or ICMPv6 "port unreachable" from its type on; for ICMPv6 the kernel fills in the checksum.
std::vector<std::uint8_t> port_unreachable(const bt_reject& packet);

class Rejecter {
public:
    // mark: of the packets sent, so that btblock's own programs let them pass. Needs CAP_NET_RAW.
    static Result<std::unique_ptr<Rejecter>> open(std::uint32_t mark);

    // TCP: a RST to both ends; UDP: port unreachable to the sender. True when something was sent. Nothing for a RST,
    // for multicast and link-local ends, and beyond `per_second` packets. Thread-safe.
    bool answer(const bt_reject& packet) noexcept;

    static constexpr unsigned per_second = 500;

private:
    struct Sockets {
        Fd raw4, raw6, icmp4, icmp6;
    };
    explicit Rejecter(Sockets sockets) : sockets_(std::move(sockets)) {}
    bool within_rate() noexcept;
    bool send(const std::vector<std::uint8_t>& bytes, const bt_addr& to, bool icmp) noexcept;

    Sockets sockets_;
    std::mutex mutex_;
    std::uint64_t window_ns_ = 0; // under mutex_
    unsigned sent_ = 0;           // under mutex_
};

} // namespace btblock::queue
