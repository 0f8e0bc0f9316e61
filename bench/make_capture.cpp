// SPDX-License-Identifier: MIT
// make_capture: one large capture out of many small ones. Their packets are repeated, each round with other addresses
// and later times, so that every round's connections are new ones; and some connections of plain data go on beside
// them, since most bytes of real traffic belong to few connections.
//   make_capture OUTPUT ROUNDS BULK CAPTURE...      BULK: packets of plain data in each round
#include "net/CaptureReader.h"
#include "net/Decapsulate.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <pcap/pcap.h>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace btblock;

struct Stored {
    std::uint64_t time_ns; // since the first packet of its capture
    std::uint32_t capture;
    std::vector<std::uint8_t> ip;
    std::size_t wire_length;
};

constexpr std::uint64_t round_ns = 1'000'000'000;
constexpr unsigned bulk_flows = 16;

[[noreturn]] void fail(const std::string& why) {
    std::fprintf(stderr, "make_capture: %s\n", why.c_str());
    std::exit(1);
}

// Captures with unusual link types come out as plain IP. One that cannot be read to its end is for other tests.
void read(const std::string& path, std::uint32_t number, std::vector<Stored>& into) {
    auto reader = net::CaptureReader::open(path);
    if (!reader)
        return;
    net::CapturedPacket packet;
    std::uint64_t first = 0;
    for (;;) {
        const auto more = reader->next(packet);
        if (!more || !*more)
            return;
        first = first ? first : packet.time_ns;
        if (const auto ip = net::decapsulate(reader->link_type(), packet.bytes, packet.wire_length))
            into.push_back({packet.time_ns > first ? packet.time_ns - first : 0,
                            number,
                            {ip->bytes.begin(), ip->bytes.end()},
                            ip->wire_length});
    }
}

// Other addresses for each capture of each round. Inside stays inside, outside stays outside, groups stay what they
// are.
void move_address(std::uint8_t* a, bool v6, std::uint32_t number) {
    if (v6 ? a[0] == 0xff : a[0] >= 224)
        return;
    const bool narrow = !v6 && (a[0] == 100 || a[0] == 169 || a[0] == 172 || a[0] == 192); // 16 bits or little more
    std::uint8_t* at = a + (v6 ? 5 : 1);
    at[0] = static_cast<std::uint8_t>(at[0] ^ (narrow ? 0 : number >> 16));
    at[1] = static_cast<std::uint8_t>(at[1] ^ number >> 8);
    at[2] = static_cast<std::uint8_t>(at[2] ^ number);
}

class Writer {
public:
    explicit Writer(const std::string& path) : type_(pcap_open_dead(DLT_RAW, 65535)) {
        file_ = pcap_dump_open(type_, path.c_str());
        if (!file_)
            fail(pcap_geterr(type_));
    }
    ~Writer() {
        pcap_dump_close(file_);
        pcap_close(type_);
    }
    void put(std::uint64_t time_ns, const std::vector<std::uint8_t>& ip, std::size_t wire_length) {
        pcap_pkthdr header{};
        header.ts.tv_sec = static_cast<time_t>(1'700'000'000 + time_ns / 1'000'000'000);
        header.ts.tv_usec = static_cast<suseconds_t>(time_ns % 1'000'000'000 / 1000);
        header.caplen = static_cast<bpf_u_int32>(ip.size());
        header.len = static_cast<bpf_u_int32>(wire_length);
        pcap_dump(reinterpret_cast<u_char*>(file_), &header, ip.data());
    }
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;

private:
    pcap_t* type_;
    pcap_dumper_t* file_;
};

// TCP segments of downloads that began before the capture.
std::vector<std::uint8_t> bulk_segment() {
    std::vector<std::uint8_t> p(40 + 1400);
    const std::uint8_t header[40] = {0x45, 0,  5,  0xa0, 0,    7,    0,    0,    64,   6, 0, 0, 203, 0,
                                     113,  80, 10, 9,    0,    2,    1,    187,  0xc0, 0, 0, 0, 0,   0,
                                     0,    0,  0,  1,    0x50, 0x10, 0xff, 0xff, 0,    0, 0, 0};
    std::copy(std::begin(header), std::end(header), p.begin());
    std::mt19937 random(1);
    std::generate(p.begin() + 40, p.end(), [&] { return static_cast<std::uint8_t>(random() >> 13); });
    return p;
}

bool number(const char* text, unsigned& into) {
    return std::from_chars(text, text + std::strlen(text), into).ec == std::errc{};
}

} // namespace

int main(int argc, char** argv) {
    unsigned rounds = 0, bulk_per_round = 0;
    if (argc < 5 || !number(argv[2], rounds) || rounds == 0 || rounds > 65536 || !number(argv[3], bulk_per_round))
        fail("usage: make_capture OUTPUT ROUNDS(1..65536) BULK CAPTURE...");
    std::vector<Stored> packets;
    for (int i = 4; i < argc; ++i)
        read(argv[i], static_cast<std::uint32_t>(i - 4), packets);
    if (packets.empty())
        fail("no packet in the captures");
    std::ranges::stable_sort(packets, {}, &Stored::time_ns);
    const std::uint64_t span = std::max(round_ns, packets.back().time_ns + 1);

    const auto captures = static_cast<std::uint32_t>(argc - 4);
    Writer out(argv[1]);
    std::vector<std::uint8_t> bulk = bulk_segment();
    std::uint32_t sequence = 0;
    for (unsigned round = 0; round < rounds; ++round) {
        const std::uint64_t start = round * span;
        std::size_t sent = 0;
        for (const Stored& packet : packets) {
            std::vector<std::uint8_t> ip = packet.ip;
            const bool v6 = ip[0] >> 4 == 6;
            const std::size_t at = v6 ? 8 : 12, size = v6 ? 16 : 4;
            const std::uint32_t copy = round * captures + packet.capture;
            move_address(&ip[at], v6, copy);
            move_address(&ip[at + size], v6, copy);
            out.put(start + packet.time_ns, ip, packet.wire_length);
            for (; sent * packets.size() < bulk_per_round * static_cast<std::size_t>(&packet - packets.data() + 1);
                 ++sent) {
                bulk[19] = static_cast<std::uint8_t>(sent % bulk_flows);
                for (int i = 0; i < 4; ++i)
                    bulk[24 + i] = static_cast<std::uint8_t>(sequence >> (24 - 8 * i));
                sequence += sent % bulk_flows == 0 ? 1400 : 0;
                out.put(start + packet.time_ns, bulk, bulk.size());
            }
        }
    }
    return 0;
}
