// SPDX-License-Identifier: MIT
// The whole inspector: the input is a script of packets. Per packet: one byte of flags (bit 0 from the server, bit 1
// UDP, bit 2 no sequence number, bit 3 a jump in the sequence, bits 4-5 which client), one or two bytes of length, an
// optional jump byte, then the payload.
#include "detect/Inspector.h"
#include "target.h"

#include <algorithm>
#include <cstring>
#include <netinet/in.h>
#include <utility>
#include <vector>

using namespace btblock;
using namespace btblock::detect;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Inspector inspector(6); // small enough to evict
    std::uint32_t next[4][2] = {{5, 5}, {0xfffffff0u, 7}, {9, 9}, {1, 1}};
    std::uint64_t now = 1;
    std::size_t at = 0;
    while (at + 2 <= size) {
        const std::uint8_t flags = data[at++];
        std::size_t length = data[at++];
        if (length >= 0xf0 && at < size)
            length = (length & 0x0f) << 8 | data[at++];
        std::uint32_t jump = 0;
        if (flags & 8 && at < size)
            jump = static_cast<std::uint32_t>(static_cast<std::int8_t>(data[at++])) * (flags & 0x40 ? 0x10000u : 1u);
        length = std::min(length, size - at);
        // Exactly as long as claimed, so that the sanitizer sees the first byte read too far.
        const std::vector<std::uint8_t> payload(data + at, data + at + length);
        at += length;

        const unsigned who = flags >> 4 & 3;
        const bool server = flags & 1;
        Payload p;
        p.tuple.src.b[15] = static_cast<bt_u8>(who + 1);
        p.tuple.dst.b[10] = p.tuple.dst.b[11] = 0xff;
        p.tuple.dst.b[12] = 8;
        p.tuple.sport = static_cast<bt_u16>(1000 + who);
        p.tuple.dport = who == 3 ? 7680 : who == 2 ? 53 : 6881;
        p.tuple.proto = flags & 2 ? IPPROTO_UDP : IPPROTO_TCP;
        if (server) {
            std::swap(p.tuple.src, p.tuple.dst);
            std::swap(p.tuple.sport, p.tuple.dport);
        }
        p.bytes = payload;
        p.has_seq = !(flags & 4) && !(flags & 2);
        p.seq = next[who][server] + jump;
        next[who][server] = p.seq + static_cast<std::uint32_t>(length);
        now += flags & 0x80 ? 200'000'000'000ull : 1'000'000ull;

        const Finding f = inspector.inspect(p, now);
        FUZZ_REQUIRE((f.evidence != 0) == (f.judgement == Judgement::weighs || f.judgement == Judgement::proves) ||
                     f.judgement == Judgement::clean);
        FUZZ_REQUIRE((f.fresh & ~f.evidence) == 0 && !f.listed);
        FUZZ_REQUIRE(inspector.host().empty() || f.judgement == Judgement::clean || f.judgement == Judgement::proves);
        FUZZ_REQUIRE(!f.host_evidence || f.judgement == Judgement::proves);
        FUZZ_REQUIRE(inspector.named_peers().size() <= inspector.claimed_peers().size());
        FUZZ_REQUIRE(inspector.claimed_peers().empty() || f.judgement == Judgement::proves);
        FUZZ_REQUIRE(inspector.flows() <= 6);
    }
    return 0;
}
