// SPDX-License-Identifier: MIT
// Encrypted connections by their turns. The input is a script of segments of one client: two bytes, of which the upper
// six bits are flags (bit 15 from the server, bit 14 to another server, bit 13 bytes from the script instead of noise,
// bit 12 again with the same sequence number) and the lower ten a length.
#include "detect/Entropy.h"
#include "detect/Pipeline.h"
#include "script.h"
#include "target.h"

#include <random>

using namespace btblock;
using namespace btblock::detect;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    PipelineOptions options;
    options.flow_capacity = 8;
    options.socket_capacity = options.client_capacity = options.deep_capacity = 8;
    Pipeline pipeline(options);
    fuzz::Script script(data, size);
    std::mt19937_64 rng(1);
    std::uint32_t next[2][2] = {{1, 1}, {1, 1}};
    std::uint64_t now = BT_NSEC_PER_SEC;
    unsigned segments[2] = {0, 0};
    bool otherwise = false; // the client gave itself away
    while (!script.done()) {
        const unsigned word = script.two();
        const bool back = word & 0x8000, other = word & 0x4000;
        std::vector<std::uint8_t> payload(word & 0x3ff);
        if (word & 0x2000) {
            const Bytes given = script.bytes(payload.size());
            payload.assign(given.begin(), given.end());
        } else {
            for (std::uint8_t& b : payload)
                b = static_cast<std::uint8_t>(rng() >> 32);
        }
        (void)looks_random(payload);
        std::uint32_t& seq = next[other][back];
        const fuzz::Segment tcp{seq};
        if (!(word & 0x1000))
            seq += static_cast<std::uint32_t>(payload.size());
        const fuzz::Endpoint client{2, static_cast<std::uint16_t>(other ? 40001 : 40000), true};
        const fuzz::Endpoint server{static_cast<std::uint8_t>(other ? 10 : 9), 51413, false};
        const auto packet = fuzz::ip_packet(false, back ? server : client, back ? client : server, &tcp, payload);
        segments[other] += !payload.empty();
        const Decision d = pipeline.packet(packet, packet.size(), now += 1'000'000);
        FUZZ_REQUIRE((d.action == BT_ACT_DROP) == (d.evidence != 0));
        // The turns alone weigh: without other evidence it takes five segments of requests or a whole block as well.
        FUZZ_REQUIRE(d.evidence != BT_EV_BIT(BT_EV_MSE_HANDSHAKE) || otherwise || segments[other] >= 8);
        otherwise |= d.evidence != 0;
    }
    return 0;
}
