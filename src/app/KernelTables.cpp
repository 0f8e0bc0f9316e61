// SPDX-License-Identifier: MIT
#include "app/KernelTables.h"

#include <spdlog/spdlog.h>

namespace btblock::app {

namespace {

template <class T> void warn(const Result<T>& result) {
    if (!result)
        spdlog::warn("{}", result.error().message);
}

// The entry of a key, or an empty one.
template <class Map, class K> auto current(const Map& map, const K& key) {
    auto found = map.lookup(key);
    warn(found);
    using V = typename std::decay_t<decltype(*found)>::value_type;
    return found ? found->value_or(V{}) : V{};
}

} // namespace

bool KernelTables::is_inside(const bt_addr& address) {
    auto found = maps_.inside.lookup({128, address});
    return found && found->has_value();
}

void KernelTables::block(const bt_tuple& tuple, std::uint32_t evidence, std::uint64_t now_ns) {
    bt_flow flow = current(maps_.flows, tuple);
    if (flow.leaky && flow.verdict != BT_V_BLOCKED && evidence & BT_EV_BIT(BT_EV_TRACKER_HTTP))
        leaked_http_.fetch_add(1, std::memory_order_relaxed);
    flow.verdict = BT_V_BLOCKED;
    flow.evidence |= evidence;
    flow.last_seen_ns = now_ns;
    warn(maps_.flows.update(tuple, flow));
}

void KernelTables::clear(const bt_tuple& tuple, std::uint64_t) {
    bt_flow flow = current(maps_.flows, tuple);
    if (flow.seen == 0 || flow.verdict != BT_V_UNKNOWN)
        return;
    flow.verdict = BT_V_CLEAN;
    warn(maps_.flows.update(tuple, flow));
}

void KernelTables::condemn(const bt_endpoint& socket, std::uint32_t evidence, std::uint64_t now_ns) {
    bt_mark mark = current(maps_.sockets, socket);
    mark.expires_ns = now_ns + BT_SOCKET_TTL_NS;
    mark.evidence |= evidence;
    warn(maps_.sockets.update(socket, mark));
}

void KernelTables::client_seen(const bt_addr& client, std::uint32_t evidence, std::uint64_t now_ns) {
    bt_client known = current(maps_.clients, client);
    if (known.first_seen_ns == 0)
        known.first_seen_ns = now_ns;
    known.active_until_ns = now_ns + BT_CLIENT_TTL_NS;
    known.evidence |= evidence;
    ++known.detections;
    warn(maps_.clients.update(client, known));
}

void KernelTables::learn(const bt_peer_key& peer, std::uint32_t evidence, std::uint64_t now_ns) {
    bt_mark mark = current(maps_.peers, peer);
    mark.expires_ns = now_ns + BT_PEER_TTL_NS;
    mark.evidence |= evidence;
    warn(maps_.peers.update(peer, mark));
}

bt_flow KernelTables::known(const bt_tuple& tuple) {
    return current(maps_.flows, tuple);
}

} // namespace btblock::app
