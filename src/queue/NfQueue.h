// SPDX-License-Identifier: MIT
// NfQueue: one NFQUEUE queue of the calling thread's network namespace: receive packets, give verdicts.
#pragma once

#include "core/Result.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

struct mnl_socket;

namespace btblock::queue {

struct QueueOptions {
    std::uint16_t number = 0;
    bool fail_open = true;           // queue or socket full: pass the packet; false: drop it
    std::uint32_t max_length = 4096; // packets that may wait for a verdict
    // Bytes of a packet that are copied, from the IP header on. A GSO packet (up to 64 KiB and more) arrives as its
    // head.
    std::uint32_t copy_range = 2048;
};

// A packet that waits for its verdict. All numbers are in host byte order.
struct Packet {
    std::uint32_t id = 0;
    std::uint16_t hw_protocol = 0; // ETH_P_IP, ETH_P_IPV6
    std::uint8_t hook = 0;         // NF_INET_PRE_ROUTING, ...
    std::uint32_t mark = 0;
    std::uint32_t in_ifindex = 0;     // 0: none (a packet of this machine)
    bool gso = false;                 // a super-packet: longer than the MTU, its segments not made yet
    bool checksum_not_ready = false;  // the transport checksum is only filled in on the way out
    std::uint32_t wire_len = 0;       // length from the IP header on, also where `ip` was cut
    std::span<const std::uint8_t> ip; // valid until the next receive(); starts at the IP header
};

enum class Parsed {
    packet,    // `packet` is complete
    truncated, // a packet with an id, but cut, contradictory or without payload: it still needs a verdict
    other,     // a well-formed netlink message that is not a packet (acknowledgement, error, notification)
    malformed, // nothing usable
};

// Reads the first netlink message of a datagram. Pure; `packet.ip` points into `datagram`.
Parsed parse_packet(std::span<const std::uint8_t> datagram, Packet& packet) noexcept;

class NfQueue {
public:
    // Binds the queue. A queue that another socket holds is an error that names it.
    static Result<NfQueue> open(const QueueOptions& options);

    NfQueue(NfQueue&&) noexcept = default;
    NfQueue& operator=(NfQueue&&) noexcept = default;
    ~NfQueue() = default; // unbinds; the kernel drops what still waits

    [[nodiscard]] int fd() const noexcept; // non-blocking; readable when a packet waits
    [[nodiscard]] std::uint16_t number() const noexcept { return options_.number; }
    [[nodiscard]] const QueueOptions& options() const noexcept { return options_; }

    // The next datagram; an empty optional when there is none now. An error means that the socket is unusable.
    // Packets can be waiting before the descriptor polls readable, right after open(): receive first, then poll.
    Result<std::optional<Parsed>> receive(Packet& packet);

    // Releases a packet; `mark` replaces the packet's whole mark. Call it exactly once for each id.
    Result<void> verdict(std::uint32_t id, bool accept, std::optional<std::uint32_t> mark);
    // Accepts every packet up to this id that has no verdict yet, all with the same mark.
    Result<void> accept_until(std::uint32_t id, std::optional<std::uint32_t> mark);

private:
    struct Closer {
        void operator()(mnl_socket* socket) const noexcept;
    };
    NfQueue(std::unique_ptr<mnl_socket, Closer> socket, const QueueOptions& options);
    Result<void> configure();
    Result<void> send_verdict(int type, std::uint32_t id, bool accept, std::optional<std::uint32_t> mark);

    std::unique_ptr<mnl_socket, Closer> socket_;
    QueueOptions options_;
    std::vector<std::uint8_t> buffer_;
    std::vector<std::vector<std::uint8_t>> early_; // packets that overtook the answer to the bind request
};

// One line of /proc/net/netfilter/nfnetlink_queue.
struct QueueStats {
    std::uint32_t port_id = 0; // netlink port of the listener, as a rule its process id
    std::uint32_t waiting = 0;
    std::uint64_t dropped = 0;      // queue was full (fail-open passes are not counted by the kernel)
    std::uint64_t user_dropped = 0; // the listener's socket was full
    std::uint64_t sequence = 0;     // id of the last packet queued
};

std::optional<QueueStats> parse_queue_stats(std::string_view table, std::uint16_t number) noexcept;
// None when nobody listens on the queue, or when the table cannot be read (needs root and procfs).
std::optional<QueueStats> read_queue_stats(std::uint16_t number);

} // namespace btblock::queue
