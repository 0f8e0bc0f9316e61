// SPDX-License-Identifier: MIT
// Pipeline: the whole decision in user space. The packet path of the kernel (include/btblock/inspect.h) on tables in
// memory, and the deep detectors where the kernel would ask for them.
#pragma once

#include "btblock/abi.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace btblock::detect {

struct PipelineState;

struct PipelineOptions {
    // Entries of the tables, 130 bytes a half-flow, used as they come. In a full one what was not used lately gives
    // way.
    std::size_t flow_capacity = 1 << 20;
    std::size_t socket_capacity = 65536; // condemned sockets, and as many learned peers
    std::size_t client_capacity = 16384;
    std::size_t deep_capacity = 65536; // half-flows that the deep detectors follow, 800 bytes each at most
    bool names = true;                 // look at the names in TLS hellos and DNS queries
    // What is inside. Empty: private, CGNAT and ULA ranges; where neither end is in those, the sender.
    std::vector<bt_lpm_key> inside;
};

struct Decision {
    bt_action action = BT_ACT_PASS; // BT_ACT_DROP: this packet belongs to BitTorrent
    std::uint32_t evidence = 0;     // mask, for a drop
};

// One of several packets that go through together.
struct PipelinePacket {
    std::span<const std::uint8_t> ip; // see packet(); empty: something else
    std::size_t wire_length = 0;
    std::uint64_t time_ns = 0;
    // From parse():
    bool is_flow = false; // TCP or UDP with a whole header; then:
    bt_tuple tuple{};
    std::uint32_t hash = 0; // hash_of(tuple)
    // From decide():
    Decision decision;
};

class Pipeline {
public:
    // So many go through together.
    static constexpr std::size_t batch = 16;

    explicit Pipeline(PipelineOptions options = {});
    ~Pipeline();
    Pipeline(const Pipeline&) = delete;
    Pipeline& operator=(const Pipeline&) = delete;

    // ip_packet starts at the IP header; wire_length is what the packet had before a capture cut it. Times that run
    // backwards are held. Never reads outside the span.
    Decision packet(std::span<const std::uint8_t> ip_packet, std::size_t wire_length, std::uint64_t time_ns);

    // The same for several of them, at most `batch`, in two steps with the same packets: what is known of each comes
    // from memory while others are looked at.
    void parse(std::span<PipelinePacket> packets);
    void decide(std::span<PipelinePacket> packets);

    // What only the end of a capture tells about half-flows that stayed open: `decided` is called with the evidence of
    // each one that was BitTorrent after all. A gateway has no such moment, and no need of it: nothing went through.
    //   - a strict uTP SYN of a socket that gave itself away later
    //   - the first turn of MSE, unanswered or answered by the second, by a client that is BitTorrent-active
    void review(const std::function<void(const bt_tuple&, std::uint32_t evidence)>& decided) const;

    // A counter of the path, as the kernel's bt_stats.
    [[nodiscard]] std::uint64_t counter(bt_stat which) const;
    // The half-flow as the path knows it; null when it has none. Valid until the next packet().
    [[nodiscard]] const bt_flow* flow(const bt_tuple& tuple) const;

private:
    Decision decide(std::span<const std::uint8_t> ip_packet, std::uint64_t time_ns);

    std::unique_ptr<PipelineState> state_;
};

} // namespace btblock::detect
