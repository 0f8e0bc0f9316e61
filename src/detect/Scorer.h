// SPDX-License-Identifier: MIT
// Scorer: adds up what weighs, for each client. Enough of it makes the client BitTorrent-active, and nothing more.
#pragma once

#include "detect/BoundedTable.h"

#include "btblock/abi.h"

#include <array>
#include <cstdint>
#include <mutex>
#include <string_view>

namespace btblock::detect {

struct Weight {
    bt_evidence code;
    unsigned points;
    std::string_view reason;
};

// What the deep detectors weigh; the kernel weighs its own (turns of MSE, strict SYNs, fan-out) itself. Messages of the
// peer protocol that only fit are not here: Delivery Optimization has the same. Two rules hold for the numbers, and a
// test holds them to it: no code reaches the threshold alone, and neither does what ordinary software of a household
// shows together, which is all but the first three rows, or the first one with a download manager behind a proxy.
inline constexpr std::array<Weight, 8> weights{{
    {BT_EV_CLIENT_AGENT, 70, "a client runs there, or other software of that name; it may be idle"},
    {BT_EV_TRACKER_HTTP, 70,
     "a hash in a query without port and peer id: nearly an announce, but a web site may ask so"},
    {BT_EV_DHT_QUERY, 70, "a whole KRPC query of an unknown method: some other use of Kademlia, perhaps"},
    {BT_EV_SIGNATURE, 42, "a torrent file is fetched; browsers do that, too"},
    {BT_EV_TRACKER_SNI, 42, "a tracker's or bootstrap node's name: also looked up by monitors and by the curious"},
    {BT_EV_WEBSEED_HTTP, 7, "a range by a download manager, or query names that are plain words"},
    {BT_EV_ENTROPY, 5, "a random first flight inside a proxy: all encryption without a header looks so"},
    {BT_EV_SOCKS_CONNECT, 3, "a proxy is not a torrent"},
}};

// A code counts by its last sighting alone and halves every quarter of an hour: a program that says the same a thousand
// times is one fact, not a thousand. Thread-safe; one entry a client, in a table of fixed size.
class Scorer {
public:
    static constexpr double threshold = 100;
    static constexpr std::uint64_t half_life_ns = BT_CLIENT_TTL_NS;

    struct Score {
        std::uint32_t reached = 0; // the codes that count, when they reach the threshold; else 0
        bool crossed = false;      // by this sighting
    };

    explicit Scorer(std::size_t clients = 16384) : clients_(clients) {}

    // codes: mask of what a half-flow of this client showed now for the first time.
    Score add(const bt_addr& client, std::uint32_t codes, std::uint64_t now_ns);
    [[nodiscard]] double points(const bt_addr& client, std::uint64_t now_ns);

private:
    using Sightings = std::array<std::uint64_t, weights.size()>; // the last of each, 0: none

    std::mutex mutex_; // queues share a client
    BoundedTable<bt_addr, Sightings> clients_;
};

} // namespace btblock::detect
