// SPDX-License-Identifier: MIT
// The whole pipeline behind the library's door. The input is a script of packets: flags (bit 0 from outside, bit 1 UDP,
// bit 2 IPv6, bits 3-4 which client, bit 5 a raw IP packet instead of a payload, bit 6 cut by the capture, bit 7 time
// passes), options (bits 0-1 which port of the peer, bit 2 SYN, bit 3 a jump in the sequence, bit 4 an inside peer),
// one or two bytes of length, then the payload.
#include "btblock/btblock.hpp"
#include "script.h"
#include "target.h"

using namespace btblock;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    AnalyzerOptions options;
    options.half_flows = 6; // small enough to forget
    Analyzer analyzer(options);
    fuzz::Script script(data, size);
    std::uint32_t next[4][2] = {{5, 5}, {0xfffffff0u, 7}, {9, 9}, {1, 1}};
    constexpr std::uint16_t ports[4] = {6881, 80, 1080, 6771};
    std::uint64_t now = 0;
    std::uint64_t fed = 0;
    while (!script.done()) {
        const unsigned flags = script.byte(), more = script.byte();
        std::size_t length = script.byte();
        if (length >= 0xf0)
            length = (length & 0x0f) << 8 | script.byte();
        const unsigned who = flags >> 3 & 3;
        const bool back = flags & 1;
        const fuzz::Segment tcp{next[who][back] + (more & 8 ? script.two() : 0u),
                                static_cast<std::uint8_t>(more & 4 ? 0x02 : 0x18)};
        const detect::Bytes payload = script.bytes(length);
        const fuzz::Endpoint client{static_cast<std::uint8_t>(who + 1), static_cast<std::uint16_t>(1000 + who), true};
        const fuzz::Endpoint peer{9, ports[more & 3], (more & 16) != 0};
        std::vector<std::uint8_t> packet = flags & 32
                                               ? std::vector<std::uint8_t>(payload.begin(), payload.end())
                                               : fuzz::ip_packet(flags & 4, back ? peer : client, back ? client : peer,
                                                                 flags & 2 ? nullptr : &tcp, payload);
        if (!(flags & 34))
            next[who][back] = tcp.seq + static_cast<std::uint32_t>(payload.size());
        const std::size_t wire_length = packet.size();
        if (flags & 64)
            packet.resize(packet.size() / 2);
        packet.shrink_to_fit();
        now += flags & 128 ? 130'000'000'000u : 1'000'000u;
        const PacketVerdict v = analyzer.packet(packet, wire_length, now);
        ++fed;
        FUZZ_REQUIRE((v.verdict == Verdict::bittorrent) == !v.evidence.empty());
        FUZZ_REQUIRE(v.verdict == Verdict::other || v.is_flow);
    }
    std::uint64_t listed = 0;
    for (const Flow& f : analyzer.flows()) {
        FUZZ_REQUIRE((f.verdict == Verdict::bittorrent) == (f.first_packet != 0));
        FUZZ_REQUIRE(f.evidence.empty() == (f.first_packet == 0));
        FUZZ_REQUIRE(f.first_seen >= 1 && f.first_seen <= f.last_seen && f.last_seen <= fed);
        FUZZ_REQUIRE(f.first_packet == 0 || (f.first_packet >= f.first_seen && f.first_packet <= f.last_seen));
        listed += f.packets;
    }
    FUZZ_REQUIRE(listed <= fed);
    return 0;
}
