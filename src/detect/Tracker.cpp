// SPDX-License-Identifier: MIT
#include "detect/Tracker.h"

#include "detect/Signatures.h"

#include <netinet/in.h>

namespace btblock::detect {
namespace {

constexpr std::uint64_t connect_magic = 0x41727101980ull;
constexpr Finding connect_found{Judgement::proves, BT_EV_BIT(BT_EV_TRACKER_UDP_CONNECT), true};
constexpr Finding announce_found{Judgement::proves, BT_EV_BIT(BT_EV_TRACKER_UDP_ANNOUNCE), true};
constexpr Finding scrape_found{Judgement::proves, BT_EV_BIT(BT_EV_TRACKER_UDP_SCRAPE), true};

// BEP 41: option 0 ends, 1 pads, others carry a length byte. Bytes after the end are padding.
bool are_options(Bytes tail) noexcept {
    std::size_t at = 0;
    while (at < tail.size()) {
        const std::uint8_t type = tail[at];
        if (type == 0)
            return true;
        if (type == 1) {
            ++at;
            continue;
        }
        if (at + 1 >= tail.size() || type > 16)
            return false;
        at += 2u + tail[at + 1];
    }
    return at == tail.size();
}

// Under an exbibyte/1024, or one of the values clients send for "unknown" (a magnet link without metadata).
bool is_byte_count(std::uint64_t n) noexcept {
    return n < (1ull << 50) || n == 0x7fffffffffffffffull || n == 0xffffffffffffffffull;
}

// connection_id 8, action 4, transaction_id 4, info_hash 20, peer_id 20, downloaded 8, left 8, uploaded 8, event 4,
// ip 4, key 4, num_want 4, port 2. Besides the peer id these fields fix some 130 bits, so that the look-alikes with a
// 1 at offset 8 (iperf3, NTP, RTP, AFS) cannot pass by accident.
bool is_plausible_announce(Bytes d) noexcept {
    const std::uint8_t* p = d.data();
    const std::uint32_t want = be32(p + 92);
    return is_known_peer_id(p + 36) && is_byte_count(be64(p + 56)) && is_byte_count(be64(p + 64)) &&
           is_byte_count(be64(p + 72)) && be32(p + 80) <= 3 && (want == 0xffffffffu || want <= 10000) &&
           be16(p + 96) != 0 && are_options(d.subspan(98));
}

} // namespace

bool is_known_peer_id(const std::uint8_t* id) noexcept {
    const auto name_char = [](std::uint8_t c) { return is_alnum(c) || c == '~'; };
    // Azureus style, the common one: "-XX1234-". The version may hold letters and, rarely, '.', '-' or '_'.
    if (id[0] == '-' && name_char(id[1]) && name_char(id[2])) {
        bool version = is_alnum(id[3]);
        for (int i = 4; i < 7; ++i)
            version = version && (is_alnum(id[i]) || id[i] == '-' || id[i] == '.' || id[i] == '_');
        if (version && (id[7] == '-' || is_alnum(id[7])))
            return true;
    }
    // Mainline "M7-9-2--", "Q1-10-0-" and aria2 "A2-1-36-0-": letter, then numbers with dashes between.
    if ((id[0] == 'M' || id[0] == 'Q' || id[0] == 'A') && is_digit(id[1]) && id[2] == '-') {
        int dashes = 0;
        bool version = true;
        for (int i = 2; i < 8; ++i) {
            version = version && (is_digit(id[i]) || id[i] == '-');
            dashes += id[i] == '-';
        }
        if (version && dashes >= 3)
            return true;
    }
    // Shad0w's style: client letter, version padded with dashes to six, then "---".
    if (is_alnum(id[0]) && is_alnum(id[1]) && id[6] == '-' && id[7] == '-' && id[8] == '-') {
        bool version = true;
        for (int i = 2; i < 6; ++i)
            version = version && (is_alnum(id[i]) || id[i] == '-' || id[i] == '.');
        if (version)
            return true;
    }
    return !client_of(id).empty(); // none of these, but known
}

Finding inspect_tracker_request(Bytes d, TrackerRequests& own) noexcept {
    if (d.size() < 16)
        return {};
    const std::uint64_t connection = be64(d.data());
    const std::uint32_t action = be32(d.data() + 8);
    const std::uint32_t transaction = be32(d.data() + 12);
    if (connection == connect_magic && action == 0) {
        own.connected = true;
        own.remember(transaction, 0);
        return connect_found;
    }
    if (action == 1 && d.size() >= 98 && (own.connected || is_plausible_announce(d))) {
        own.remember(transaction, 1);
        return announce_found;
    }
    // A scrape has nothing but hashes: only its flow can prove it.
    if (action == 2 && own.connected && d.size() >= 36 && (d.size() - 16) % 20 == 0) {
        own.remember(transaction, 2);
        return scrape_found;
    }
    return {};
}

Finding inspect_tracker_response(Bytes d, const TrackerRequests& asked, bool v6, EndpointSink& named) noexcept {
    if (d.size() < 8)
        return {};
    const std::uint32_t action = be32(d.data());
    const auto* request = asked.find(be32(d.data() + 4));
    if (!request)
        return {};
    if (action == 0 && request->action == 0 && d.size() >= 16)
        return connect_found;
    if (action == 1 && request->action == 1 && d.size() >= 20) {
        const Bytes peers = d.subspan(20);
        if (peers.size() % (v6 ? 18 : 6) != 0)
            return {};
        named.add_list(peers, v6, IPPROTO_TCP);
        return announce_found;
    }
    if (action == 2 && request->action == 2 && d.size() >= 20 && (d.size() - 8) % 12 == 0)
        return scrape_found;
    if (action == 3) { // error: a text for people
        for (const std::uint8_t c : d.subspan(8))
            if (c < 0x20 && c != 0 && c != '\t' && c != '\n' && c != '\r')
                return {};
        return request->action == 0 ? connect_found : request->action == 1 ? announce_found : scrape_found;
    }
    return {};
}

} // namespace btblock::detect
