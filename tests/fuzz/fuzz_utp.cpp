// SPDX-License-Identifier: MIT
// uTP: the kernel's and user space's reading of one datagram, and conversations of two endpoints through the pipeline.
// The input is a script: flags (bit 0 from outside, bit 1 another pair of ports), a length, the datagram.
#include "detect/Pipeline.h"
#include "detect/Utp.h"
#include "script.h"
#include "target.h"

#include <cstring>
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#include "btblock/detect.h"
#pragma GCC diagnostic pop

using namespace btblock;
using namespace btblock::detect;

namespace {

void compare(Bytes datagram) {
    bt_head head{};
    head.wire_len = static_cast<bt_u32>(datagram.size());
    head.len = std::min<bt_u32>(head.wire_len, BT_HEAD_LEN);
    if (head.len)
        std::memcpy(head.b, datagram.data(), head.len);
    bt_utp kernel{};
    const bool valid = bt_parse_utp(&head, &kernel);
    const UtpShape deep = read_utp(datagram);
    if (!valid)
        return;
    FUZZ_REQUIRE(kernel.header_len >= 20 && kernel.header_len <= datagram.size());
    if (!deep.valid) // it asks more of the lengths of extensions
        return;
    FUZZ_REQUIRE(deep.strict_syn == (bt_is_utp_syn(&head, &kernel) != 0));
    if (kernel.type == BT_UTP_DATA)
        FUZZ_REQUIRE(deep.data.size() == datagram.size() - kernel.header_len);
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    PipelineOptions options;
    options.flow_capacity = 8;
    options.socket_capacity = options.client_capacity = options.deep_capacity = 4;
    Pipeline pipeline(options);
    fuzz::Script script(data, size);
    std::uint64_t now = BT_NSEC_PER_SEC;
    bool answered = false, both_ways[2] = {};
    unsigned datagrams = 0;
    while (!script.done()) {
        const std::uint8_t flags = script.byte();
        const Bytes payload = script.bytes(script.byte());
        const std::vector<std::uint8_t> exact(payload.begin(), payload.end());
        compare(exact);
        const bool back = flags & 1;
        const fuzz::Endpoint client{2, static_cast<std::uint16_t>(flags & 2 ? 6882 : 6881), true},
            peer{9, 51413, false};
        const auto packet = fuzz::ip_packet(flags & 4, back ? peer : client, back ? client : peer, nullptr, exact);
        const Decision d = pipeline.packet(packet, packet.size(), now += 1'000'000);
        ++datagrams;
        both_ways[back] = true;
        answered = both_ways[0] && both_ways[1];
        FUZZ_REQUIRE((d.action == BT_ACT_DROP) == (d.evidence != 0));
        // Only a pair proves; one datagram and one direction never do.
        if (d.evidence & (BT_EV_BIT(BT_EV_UTP_PAIR) | BT_EV_BIT(BT_EV_UTP_DATA)))
            FUZZ_REQUIRE(datagrams > 1 || d.evidence & BT_EV_BIT(BT_EV_TCP_HANDSHAKE));
        if (d.evidence == BT_EV_BIT(BT_EV_UTP_PAIR))
            FUZZ_REQUIRE(answered);
    }
    return 0;
}
