// SPDX-License-Identifier: MIT
#include "detect/Writeback.h"

#include "btblock/detect.h"

namespace btblock::detect {

namespace {

std::uint32_t weigh(Tables& tables, Scorer& scorer, const bt_tuple& tuple, std::uint32_t fresh, std::uint64_t now_ns) {
    if (!fresh || !tables.is_inside(tuple.src))
        return 0;
    const Scorer::Score score = scorer.add(tuple.src, fresh, now_ns);
    if (score.reached)
        tables.client_seen(tuple.src, score.reached, now_ns);
    return score.crossed ? score.reached : 0;
}

void convict(Tables& tables, const bt_tuple& tuple, const Finding& finding, std::span<const bt_endpoint> named_peers,
             std::uint64_t now_ns) {
    // The question is dropped, not what else its socket asks: some resolvers have but one.
    if (finding.listed && tuple.proto == BT_IPPROTO_UDP)
        return;
    bt_tuple mirror;
    bt_mirror(&tuple, &mirror);
    tables.block(tuple, finding.evidence, now_ns);
    if (finding.unasked)
        return;
    tables.block(mirror, finding.evidence, now_ns);
    if (finding.listed)
        return;
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

} // namespace

bool is_unasked(Tables& tables, const Payload& payload) {
    const bt_tuple& t = payload.tuple;
    if (t.proto != BT_IPPROTO_TCP || tables.is_inside(t.src) || !tables.is_inside(t.dst))
        return false;
    bt_tuple mirror;
    bt_mirror(&t, &mirror);
    const bt_flow sent = tables.known(mirror);
    return !bt_is_answer(&sent, payload.ack);
}

std::uint32_t write_back(Tables& tables, Scorer& scorer, const bt_tuple& tuple, const Finding& finding,
                         std::span<const bt_endpoint> named_peers, std::uint64_t now_ns) {
    switch (finding.judgement) {
    case Judgement::none: break;
    case Judgement::clean: tables.clear(tuple, now_ns); [[fallthrough]];
    case Judgement::weighs: return weigh(tables, scorer, tuple, finding.fresh, now_ns);
    case Judgement::proves: convict(tables, tuple, finding, named_peers, now_ns); break;
    }
    return 0;
}

} // namespace btblock::detect
