// SPDX-License-Identifier: MIT
#include "detect/Writeback.h"

#include "btblock/wire.h"

namespace btblock::detect {

void write_back(Tables& tables, const bt_tuple& tuple, const Finding& finding, std::span<const bt_endpoint> named_peers,
                std::uint64_t now_ns) {
    if (finding.judgement == Judgement::clean) {
        tables.clear(tuple, now_ns);
        return;
    }
    if (finding.judgement != Judgement::proves)
        return;
    bt_tuple mirror;
    bt_mirror(&tuple, &mirror);
    tables.block(tuple, finding.evidence, now_ns);
    tables.block(mirror, finding.evidence, now_ns);
    const bool src_inside = tables.is_inside(tuple.src);
    if (src_inside) {
        tables.client_seen(tuple.src, finding.evidence, now_ns);
        if (tuple.proto == BT_IPPROTO_UDP)
            tables.condemn({tuple.src, tuple.sport, BT_IPPROTO_UDP, 0}, finding.evidence, now_ns);
    } else if (tuple.proto == BT_IPPROTO_TCP && tables.is_inside(tuple.dst)) {
        tables.client_seen(tuple.dst, finding.evidence, now_ns);
    }
    if (tables.is_inside(tuple.dst))
        for (const bt_endpoint& peer : named_peers)
            tables.learn({tuple.dst, peer.addr, peer.port, 0}, finding.evidence, now_ns);
}

} // namespace btblock::detect
