// SPDX-License-Identifier: MIT
// BanPolicy: which address a finding bans, if any. No I/O.
#pragma once

#include "btblock/abi.h"
#include "core/Config.h"
#include "net/Address.h"

#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>
#include <vector>

namespace btblock::policy {

struct BanDecision {
    net::Address address; // of an IPv6 /64: its first address
    bool subnet64 = false;
    std::optional<std::uint16_t> port; // scope = endpoint
};

class BanPolicy {
public:
    // never: addresses that must not be banned whatever happens (own, gateways, resolvers, allowlisted).
    BanPolicy(const Config& config, std::vector<net::Prefix> inside, std::vector<net::Prefix> never);

    // What the finding bans now. Only evidence that the peer's own packets or an established connection back counts: a
    // single datagram can be forged, and what HTTP shows (shared hosting, CDNs) never bans an address.
    // Not in monitor mode: the caller does not ask.
    std::optional<BanDecision> decide(const bt_event& event, bool host_evidence, std::uint64_t now_ns);

    // The ban table's form of an address: itself, or its /64 when that holds nothing that must not be banned.
    [[nodiscard]] BanDecision target_of(const net::Address& address) const;
    [[nodiscard]] bool is_protected(const net::Address& address) const;
    [[nodiscard]] bool is_inside(const net::Address& address) const;

    // How long a ban decided now lasts: ban.duration, times ban.growth for each earlier ban of the target, at most
    // ban.max_duration. Call it once for each ban. An earlier ban counts until it has been over for as long as it was.
    std::uint64_t duration(const BanDecision& target, std::uint64_t now_ns);

    // Other settings; what was counted so far stays.
    void reconfigure(const Config& config);
    void set_never(std::vector<net::Prefix> never) { never_ = std::move(never); }
    void set_inside(std::vector<net::Prefix> inside) { inside_ = std::move(inside); }

    static constexpr std::uint64_t window_ns = 600 * BT_NSEC_PER_SEC; // ban.after counts within this
    // Evidence that shows the remote end itself speaking BitTorrent.
    static constexpr std::uint32_t ban_evidence = BT_EV_BIT(BT_EV_TCP_HANDSHAKE) | BT_EV_BIT(BT_EV_TCP_MESSAGE) |
                                                  BT_EV_BIT(BT_EV_TCP_EXTENSION) | BT_EV_BIT(BT_EV_TCP_FAST) |
                                                  BT_EV_BIT(BT_EV_UTP_PAIR) | BT_EV_BIT(BT_EV_UTP_DATA);

private:
    struct Ledger {
        std::deque<std::uint64_t> times;
    };
    struct Record {
        std::uint64_t seconds = 0;     // of the last ban
        std::uint64_t in_force_ns = 0; // until then
        std::uint64_t forget_ns = 0;   // then it counts no more
    };

    Config::Ban ban_;
    std::vector<std::uint16_t> whitelist_ports_;
    std::vector<net::Prefix> inside_;
    std::vector<net::Prefix> never_;
    std::unordered_map<std::string, Ledger> ledgers_; // by address text; cleared when it grows past its bound
    std::unordered_map<std::string, Record> records_; // the same
};

} // namespace btblock::policy
