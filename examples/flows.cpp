// SPDX-License-Identifier: MIT
// What an own program does with libbtblock: the BitTorrent flows of capture files, and the verdict on single packets.
//     c++ -std=c++20 flows.cpp $(pkg-config --cflags --libs btblock) -o flows
//     ./flows capture.pcap...
#include <btblock/btblock.hpp>
#include <cstring>
#include <iostream>

namespace {

// A file: prints one line for each BitTorrent flow. False when it could not be read to its end.
bool show(const char* path) {
    btblock::Analyzer analyzer;
    const btblock::CaptureInfo info = analyzer.read_capture(path);
    for (const btblock::Flow& f : analyzer.flows())
        if (f.verdict == btblock::Verdict::bittorrent)
            std::cout << to_string(f.proto) << ',' << f.src.to_string() << ',' << f.sport << ',' << f.dst.to_string()
                      << ',' << f.dport << ',' << f.packets << ',' << to_string(f.verdict) << ','
                      << f.evidence.to_string() << ',' << f.first_packet << '\n';
    if (!info.error.empty())
        std::cerr << info.error << '\n';
    return info.error.empty();
}

// Packets as they come from wherever: a DHT query of 192.168.0.2 in its IPv4 and UDP headers.
bool feed_a_packet() {
    static const char packet[] = "\x45\0\0\x60\0\0\0\0\x40\x11\0\0\xc0\xa8\0\x02\xcb\0\x71\x07"
                                 "\x1a\xe1\x1a\xe1\0\x4c\0\0"
                                 "d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
    const std::size_t length = 20 + 8 + std::strlen("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe");
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(packet);

    btblock::AnalyzerOptions options;
    options.inside = {*btblock::IpPrefix::parse("192.168.0.0/16")};
    options.list_flows = false; // only the verdict on each packet, in bounded memory
    btblock::Analyzer analyzer(options);
    const btblock::PacketVerdict verdict = analyzer.packet({bytes, length}, length, 1'000'000);
    std::cout << "packet: " << to_string(verdict.verdict) << ", " << verdict.evidence.to_string() << '\n';
    return verdict.verdict == btblock::Verdict::bittorrent;
}

} // namespace

int main(int argc, char** argv) {
    if (argc < 2)
        return feed_a_packet() ? 0 : 1;
    bool good = true;
    for (int i = 1; i < argc; ++i)
        good &= show(argv[i]);
    return good ? 0 : 1;
}
