// SPDX-License-Identifier: MIT
// The deep detectors behind one door: one packet in, one finding out.
#pragma once

#include "detect/BoundedTable.h"
#include "detect/EndpointSink.h"
#include "detect/Finding.h"
#include "detect/FlowTable.h"
#include "detect/Inflater.h"
#include "detect/Names.h"

#include <array>
#include <memory>

namespace btblock::detect {

// Keeps state per half-flow (exact 5-tuple). Every detector works on one direction alone; the mirror, when its packets
// pass here too, lets tracker responses be recognised and named peers be trusted. Feed it packets in the order of
// arrival. Does no I/O; memory is taken at construction
// and in blocks up to a fixed size. One thread at a time.
class Inspector {
public:
    // About 230 bytes an entry, and 576 while it keeps bytes, touched only as flows come.
    explicit Inspector(std::size_t flow_capacity = 65536);
    Inspector(const Inspector&) = delete;
    Inspector& operator=(const Inspector&) = delete;

    // Never reads outside payload.bytes. now_ns: any clock that does not run backwards.
    Finding inspect(const Payload& payload, std::uint64_t now_ns) noexcept;

    // The endpoints that the last inspected packet named to its receiver (tuple.dst), when that receiver had asked:
    // it sent the tracker request or DHT query that is answered, or a TCP connection proved to be BitTorrent carried
    // them (PEX). proto is TCP for peers (who also speak uTP on that port number), UDP for DHT nodes. Valid until the
    // next call. What nobody asked for is left out, so that a third party cannot name an innocent address.
    [[nodiscard]] std::span<const bt_endpoint> named_peers() const noexcept {
        return {names_.data(), solicited_ ? sink_.size() : 0};
    }
    // The same without the check, for a caller who knows from elsewhere that the receiver asked (its request may have
    // passed in the kernel).
    [[nodiscard]] std::span<const bt_endpoint> claimed_peers() const noexcept { return {names_.data(), sink_.size()}; }

    // The host name that the last inspected packet completed (TLS ClientHello, DNS query), or nothing. Valid as long.
    [[nodiscard]] std::string_view host() const noexcept { return host_.text(); }

    [[nodiscard]] std::size_t flows() const noexcept { return flows_.size(); }

private:
    // What became of a unit of a TCP stream.
    enum class Step : std::uint8_t { again, keep, settle };

    bool inspect_udp(const Payload& payload, FlowContext& flow, const FlowContext* mirror) noexcept;
    Finding judge_utp_data(Bytes data) noexcept;
    bool judge_datagram(Bytes datagram, const bt_tuple& tuple, FlowContext& flow, const FlowContext* mirror) noexcept;
    void inspect_tcp(const Payload& payload, FlowContext& flow, const FlowContext* mirror) noexcept;
    void place(const Payload& payload, FlowContext& flow) noexcept;
    Step step(FlowContext& flow, const FlowContext* mirror) noexcept;
    Step step_opening(FlowContext& flow, const FlowContext* mirror) noexcept;
    Step step_hello(FlowContext& flow) noexcept;
    Step take_hello(FlowContext& flow, ClientHello& hello) noexcept;
    Step step_socks(FlowContext& flow, const FlowContext* mirror) noexcept;
    Step step_messages(FlowContext& flow) noexcept;
    Step step_request(FlowContext& flow) noexcept;
    Step step_frames(FlowContext& flow);
    Step step_response(FlowContext& flow, const FlowContext* mirror) noexcept;
    Step step_body(FlowContext& flow, const FlowContext* mirror) noexcept;

    FlowTable flows_;
    std::array<bt_endpoint, 256> names_{};
    EndpointSink sink_{names_};
    bool solicited_ = false;
    HostName host_;
    BoundedTable<bt_tuple, ClientHello> hellos_{1024}; // that are still to be completed
    bt_tuple tuple_{};                                 // of the packet at hand
    Inflater inflater_;
};

} // namespace btblock::detect
