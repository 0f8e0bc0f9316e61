// SPDX-License-Identifier: MIT
// ns per packet of detect::Pipeline (the kernel's path plus deep detectors) and detect::Inspector (deep detectors
// alone).
#include "bpf/Scenarios.h"
#include "detect/Inspector.h"
#include "detect/Pipeline.h"

#include <benchmark/benchmark.h>
#include <functional>
#include <span>

namespace {

using namespace btblock;
using test::Packet;

std::span<const std::uint8_t> bytes(const std::string& s) {
    return {reinterpret_cast<const std::uint8_t*>(s.data()), s.size()};
}

// The same packet again and again: one flow, in the state that the packet leads to.
void repeated(benchmark::State& state, const Packet& packet) {
    detect::Pipeline pipeline;
    const std::string ip = packet.ip();
    std::uint64_t now = 1;
    for (auto _ : state)
        benchmark::DoNotOptimize(pipeline.packet(bytes(ip), ip.size(), now += 1000));
    state.SetItemsProcessed(state.iterations());
}

// A new flow with every packet, 65536 of them in turn.
void fresh(benchmark::State& state, const std::string& payload, bool tcp) {
    std::vector<std::string> packets;
    for (unsigned i = 0; i < 65536; ++i)
        packets.push_back((tcp ? Packet::tcp(test::client4, static_cast<std::uint16_t>(i), test::remote4, 4000)
                               : Packet::udp(test::client4, static_cast<std::uint16_t>(i), test::remote4, 4000))
                              .payload(payload)
                              .ip());
    std::uint64_t now = 1;
    auto pipeline = std::make_unique<detect::Pipeline>();
    std::size_t at = 0;
    for (auto _ : state) {
        if (at == packets.size()) {
            state.PauseTiming();
            pipeline = std::make_unique<detect::Pipeline>();
            at = 0;
            state.ResumeTiming();
        }
        const std::string& ip = packets[at++];
        benchmark::DoNotOptimize(pipeline->packet(bytes(ip), ip.size(), now += 1000));
    }
    state.SetItemsProcessed(state.iterations());
}

// Deep detectors on payload packets of one kind, 4096 flows in turn.
void inspected(benchmark::State& state, const std::string& payload, bool tcp) {
    detect::Inspector inspector(65536);
    detect::Payload p;
    p.tuple =
        (tcp ? Packet::tcp(test::client4, 1, test::remote4, 80) : Packet::udp(test::client4, 1, test::remote4, 80))
            .tuple();
    p.bytes = bytes(payload);
    p.has_seq = tcp;
    std::uint64_t now = 1;
    for (auto _ : state) {
        p.tuple.sport = static_cast<bt_u16>((p.tuple.sport + 1) & 0xfff);
        p.seq = p.tuple.sport ? p.seq : p.seq + static_cast<std::uint32_t>(payload.size());
        benchmark::DoNotOptimize(inspector.inspect(p, now += 1000));
    }
    state.SetItemsProcessed(state.iterations());
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(payload.size()));
}

const std::string request =
    "GET /announce?info_hash=%124Vx%9a%bc%de%f1%23Eg%89%ab%cd%ef%124Vx%9a&peer_id=-TR3000-abcdefghijkl"
    "&port=6881&left=0 HTTP/1.1\r\nHost: tracker.example\r\n\r\n";
const std::string page = "GET /search?q=text HTTP/1.1\r\nHost: www.example\r\nAccept: */*\r\n\r\n";

} // namespace

BENCHMARK_CAPTURE(repeated, pipeline_clean_flow,
                  Packet::tcp(test::client4, 1, test::remote4, 443).payload(test::tls_hello()));
BENCHMARK_CAPTURE(repeated, pipeline_blocked_flow,
                  Packet::udp(test::client4, 1, test::remote4, 2).payload(test::dht_query()));
BENCHMARK_CAPTURE(fresh, pipeline_new_flow_udp, test::noise(200, 1), false);
BENCHMARK_CAPTURE(fresh, pipeline_new_flow_tcp, test::noise(200, 1), true);
BENCHMARK_CAPTURE(fresh, pipeline_new_flow_http, page, true);
BENCHMARK_CAPTURE(inspected, inspector_http_tracker, request, true);
BENCHMARK_CAPTURE(inspected, inspector_http_page, page, true);
BENCHMARK_CAPTURE(inspected, inspector_dht_query, test::dht_query(), false);
BENCHMARK_CAPTURE(inspected, inspector_random_tcp, test::noise(1400, 1), true);
BENCHMARK_CAPTURE(inspected, inspector_random_udp, test::noise(1200, 1), false);

BENCHMARK_MAIN();
