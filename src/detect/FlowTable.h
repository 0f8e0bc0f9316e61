// SPDX-License-Identifier: MIT
// What is remembered of half-flows, in a table of fixed size.
#pragma once

#include "detect/Assembly.h"
#include "detect/Http.h"
#include "detect/Messages.h"
#include "detect/Slots.h"
#include "detect/Tracker.h"

#include <cstdint>
#include <memory>

namespace btblock::detect {

enum class Stage : std::uint8_t {
    opening,   // the unit's protocol is to be found out
    handshake, // a peer handshake: only its rest is missing
    messages,  // peer messages, one a unit
    hello,     // a TLS ClientHello, as it comes
    request,   // HTTP requests, one a unit
    frames,    // WebSocket frames of the client, one a unit
    response,  // HTTP response heads
    body,      // the body of a 200 response
};

// One half-flow. Evidence is a mask of BT_EV_BIT.
struct FlowContext {
    explicit FlowContext(Buffers& buffers) noexcept : stream(buffers) {}

    std::uint64_t last_seen_ns = 0;
    std::uint32_t evidence = 0;
    std::uint32_t told = 0; // the part of evidence that an earlier finding had
    bool proved = false;
    bool clean = false;
    bool host_evidence = false;
    bool proxied = false;       // a stream inside SOCKS or CONNECT
    bool http_client = false;   // a request was seen
    bool http_server = false;   // a response was seen
    bool asked_connect = false; // the last request was CONNECT
    bool line_open = false;     // the request line has not ended yet
    bool chunked = false;       // the response's body
    bool framed = false;        // the response announced a body
    bool asked_tracker = false; // sent a tracker request over HTTP
    bool asked_dht = false;     // sent a DHT query
    Stage stage = Stage::opening;
    RequestLine line;          // what was read of an open request line
    std::uint32_t line_at = 0; // where it goes on
    MessageChain chain;
    TrackerRequests tracker;
    Assembly stream;
};

// Finds half-flows by their exact 5-tuple. The memory of the entries is reserved by the constructor (the pages of those
// that were never used are not touched), their slots grow until there are as many; when it is full the entry idle for
// longest gives way. Not for several threads.
class FlowTable {
public:
    static constexpr std::uint64_t tcp_idle_ns = 600ull * 1'000'000'000ull;

    explicit FlowTable(std::size_t capacity);

    // The half-flow's entry, made or made afresh (after its idle time) if need be; it becomes the most recent.
    FlowContext& touch(const bt_tuple& tuple, std::uint64_t now_ns) noexcept;
    // The same tuple, but another connection: forgets everything.
    void renew(FlowContext& flow) noexcept;
    // Only looks. Null when there is none or it idled out.
    const FlowContext* find(const bt_tuple& tuple, std::uint64_t now_ns) const noexcept;

    [[nodiscard]] std::size_t size() const noexcept { return used_; }
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

private:
    static constexpr std::uint32_t nil = 0xffffffffu;

    struct Entry {
        bt_tuple key;
        std::uint32_t hash, newer, older;
        FlowContext context;
    };

    [[nodiscard]] std::uint32_t lookup(const bt_tuple& tuple, std::uint32_t hash) const noexcept;
    [[nodiscard]] bool is_idle(const Entry& entry, std::uint64_t now_ns) const noexcept;
    void unlink_age(std::uint32_t index) noexcept;
    void make_newest(std::uint32_t index) noexcept;
    void start(FlowContext& flow) noexcept;

    static constexpr std::size_t page = std::size_t{1} << 21; // a large one

    struct Free {
        void operator()(void* memory) const noexcept { ::operator delete[](memory, std::align_val_t{page}); }
    };

    std::size_t capacity_;
    std::size_t used_ = 0;
    std::uint32_t newest_ = nil, oldest_ = nil;
    Slots slots_; // an entry's number is its index and 1
    Buffers buffers_;
    std::unique_ptr<Entry[], Free> entries_; // raw memory; the first used_ entries exist
};

} // namespace btblock::detect
