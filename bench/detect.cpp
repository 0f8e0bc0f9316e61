// SPDX-License-Identifier: MIT
// bench_detect: ns a packet of every detector alone, of the deep detectors together (Inspector), of the kernel's
// detectors (facts) and of the whole decision in user space (Pipeline), over the same payloads.
#include "bpf/Scenarios.h"
#include "detect/Bencode.h"
#include "detect/Dht.h"
#include "detect/Entropy.h"
#include "detect/Extension.h"
#include "detect/Handshake.h"
#include "detect/Http.h"
#include "detect/Inspector.h"
#include "detect/Messages.h"
#include "detect/Names.h"
#include "detect/Pipeline.h"
#include "detect/Signatures.h"
#include "detect/Socks.h"
#include "detect/Tracker.h"
#include "detect/Utp.h"

#include "btblock/detect.h"

#include <benchmark/benchmark.h>
#include <functional>
#include <span>

namespace {

using namespace btblock;
using detect::Bytes;
using test::Packet;

Bytes bytes(const std::string& s) {
    return {reinterpret_cast<const std::uint8_t*>(s.data()), s.size()};
}

// ---------------------------------------------------------------- payloads

struct Sample {
    std::string name;
    std::string payload;
    bool tcp;
};

std::string filled(std::string start, std::size_t size, const std::string& filler) {
    while (start.size() < size)
        start += filler;
    return start.substr(0, size);
}

std::string request(std::size_t size) {
    const std::string end = "\r\nAccept: */*\r\n\r\n";
    return filled("GET /search?q=text&lang=en HTTP/1.1\r\nHost: www.example\r\nCookie: c=", size - end.size(),
                  "0123456789abcdef") +
           end;
}

std::vector<Sample> samples() {
    const std::string announce =
        "GET /announce?info_hash=%124Vx%9a%bc%de%f1%23Eg%89%ab%cd%ef%124Vx%9a&peer_id=-TR3000-abcdefghijkl"
        "&port=6881&left=0 HTTP/1.1\r\nHost: tracker.example\r\n\r\n";
    std::vector<Sample> all{
        {"early-hit", test::handshake(), true},
        {"http-tracker", announce, true},
        {"dht-query", test::dht_query(), false},
        {"dht-response", test::dht_response(), false},
        {"udp-tracker", test::tracker_announce(), false},
        {"utp-syn", test::utp(4, 4660, 1, 0), false},
        {"utp-data", test::utp(0, 4660, 7, 9, 5000, test::noise(1380, 3)), false},
        {"mse-first", test::noise(96 + 100, 4), true},
        {"peer-messages", filled("", 1400, std::string("\0\0\0\x05\x04\0\0\0\x07", 9)), true},
        {"bencode", "d1:ad2:xy" + filled("", 600, "3:abci42e") + "ee", false},
        {"socks-udp", test::socks_udp(3, test::noise(300, 9)), false},
        {"dns", test::dns_query(), false},
        {"quic", test::quic_initial(), false},
    };
    for (const std::size_t size : {100u, 400u, 1400u}) {
        const std::string n = "/" + std::to_string(size);
        all.push_back({"tls" + n, filled(test::tls_hello(), size, test::noise(64, 8)), true});
        all.push_back({"http" + n, request(size), true});
        all.push_back({"text" + n, filled("", size, "the quick brown fox jumps over the lazy dog, 42 times; "), true});
        all.push_back({"random-tcp" + n, test::noise(size, 6), true});
        all.push_back({"random-udp" + n, test::noise(size, 7), false});
    }
    return all;
}

// ---------------------------------------------------------------- what is measured

using Detector = std::function<void(Bytes)>;

std::vector<std::pair<std::string, Detector>> detectors() {
    using benchmark::DoNotOptimize;
    static std::array<bt_endpoint, 256> room;
    static detect::EndpointSink sink{room};
    static detect::TrackerRequests asked;
    return {
        {"handshake", [](Bytes b) { DoNotOptimize(detect::match_handshake(b)); }},
        {"dht", [](Bytes b) { sink.clear(), DoNotOptimize(detect::inspect_dht(b, sink)); }},
        {"tracker-request", [](Bytes b) { DoNotOptimize(detect::inspect_tracker_request(b, asked)); }},
        {"tracker-response",
         [](Bytes b) { sink.clear(), DoNotOptimize(detect::inspect_tracker_response(b, asked, false, sink)); }},
        {"tracker-reply",
         [](Bytes b) { sink.clear(), DoNotOptimize(detect::read_tracker_reply(b, false, true, sink)); }},
        {"http-request", [](Bytes b) { DoNotOptimize(detect::read_http_request(b, true)); }},
        {"client-hello",
         [](Bytes b) {
             detect::ClientHello hello;
             hello.feed(b);
             DoNotOptimize(hello.done());
         }},
        {"http-response", [](Bytes b) { DoNotOptimize(detect::read_http_response(b)); }},
        {"message", [](Bytes b) { sink.clear(), DoNotOptimize(detect::read_message(b, true, sink)); }},
        {"extension-handshake", [](Bytes b) { DoNotOptimize(detect::read_extension_handshake(b)); }},
        {"extension-message", [](Bytes b) { sink.clear(), DoNotOptimize(detect::read_extension_message(b, sink)); }},
        {"socks-client", [](Bytes b) { DoNotOptimize(detect::read_socks_client(b)); }},
        {"socks-server", [](Bytes b) { DoNotOptimize(detect::read_socks_server(b)); }},
        {"socks-udp", [](Bytes b) { DoNotOptimize(detect::unwrap_socks_udp(b)); }},
        {"utp", [](Bytes b) { DoNotOptimize(detect::read_utp(b)); }},
        {"entropy", [](Bytes b) { DoNotOptimize(detect::looks_random(b)); }},
        {"bencode", [](Bytes b) { DoNotOptimize(detect::bencode::is_complete_value(b)); }},
    };
}

void detector(benchmark::State& state, const Sample& sample, const Detector& run) {
    for (auto _ : state)
        run(bytes(sample.payload));
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(sample.payload.size()));
}

// The kernel's detectors on the head.
void facts(benchmark::State& state, const Sample& sample) {
    bt_head head{};
    head.wire_len = static_cast<bt_u32>(sample.payload.size());
    head.len = std::min<bt_u32>(head.wire_len, BT_HEAD_LEN);
    std::memcpy(head.b, sample.payload.data(), head.len);
    const bt_tuple tuple = Packet::udp(test::client4, 1, test::remote4, 4000).tuple();
    bt_facts found{};
    for (auto _ : state) {
        if (sample.tcp)
            bt_tcp_facts(&head, 0, &found);
        else
            bt_udp_facts(&tuple, &head, &found);
        benchmark::DoNotOptimize(found);
    }
}

// The first payload of a half-flow, 65536 of them in turn.
void inspector(benchmark::State& state, const Sample& sample) {
    detect::Inspector inspect(65536);
    detect::Payload p;
    p.tuple = (sample.tcp ? Packet::tcp(test::client4, 1, test::remote4, 4000)
                          : Packet::udp(test::client4, 1, test::remote4, 4000))
                  .tuple();
    p.bytes = bytes(sample.payload);
    p.has_seq = sample.tcp;
    std::uint64_t now = 1;
    for (auto _ : state) {
        ++p.tuple.sport;
        p.seq += p.tuple.sport == 0 ? 1u << 26 : 0; // far enough to be another connection
        benchmark::DoNotOptimize(inspect.inspect(p, now += 1000));
    }
}

// The first payload of a half-flow; 65536 of them in turn, then all anew.
void pipeline_new(benchmark::State& state, const Sample& sample) {
    Packet packet = sample.tcp ? Packet::tcp(test::client4, 0, test::remote4, 4000)
                               : Packet::udp(test::client4, 0, test::remote4, 4000);
    std::string ip = packet.payload(sample.payload).ip();
    auto pipeline = std::make_unique<detect::Pipeline>();
    std::uint64_t now = 1;
    unsigned port = 0;
    for (auto _ : state) {
        if (port == 65536) {
            state.PauseTiming();
            pipeline = std::make_unique<detect::Pipeline>();
            port = 0;
            state.ResumeTiming();
        }
        ip[20] = static_cast<char>(port >> 8);
        ip[21] = static_cast<char>(port++);
        benchmark::DoNotOptimize(pipeline->packet(bytes(ip), ip.size(), now += 1000));
    }
}

// The same packet again and again: a half-flow in the state that the packet leads to.
void pipeline_known(benchmark::State& state, const Sample& sample) {
    Packet packet = sample.tcp ? Packet::tcp(test::client4, 1, test::remote4, 4000)
                               : Packet::udp(test::client4, 1, test::remote4, 4000);
    const std::string ip = packet.payload(sample.payload).ip();
    detect::Pipeline pipeline;
    std::uint64_t now = 1;
    for (auto _ : state)
        benchmark::DoNotOptimize(pipeline.packet(bytes(ip), ip.size(), now += 1000));
}

} // namespace

int main(int argc, char** argv) {
    static const std::vector<Sample> all = samples();
    for (const Sample& sample : all) {
        const auto add = [&](const std::string& what, auto run) {
            benchmark::RegisterBenchmark((what + ":" + sample.name).c_str(), run);
        };
        for (const auto& [name, run] : detectors())
            add("detector-" + name, [&sample, run = run](benchmark::State& s) { detector(s, sample, run); });
        add("facts", [&sample](benchmark::State& s) { facts(s, sample); });
        add("inspector", [&sample](benchmark::State& s) { inspector(s, sample); });
        add("pipeline-new", [&sample](benchmark::State& s) { pipeline_new(s, sample); });
        add("pipeline-known", [&sample](benchmark::State& s) { pipeline_known(s, sample); });
    }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
        return 2;
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
