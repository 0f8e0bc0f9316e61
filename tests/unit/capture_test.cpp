// SPDX-License-Identifier: MIT
#include "app/Analyze.h"
#include "net/Address.h"
#include "net/CaptureReader.h"
#include "net/Decapsulate.h"
#include "net/Packet.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <nlohmann/json.hpp>
#include <pcap/dlt.h>
#include <random>
#include <span>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace {

using namespace btblock;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;
using Bytes = std::vector<std::uint8_t>;

Bytes operator+(Bytes a, const Bytes& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

Bytes be16(unsigned v) {
    return {static_cast<std::uint8_t>(v >> 8), static_cast<std::uint8_t>(v)};
}
Bytes be32(unsigned v) {
    return be16(v >> 16) + be16(v & 0xffff);
}
Bytes text(std::string_view s) {
    return Bytes(s.begin(), s.end());
}

Bytes udp(const Bytes& payload, unsigned sport = 1000, unsigned dport = 2000) {
    return be16(sport) + be16(dport) + be16(static_cast<unsigned>(8 + payload.size())) + be16(0) + payload;
}

Bytes tcp(const Bytes& payload, const Bytes& options = {}) {
    return be16(1000) + be16(2000) + be32(0x01020304) + be32(0x05060708) +
           be16(static_cast<unsigned>((20 + options.size()) / 4 << 12 | 0x18)) + be16(64240) + be32(0) + options +
           payload;
}

Bytes v4(unsigned proto, const Bytes& payload, const Bytes& options = {}, unsigned fragment = 0) {
    const auto head = static_cast<unsigned>(20 + options.size());
    return Bytes{static_cast<std::uint8_t>(0x40 | head / 4), 0} + be16(static_cast<unsigned>(head + payload.size())) +
           be16(1) + be16(fragment) + Bytes{64, static_cast<std::uint8_t>(proto)} + be16(0) + Bytes{10, 0, 0, 5} +
           Bytes{203, 0, 113, 9} + options + payload;
}

Bytes v6(unsigned next, const Bytes& payload) {
    Bytes address(16);
    address[0] = 0xfd;
    return be32(6u << 28) + be16(static_cast<unsigned>(payload.size())) + Bytes{static_cast<std::uint8_t>(next), 64} +
           address + address + payload;
}

Bytes ethernet(unsigned type, const Bytes& payload) {
    return Bytes(12, 2) + be16(type) + payload;
}

// Parses exactly as many bytes as given, on the heap: a read beyond them is seen by the sanitizer.
// The result's payload is good until the next call.
std::optional<net::ParsedPacket> parse_exact(const Bytes& bytes, std::size_t wire = 0) {
    static std::unique_ptr<std::uint8_t[]> copy;
    copy.reset(new std::uint8_t[bytes.size()]);
    std::copy(bytes.begin(), bytes.end(), copy.get());
    return net::parse_packet({copy.get(), bytes.size()}, wire ? wire : bytes.size());
}

// ---------------------------------------------------------------- Packet

TEST(Packet, UdpOverV4) {
    const Bytes payload = text("hello");
    const auto p = parse_exact(v4(IPPROTO_UDP, udp(payload), {}));
    ASSERT_TRUE(p);
    EXPECT_EQ(p->tuple.proto, IPPROTO_UDP);
    EXPECT_EQ(net::Address(p->tuple.src).to_string(), "10.0.0.5");
    EXPECT_EQ(net::Address(p->tuple.dst).to_string(), "203.0.113.9");
    EXPECT_EQ(p->tuple.sport, 1000);
    EXPECT_EQ(p->tuple.dport, 2000);
    EXPECT_EQ(p->payload_offset, 28u);
    EXPECT_EQ(p->payload_length, 5u);
    EXPECT_EQ(Bytes(p->payload.begin(), p->payload.end()), payload);
}

TEST(Packet, TcpWithOptions) {
    const auto p = parse_exact(v4(IPPROTO_TCP, tcp(text("data"), Bytes(12, 1)), Bytes(8, 1)));
    ASSERT_TRUE(p);
    EXPECT_EQ(p->seq, 0x01020304u);
    EXPECT_EQ(p->ack, 0x05060708u);
    EXPECT_EQ(p->tcp_flags, 0x18);
    EXPECT_EQ(p->payload_offset, 28u + 32u);
    EXPECT_EQ(std::string(p->payload.begin(), p->payload.end()), "data");
}

TEST(Packet, LinkLayerPaddingIsNotPayload) {
    const auto p = parse_exact(v4(IPPROTO_TCP, tcp({})) + Bytes(6, 0xa5));
    ASSERT_TRUE(p);
    EXPECT_EQ(p->payload_length, 0u);
    EXPECT_TRUE(p->payload.empty());
}

TEST(Packet, UdpLengthTruncates) {
    const Bytes datagram = be16(1) + be16(2) + be16(8 + 3) + be16(0) + text("abcdefgh");
    const auto p = parse_exact(v4(IPPROTO_UDP, datagram));
    ASSERT_TRUE(p);
    EXPECT_EQ(p->payload_length, 3u);
    EXPECT_EQ(p->payload.size(), 3u);
}

TEST(Packet, TrueLengthOfATruncatedCapture) {
    Bytes packet = v4(IPPROTO_UDP, udp(Bytes(1000, 7)));
    const std::size_t wire = packet.size();
    packet.resize(128);
    const auto p = parse_exact(packet, wire);
    ASSERT_TRUE(p);
    EXPECT_EQ(p->payload_length, 1000u);
    EXPECT_EQ(p->payload.size(), 100u);
}

TEST(Packet, TotalLengthZeroMeansTheWireLength) {
    Bytes packet = v4(IPPROTO_TCP, tcp(Bytes(50, 1)));
    packet[2] = packet[3] = 0;
    const auto p = parse_exact(packet);
    ASSERT_TRUE(p);
    EXPECT_EQ(p->payload_length, 50u);
}

TEST(Packet, V6ExtensionHeaders) {
    const Bytes hop = Bytes{IPPROTO_DSTOPTS, 0, 1, 4, 0, 0, 0, 0};
    const Bytes dst = Bytes{IPPROTO_ROUTING, 1} + Bytes(14);
    const Bytes route = Bytes{IPPROTO_AH, 2} + Bytes(22);
    const Bytes ah = Bytes{IPPROTO_FRAGMENT, 4} + Bytes(22);
    const Bytes fragment = Bytes{IPPROTO_UDP, 0, 0, 1, 0, 0, 0, 9};
    const auto p = parse_exact(v6(IPPROTO_HOPOPTS, hop + dst + route + ah + fragment + udp(text("hi"))));
    ASSERT_TRUE(p);
    EXPECT_FALSE(p->later_fragment);
    EXPECT_EQ(p->payload_offset, 40u + 8 + 16 + 24 + 24 + 8 + 8);
    EXPECT_EQ(p->payload_length, 2u);
    EXPECT_EQ(net::Address(p->tuple.src).to_string(), "fd00::");
}

TEST(Packet, V6ExtensionHeadersAreBounded) {
    Bytes headers;
    for (int i = 0; i < 100; ++i)
        headers = headers + Bytes{IPPROTO_DSTOPTS, 0, 0, 0, 0, 0, 0, 0};
    headers[headers.size() - 8] = IPPROTO_UDP;
    EXPECT_FALSE(parse_exact(v6(IPPROTO_DSTOPTS, headers + udp({}))));
}

TEST(Packet, LaterFragmentsHaveNoPorts) {
    const auto four = parse_exact(v4(IPPROTO_UDP, Bytes(100, 9), {}, 0x2000 | 185));
    ASSERT_TRUE(four);
    EXPECT_TRUE(four->later_fragment);
    EXPECT_EQ(four->tuple.sport, 0);
    EXPECT_TRUE(four->payload.empty());
    const auto six = parse_exact(v6(IPPROTO_FRAGMENT, Bytes{IPPROTO_TCP, 0, 0, 8, 0, 0, 0, 9} + Bytes(100, 9)));
    ASSERT_TRUE(six);
    EXPECT_TRUE(six->later_fragment);
    const auto first = parse_exact(v4(IPPROTO_UDP, udp(text("first")), {}, 0x2000));
    ASSERT_TRUE(first);
    EXPECT_FALSE(first->later_fragment);
    EXPECT_EQ(first->payload_length, 5u);
}

TEST(Packet, RefusesWhatIsNotTcpOrUdp) {
    EXPECT_FALSE(parse_exact({}));
    EXPECT_FALSE(parse_exact({0x45}));
    EXPECT_FALSE(parse_exact(Bytes(60, 0x55)));             // version 5
    EXPECT_FALSE(parse_exact(v4(IPPROTO_ICMP, Bytes(40)))); // another protocol
    Bytes short_header = v4(IPPROTO_UDP, udp(text("x")));
    short_header[0] = 0x44;
    EXPECT_FALSE(parse_exact(short_header));
    Bytes short_total = v4(IPPROTO_UDP, udp(text("x")));
    short_total[3] = 19;
    EXPECT_FALSE(parse_exact(short_total));
}

TEST(Packet, MalformedTransportHeaderLeavesNoPayload) {
    Bytes packet = v4(IPPROTO_TCP, tcp(text("data")));
    packet[20 + 12] = 0x40; // header length 16
    auto p = parse_exact(packet);
    ASSERT_TRUE(p);
    EXPECT_EQ(p->payload_length, 0u);
    packet[20 + 12] = 0xf0; // longer than the packet
    p = parse_exact(packet);
    ASSERT_TRUE(p);
    EXPECT_EQ(p->payload_length, 0u);
    EXPECT_EQ(p->tuple.sport, 1000);
}

TEST(Packet, EveryTruncation) {
    const Bytes packets[] = {v4(IPPROTO_TCP, tcp(text("payload"), Bytes(12, 1)), Bytes(8, 1)),
                             v6(IPPROTO_HOPOPTS, Bytes{IPPROTO_UDP, 1} + Bytes(14) + udp(text("payload")))};
    const std::size_t ports_end[] = {28 + 4, 56 + 4};
    for (int i : {0, 1})
        for (std::size_t n = 0; n <= packets[i].size(); ++n) {
            const auto p =
                parse_exact(Bytes(packets[i].begin(), packets[i].begin() + static_cast<long>(n)), packets[i].size());
            ASSERT_EQ(p.has_value(), n >= ports_end[i]) << i << " cut at " << n;
            if (p) {
                ASSERT_LE(p->payload.size(), p->payload_length);
                ASSERT_EQ(p->payload_length == 7, n >= packets[i].size() - 7 - (i == 0 ? 12 : 0))
                    << i << " cut at " << n;
            }
        }
}

// ---------------------------------------------------------------- Decapsulate

std::optional<net::IpPacket> open_frame(int link_type, const Bytes& frame, std::size_t wire = 0) {
    return net::decapsulate(link_type, frame, wire ? wire : frame.size());
}

void expect_opens(int link_type, const Bytes& frame, const Bytes& ip) {
    const auto packet = open_frame(link_type, frame);
    ASSERT_TRUE(packet);
    EXPECT_EQ(Bytes(packet->bytes.begin(), packet->bytes.end()), ip);
    EXPECT_EQ(packet->wire_length, ip.size());
}

TEST(Decapsulate, LinkTypes) {
    const Bytes ip = v4(IPPROTO_UDP, udp(text("x")));
    const Bytes ip6 = v6(IPPROTO_TCP, tcp(text("y")));
    expect_opens(DLT_EN10MB, ethernet(0x0800, ip), ip);
    expect_opens(DLT_EN10MB, ethernet(0x86dd, ip6), ip6);
    expect_opens(DLT_RAW, ip6, ip6);
    expect_opens(DLT_LINUX_SLL, Bytes(14) + be16(0x0800) + ip, ip);
    expect_opens(DLT_LINUX_SLL2, be16(0x86dd) + Bytes(18) + ip6, ip6);
    expect_opens(DLT_NULL, Bytes{2, 0, 0, 0} + ip, ip);
    expect_opens(DLT_NULL, Bytes{0, 0, 0, 30} + ip6, ip6);
    expect_opens(DLT_PPP, Bytes{0xff, 3, 0, 0x57} + ip6, ip6);
    expect_opens(DLT_PPP_ETHER, Bytes{0x11, 0, 0, 1, 0, 40, 0, 0x21} + ip, ip);
    expect_opens(DLT_C_HDLC, Bytes{0x0f, 0, 8, 0} + ip, ip);
}

TEST(Decapsulate, PaddingIsCutOff) {
    const Bytes ip = v4(IPPROTO_UDP, udp(text("x")));
    expect_opens(DLT_EN10MB, ethernet(0x0800, ip + Bytes(17, 0xa5)), ip);
}

TEST(Decapsulate, StackedTagsAndTunnels) {
    const Bytes ip = v4(IPPROTO_TCP, tcp(text("data")));
    const Bytes six = v6(IPPROTO_UDP, udp(text("data")));
    expect_opens(DLT_EN10MB, ethernet(0x88a8, be16(1) + be16(0x8100) + be16(2) + be16(0x0800) + ip), ip);
    expect_opens(DLT_EN10MB, ethernet(0x8847, be32(0x00010040) + be32(0x00020140) + six), six);
    expect_opens(DLT_EN10MB, ethernet(0x0800, v4(IPPROTO_IPV6, six)), six);
    expect_opens(DLT_EN10MB, ethernet(0x86dd, v6(IPPROTO_IPIP, ip)), ip);
    expect_opens(DLT_RAW, v4(IPPROTO_GRE, be16(0xb000) + be16(0x0800) + Bytes(12) + ip), ip);
    expect_opens(DLT_RAW, v4(IPPROTO_GRE, be16(0x3081) + be16(0x880b) + Bytes(12) + Bytes{0xff, 3, 0, 0x21} + ip), ip);
    expect_opens(DLT_RAW, v4(IPPROTO_GRE, be16(0) + be16(0x6558) + ethernet(0x0800, ip)), ip);
}

TEST(Decapsulate, UdpTunnelsStayClosed) {
    const Bytes inner = v4(IPPROTO_TCP, tcp(text("data")));
    const Bytes vxlan = v4(IPPROTO_UDP, udp(Bytes{8, 0, 0, 0, 0, 0, 7, 0} + ethernet(0x0800, inner), 1000, 4789));
    expect_opens(DLT_RAW, vxlan, vxlan);
}

TEST(Decapsulate, TruncatedCaptureKeepsTheTrueLength) {
    Bytes frame = ethernet(0x8100, be16(1) + be16(0x0800) +
                                       v4(IPPROTO_GRE, be16(0) + be16(0x0800) + v4(IPPROTO_UDP, udp(Bytes(900)))));
    const std::size_t wire = frame.size();
    frame.resize(100);
    const auto packet = open_frame(DLT_EN10MB, frame, wire);
    ASSERT_TRUE(packet);
    EXPECT_EQ(packet->wire_length, 928u);
    EXPECT_EQ(packet->bytes.size(), 100u - 18 - 24);
}

TEST(Decapsulate, DepthIsBounded) {
    Bytes ip = v4(IPPROTO_UDP, udp(text("x")));
    for (int i = 0; i < 10; ++i)
        ip = v4(IPPROTO_IPIP, ip);
    EXPECT_TRUE(open_frame(DLT_RAW, ip));
    for (int i = 0; i < 40; ++i)
        ip = v4(IPPROTO_IPIP, ip);
    EXPECT_FALSE(open_frame(DLT_RAW, ip));
    Bytes tags;
    for (int i = 0; i < 200; ++i)
        tags = tags + be16(1) + be16(0x8100);
    EXPECT_FALSE(open_frame(DLT_EN10MB, ethernet(0x8100, tags)));
}

TEST(Decapsulate, NothingInOtherTraffic) {
    EXPECT_FALSE(open_frame(DLT_EN10MB, {}));
    EXPECT_FALSE(open_frame(DLT_EN10MB, ethernet(0x0806, Bytes(46))));
    EXPECT_FALSE(open_frame(DLT_EN10MB, ethernet(38, Bytes{0x42, 0x42, 3} + Bytes(43)))); // spanning tree
    EXPECT_FALSE(open_frame(DLT_RAW, v4(IPPROTO_ESP, Bytes(80))));
    EXPECT_FALSE(open_frame(DLT_RAW, v4(IPPROTO_IPIP, v4(IPPROTO_UDP, udp(text("x"))), {}, 7))); // a later fragment
    EXPECT_FALSE(open_frame(DLT_IEEE802_11, ethernet(0x0800, v4(IPPROTO_UDP, udp(text("x"))))));
    EXPECT_FALSE(net::link_type_supported(DLT_IEEE802_11_RADIO));
}

// Any bytes behind any link type: the result lies inside the frame and parse_packet() accepts or refuses it.
TEST(Decapsulate, RandomAndMutatedBytes) {
    std::mt19937 random(7);
    const std::vector<Bytes> seeds{
        ethernet(0x8100,
                 be16(1) + be16(0x8864) + Bytes{0x11, 0, 0, 1, 0, 90, 0, 0x21} + v4(IPPROTO_TCP, tcp(Bytes(40)))),
        ethernet(0x8847, be32(0x140) +
                             v4(IPPROTO_GRE, be16(0x7000) + be16(0x86dd) + Bytes(8) + v6(IPPROTO_UDP, udp(Bytes(30))))),
        ethernet(0x86dd, v6(IPPROTO_HOPOPTS, Bytes{IPPROTO_IPIP, 0} + Bytes(6) +
                                                 v4(IPPROTO_AH, Bytes{17, 4} + Bytes(22) + udp(Bytes(9)))))};
    int opened = 0;
    for (int round = 0; round < 60000; ++round) {
        Bytes frame = seeds[random() % seeds.size()];
        if (round % 4 == 0)
            frame = Bytes(random() % 120);
        for (int n = static_cast<int>(round % 4 == 0 ? frame.size() : random() % 6); n > 0 && !frame.empty(); --n)
            frame[random() % frame.size()] = static_cast<std::uint8_t>(random());
        frame.resize(random() % (frame.size() + 1));
        frame.shrink_to_fit();
        const int type = round % 2 ? DLT_EN10MB : static_cast<int>(random() % 280);
        const auto packet = net::decapsulate(type, frame, frame.size() + random() % 100);
        if (!packet)
            continue;
        ++opened;
        ASSERT_GE(packet->bytes.data(), frame.data());
        ASSERT_LE(packet->bytes.data() + packet->bytes.size(), frame.data() + frame.size());
        ASSERT_LE(packet->bytes.size(), packet->wire_length);
        if (const auto p = net::parse_packet(packet->bytes, packet->wire_length)) {
            ASSERT_LE(p->payload.size(), p->payload_length);
            ASSERT_LE(p->payload_offset + p->payload_length,
                      std::max<std::size_t>(packet->wire_length, p->payload_offset));
        }
    }
    EXPECT_GT(opened, 1000);
}

// ---------------------------------------------------------------- CaptureReader and analyze

class CaptureFiles : public testing::Test {
protected:
    CaptureFiles() {
        char name[] = "/tmp/btblock-capture-XXXXXX";
        folder_ = ::mkdtemp(name);
    }
    ~CaptureFiles() override { std::filesystem::remove_all(folder_); }

    std::string put(const std::string& name, const Bytes& content) const {
        const std::string path = folder_ + "/" + name;
        std::ofstream(path, std::ios::binary)
            .write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
        return path;
    }
    // A big-endian pcap file of raw IP packets, one per second.
    static Bytes capture(const std::vector<Bytes>& packets, unsigned link_type = 101) {
        Bytes file = be32(0xa1b2c3d4) + be16(2) + be16(4) + be32(0) + be32(0) + be32(65535) + be32(link_type);
        unsigned second = 100;
        for (const Bytes& p : packets) {
            const auto n = static_cast<unsigned>(p.size());
            file = file + be32(second++) + be32(250000) + be32(n) + be32(n) + p;
        }
        return file;
    }
    static std::string open_error(const std::string& path) {
        const auto reader = net::CaptureReader::open(path);
        return reader ? "" : reader.error().message;
    }

    std::string folder_;
};

TEST_F(CaptureFiles, PacketsInOrder) {
    const Bytes a = v4(IPPROTO_UDP, udp(text("a"))), b = v4(IPPROTO_UDP, udp(text("bb")));
    auto reader = net::CaptureReader::open(put("two.pcap", capture({a, b})));
    ASSERT_TRUE(reader) << reader.error().message;
    EXPECT_EQ(reader->link_type(), DLT_RAW);
    EXPECT_EQ(reader->link_type_name(), "RAW");
    net::CapturedPacket p;
    ASSERT_TRUE(*reader->next(p));
    EXPECT_EQ(p.number, 1u);
    EXPECT_EQ(p.time_ns, 100'250'000'000u);
    EXPECT_EQ(Bytes(p.bytes.begin(), p.bytes.end()), a);
    ASSERT_TRUE(*reader->next(p));
    EXPECT_EQ(p.number, 2u);
    EXPECT_EQ(p.time_ns, 101'250'000'000u);
    EXPECT_EQ(p.wire_length, b.size());
    EXPECT_FALSE(*reader->next(p));
    EXPECT_FALSE(*reader->next(p));
}

TEST_F(CaptureFiles, TruncatedFileDeliversWhatItHas) {
    Bytes file = capture({v4(IPPROTO_UDP, udp(text("a"))), v4(IPPROTO_UDP, udp(text("b")))});
    file.pop_back();
    const std::string path = put("cut.pcap", file);
    auto reader = net::CaptureReader::open(path);
    ASSERT_TRUE(reader);
    net::CapturedPacket p;
    ASSERT_TRUE(*reader->next(p));
    const auto second = reader->next(p);
    ASSERT_FALSE(second);
    EXPECT_THAT(second.error().message, StartsWith(path + ": packet 2: "));
    EXPECT_THAT(second.error().message, HasSubstr("truncated"));
    const auto after = reader->next(p);
    ASSERT_TRUE(after);
    EXPECT_FALSE(*after);
}

// The byte order of most files, which are read in large pieces: packets across their borders, and what is left to
// libpcap after many packets.
class OrdinaryFiles : public CaptureFiles {
protected:
    static Bytes le32(std::uint32_t v) {
        Bytes b = be32(v);
        std::reverse(b.begin(), b.end());
        return b;
    }
    static Bytes file_header(std::uint32_t magic = 0xa1b2c3d4, std::uint32_t snapshot = 262144) {
        return le32(magic) + Bytes{2, 0, 4, 0} + Bytes(8) + le32(snapshot) + le32(101);
    }
    static Bytes record(std::uint32_t seconds, std::uint32_t fraction, const Bytes& packet, std::uint32_t more = 0) {
        const auto n = static_cast<std::uint32_t>(packet.size());
        return le32(seconds) + le32(fraction) + le32(n) + le32(n + more) + packet;
    }
    static void append(Bytes& to, const Bytes& what) { to.insert(to.end(), what.begin(), what.end()); }

    // Numbered packets of all sizes, 5 MB of them.
    static constexpr std::uint32_t many = 5000;
    static Bytes packet(std::uint32_t i) {
        Bytes p = be32(i);
        p.resize(i % 1000 == 999 ? 200'000 : 4 + i * 7 % 1500, static_cast<std::uint8_t>(i));
        return p;
    }
    static Bytes large() {
        Bytes file = file_header();
        for (std::uint32_t i = 0; i < many; ++i)
            append(file, record(i, 5, packet(i), 3));
        return file;
    }
};

TEST_F(OrdinaryFiles, PacketsAcrossPieces) {
    auto reader = net::CaptureReader::open(put("large.pcap", large()));
    ASSERT_TRUE(reader) << reader.error().message;
    std::vector<std::span<const std::uint8_t>> kept; // those that must still be there
    net::CapturedPacket p;
    std::size_t most = 0;
    std::uint32_t first = 0;
    for (std::uint32_t i = 0; i < many; ++i) {
        const bool keeps = reader->next_keeps();
        ASSERT_TRUE(*reader->next(p)) << i;
        if (!keeps) {
            kept.clear();
            first = i;
        }
        kept.push_back(p.bytes);
        most = std::max(most, kept.size());
        ASSERT_EQ(p.number, i + 1);
        ASSERT_EQ(p.time_ns, i * 1'000'000'000ull + 5000);
        ASSERT_EQ(p.wire_length, p.bytes.size() + 3);
        for (std::size_t k = kept.size() - std::min<std::size_t>(kept.size(), 3); k < kept.size(); ++k)
            ASSERT_EQ(Bytes(kept[k].begin(), kept[k].end()), packet(first + static_cast<std::uint32_t>(k)));
    }
    EXPECT_GT(most, 100u);
    EXPECT_FALSE(reader->next_keeps());
    EXPECT_FALSE(*reader->next(p));
    EXPECT_FALSE(*reader->next(p));
}

TEST_F(OrdinaryFiles, NanosecondsAndOldTimes) {
    const Bytes ip = v4(IPPROTO_UDP, udp(text("a")));
    const Bytes file = file_header(0xa1b23c4d) + record(7, 999'999'999, ip) + record(0xffffffff, 5, ip);
    auto reader = net::CaptureReader::open(put("ns.pcap", file));
    ASSERT_TRUE(reader);
    net::CapturedPacket p;
    ASSERT_TRUE(*reader->next(p));
    EXPECT_EQ(p.time_ns, 7'999'999'999u);
    ASSERT_TRUE(*reader->next(p));
    EXPECT_EQ(p.time_ns, 5u) << "before 1970";
    EXPECT_FALSE(*reader->next(p));
}

TEST_F(OrdinaryFiles, WhatIsNotOrdinaryIsLeftToLibpcap) {
    const auto last = [&](const Bytes& file, std::uint64_t& packets, std::size_t& length) -> std::string {
        auto reader = net::CaptureReader::open(put("odd.pcap", file));
        net::CapturedPacket p;
        for (packets = 0;; ++packets) {
            const auto more = reader->next(p);
            if (!more)
                return more.error().message;
            if (!*more)
                return "";
            length = p.bytes.size();
        }
    };
    std::uint64_t packets = 0;
    std::size_t length = 0;
    const std::string odd = folder_ + "/odd.pcap: packet 5001: ";
    for (const std::size_t cut : {1, 23, 24, 25, 39}) { // in the header of the last record, or in the record
        Bytes file = large();
        append(file, record(9, 9, Bytes(24)));
        file.resize(file.size() - cut);
        EXPECT_THAT(last(file, packets, length), testing::AllOf(StartsWith(odd), HasSubstr("truncated"))) << cut;
        EXPECT_EQ(packets, many);
    }
    Bytes file = large();
    append(file, le32(1) + le32(2) + le32(0x7fffffff) + le32(4) + Bytes(100));
    EXPECT_THAT(last(file, packets, length),
                testing::AllOf(StartsWith(odd), HasSubstr("invalid packet capture length")));
    // Longer than the file's snapshot length: libpcap cuts it, and goes on.
    file = file_header(0xa1b2c3d4, 64) + record(1, 0, Bytes(64, 4)) + record(2, 0, Bytes(100, 4)) +
           record(3, 0, Bytes(30, 4));
    EXPECT_EQ(last(file, packets, length), "");
    EXPECT_EQ(packets, 3u);
    EXPECT_EQ(length, 30u);
}

TEST_F(OrdinaryFiles, AFileThatGrowsIsReadOn) {
    const Bytes ip = v4(IPPROTO_UDP, udp(text("a")));
    const std::string path = put("live.pcap", file_header() + record(1, 0, ip));
    auto reader = net::CaptureReader::open(path);
    ASSERT_TRUE(reader);
    net::CapturedPacket p;
    ASSERT_TRUE(*reader->next(p));
    const Bytes more = record(2, 0, ip) + record(3, 0, ip);
    std::ofstream(path, std::ios::binary | std::ios::app)
        .write(reinterpret_cast<const char*>(more.data()), static_cast<std::streamsize>(more.size()));
    ASSERT_TRUE(*reader->next(p));
    ASSERT_TRUE(*reader->next(p));
    EXPECT_EQ(p.time_ns, 3'000'000'000u);
    std::filesystem::resize_file(path, 30); // and one that is cut does no harm
    EXPECT_NO_THROW(static_cast<void>(reader->next(p)));
}

TEST_F(CaptureFiles, RefusesWithAReason) {
    EXPECT_THAT(open_error(folder_), HasSubstr("is a directory"));
    EXPECT_EQ(open_error(folder_ + "/none"), folder_ + "/none: No such file or directory");
    EXPECT_EQ(open_error(put("empty", {})), folder_ + "/empty: empty file");
    EXPECT_EQ(open_error(put("text", text("hello, world\n"))), folder_ + "/text: not a pcap or pcapng capture");
    EXPECT_EQ(open_error(put("wifi", capture({}, 105))), folder_ + "/wifi: link type 105 (IEEE802_11) not supported");
    ASSERT_EQ(::mkfifo((folder_ + "/fifo").c_str(), 0600), 0);
    EXPECT_THAT(open_error(folder_ + "/fifo"), HasSubstr("not a regular file"));
    EXPECT_THAT(open_error("/dev/zero"), HasSubstr("not a regular file"));
}

const Bytes dht_query = text("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe");
const Bytes dht_error = text("d1:eli201e13:Generic Errore1:t2:aa1:y1:ee");

struct Ran {
    int code;
    std::string out, err;
};

Ran run(app::AnalyzeFormat format, std::vector<std::string> files, bool all = false) {
    std::ostringstream out, err;
    const int code = app::analyze_main({.format = format, .all = all, .files = std::move(files)}, out, err);
    return {code, out.str(), err.str()};
}

constexpr auto header = "capture,proto,src,sport,dst,dport,packets,verdict,evidence,first_packet\n";

// A packet of the other direction of udp()'s default flow.
Bytes answer(const Bytes& payload) {
    Bytes packet = v4(IPPROTO_UDP, udp(payload, 2000, 1000));
    std::swap_ranges(packet.begin() + 12, packet.begin() + 16, packet.begin() + 16);
    return packet;
}

TEST_F(CaptureFiles, CsvRowPerFlow) {
    const Bytes query = v4(IPPROTO_UDP, udp(text("hello")));
    const std::string path =
        put("a.pcap", capture({v4(IPPROTO_ICMP, Bytes(8)), query, answer(dht_error), answer(text("more")),
                               v4(IPPROTO_UDP, udp(text("x"), 1001)), v4(IPPROTO_UDP, udp(dht_query))}));
    const Ran csv = run(app::AnalyzeFormat::csv, {path});
    EXPECT_EQ(csv.code, 0);
    EXPECT_THAT(csv.err, IsEmpty());
    EXPECT_EQ(csv.out,
              std::string(header) + "a.pcap,udp,10.0.0.5,1000,203.0.113.9,2000,4,bittorrent,dht.query+dht.error,3\n");
    const Ran all = run(app::AnalyzeFormat::csv, {path}, true);
    EXPECT_EQ(all.out, csv.out + "a.pcap,udp,10.0.0.5,1001,203.0.113.9,2000,1,other,,\n");
}

TEST_F(CaptureFiles, JsonIsOneObject) {
    const std::string path = put("a\".pcap", capture({v4(IPPROTO_UDP, udp(dht_query)), v4(IPPROTO_ICMP, Bytes(8))}));
    const Ran ran = run(app::AnalyzeFormat::json, {path, folder_ + "/missing"}, true);
    EXPECT_EQ(ran.code, 1);
    const auto document = nlohmann::json::parse(ran.out);
    ASSERT_EQ(document["captures"].size(), 2u);
    EXPECT_EQ(document["captures"][0],
              nlohmann::json::parse(R"({"capture":"a\".pcap","file":")" + folder_ + R"(/a\".pcap",
        "link_type":"RAW","packets":2,"flows":1,"bittorrent_flows":1,"skipped_packets":1,"error":null})"));
    EXPECT_THAT(document["captures"][1]["error"].get<std::string>(), HasSubstr("No such file"));
    EXPECT_EQ(document["flows"],
              nlohmann::json::parse(R"([{"capture":"a\".pcap","proto":"udp","src":"10.0.0.5","sport":1000,
        "dst":"203.0.113.9","dport":2000,"packets":1,"verdict":"bittorrent","evidence":["dht.query"],"first_packet":1,"seen_from":1,"seen_to":1}])"));
}

TEST_F(CaptureFiles, TableHasASummaryPerCapture) {
    const std::string path = put("a.pcap", capture({v4(IPPROTO_UDP, udp(dht_query)), v4(IPPROTO_ICMP, Bytes(8))}));
    const std::string quiet = put("b.pcap", capture({v4(IPPROTO_UDP, udp(text("x")))}));
    const Ran ran = run(app::AnalyzeFormat::human, {path, quiet});
    EXPECT_THAT(ran.out, HasSubstr("a.pcap: 2 packets, 1 flow, 1 bittorrent flow, 1 skipped packet\n"));
    EXPECT_THAT(ran.out, HasSubstr("10.0.0.5:1000"));
    EXPECT_THAT(ran.out, HasSubstr("dht.query"));
    EXPECT_THAT(ran.out, HasSubstr("b.pcap: 1 packet, 1 flow, 0 bittorrent flows, 0 skipped packets\n"));
}

TEST_F(CaptureFiles, BadFileDoesNotStopTheOthers) {
    Bytes cut = capture({v4(IPPROTO_UDP, udp(dht_query)), v4(IPPROTO_UDP, udp(text("x"), 1001))});
    cut.resize(cut.size() - 3);
    const std::string first = put("cut.pcap", cut);
    const std::string last = put("good.pcap", capture({v4(IPPROTO_UDP, udp(dht_query))}));
    const Ran ran = run(app::AnalyzeFormat::csv, {folder_, first, last});
    EXPECT_EQ(ran.code, 1);
    EXPECT_THAT(ran.err, HasSubstr(first + ": packet 2: "));
    EXPECT_THAT(ran.err, HasSubstr("is a directory"));
    EXPECT_EQ(ran.out, std::string(header) + "cut.pcap,udp,10.0.0.5,1000,203.0.113.9,2000,1,bittorrent,dht.query,1\n"
                                             "good.pcap,udp,10.0.0.5,1000,203.0.113.9,2000,1,bittorrent,dht.query,1\n");
}

// A condemned socket is condemned from the first packet on, at whatever time, and stays so when merged captures go
// back.
TEST_F(CaptureFiles, TimeNeverGoesBackAndIsNeverZero) {
    const Bytes query = v4(IPPROTO_UDP, udp(dht_query)), later = v4(IPPROTO_UDP, udp(text("data"), 1000, 3000));
    Bytes file = capture({query, later, later});
    const std::size_t second = 24 + 16 + query.size(), third = second + 16 + later.size();
    for (const std::size_t record : {std::size_t{24}, third})
        std::fill_n(file.begin() + static_cast<std::ptrdiff_t>(record), 8, std::uint8_t{0}); // at the epoch
    const Ran ran = run(app::AnalyzeFormat::csv, {put("t.pcap", file)});
    EXPECT_EQ(ran.out, std::string(header) +
                           "t.pcap,udp,10.0.0.5,1000,203.0.113.9,2000,1,bittorrent,dht.query,1\n"
                           "t.pcap,udp,10.0.0.5,1000,203.0.113.9,3000,2,bittorrent,socket.condemned,2\n");
}

TEST_F(CaptureFiles, ALostReaderIsSilentAndAFullDiskIsNot) {
    struct Failing : std::streambuf {
        explicit Failing(int why) : why_(why) {}
        int overflow(int) override { return errno = why_, EOF; }
        int sync() override { return errno = why_, -1; }
        int why_;
    };
    const std::string path = put("a.pcap", capture({v4(IPPROTO_UDP, udp(dht_query))}));
    for (const auto& [why, code] : {std::pair{EPIPE, 0}, std::pair{ENOSPC, 1}}) {
        Failing buffer(why);
        std::ostream out(&buffer);
        std::ostringstream err;
        EXPECT_EQ(app::analyze_main({.format = app::AnalyzeFormat::csv, .files = {path}}, out, err), code);
        EXPECT_EQ(err.str().empty(), why == EPIPE) << err.str();
    }
}

} // namespace
