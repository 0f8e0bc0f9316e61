// SPDX-License-Identifier: MIT
// What the commands change, on the maps themselves: the daemon does it for those who ask it, and a command does it when
// there is no daemon. One request, one answer, as on the control socket:
//
//   {"command":"bans.add", "address":A, "seconds":n|null, "comment":T, "force":b}    -> {"ban":{...}}
//   {"command":"bans.del", "address":A}                                              -> {"removed":1}
//   {"command":"bans.flush"}                                                         -> {"removed":n}
//   {"command":"allow.add", "prefix":P, "seconds":n|null, "comment":T}               -> {"allow":{...}, "forgotten":n}
//   {"command":"allow.del", "prefix":P}                                              -> {"removed":1, "forgotten":n}
//
// A is "192.0.2.7", "2001:db8::1", "2001:db8::/64" or, for one port, "192.0.2.7:6881", "[2001:db8::1]:6881". "seconds"
// null is for ever, absent the configured duration (for allow: for ever).
//
// The daemon answers besides: {"command":"bans.imported","note":T}, after a command did that itself;
// {"command":"status"} -> {"status":{...}}; {"command":"events","last":n,"follow":b} ->
// {"events":[...]}; {"command":"version"} -> {"version":T,"abi":n}.
#pragma once

#include "app/BanTable.h"
#include "app/Render.h"
#include "bpf/Maps.h"
#include "detect/LargePages.h"
#include "net/Address.h"
#include "policy/BanPolicy.h"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace btblock::app {

// An address with the forms above; ExitCode::usage names what is wrong.
Result<policy::BanDecision> parse_ban_target(std::string_view text);

// At most BT_COMMENT_LEN - 1 bytes, no control characters.
Result<void> check_comment(std::string_view comment);

// A ban as the commands print it; times are UTC.
Json ban_json(const bt_addr& key, const bt_ban& ban, const Clocks& clocks);
Json allow_json(const bt_lpm_key& key, const bt_allow& entry, const Clocks& clocks);

// A ban out of an import, checked.
struct ImportedBan {
    policy::BanDecision target; // without port
    std::vector<std::uint16_t> ports;
    std::uint64_t expires_wall_ns = ~std::uint64_t{0};
    std::uint32_t evidence = 0;
    bool manual = true;
    std::string comment;

    [[nodiscard]] nlohmann::json to_json() const;
};
using ImportedBans = std::vector<ImportedBan, detect::LargePages<ImportedBan>>; // a million of them fill 120 MiB
Result<ImportedBan> imported_ban(const nlohmann::json& entry);

struct OperationContext {
    const bpf::Maps& maps;
    std::vector<net::Prefix> never_ban;       // own addresses, gateways, resolvers, ...
    std::uint64_t default_seconds = 5 * 3600; // of a ban that names no duration
    // Called after a change, for events. Empty where nobody listens.
    std::function<void(const ListedBan&)> banned;
    std::function<void(const ListedBan&)> unbanned;
};

// Puts the bans into the map, many at once; what is banned already is extended. Nothing is changed when one of them is
// refused or when they do not fit. Returns how many had not expired.
Result<std::size_t> import_bans(const OperationContext& context, const ImportedBans& bans, bool force);

// The answer, with "ok"; false when the request is none of the above.
nlohmann::json perform(const OperationContext& context, const nlohmann::json& request);

// Forgets half-flows in which an address of the prefix takes part, and its condemned sockets: what was decided about
// them before an allow entry came or went no longer holds. Returns how many entries went.
Result<std::size_t> forget_flows(const bpf::Maps& maps, const net::Prefix& prefix);

} // namespace btblock::app
