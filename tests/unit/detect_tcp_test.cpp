// SPDX-License-Identifier: MIT
// The peers' handshake, message chains, extensions and SOCKS: streams, split and mixed up in every way.
#include "detect/Entropy.h"
#include "detect/Extension.h"
#include "detect/Socks.h"
#include "detect_build.h"

#include <malloc.h>

using namespace btblock::detect;
using namespace btblock::detect::build;

namespace {

// The last finding of a stream sent in two pieces, with sequence numbers and without.
void check_every_split(const std::string& stream, int evidence, std::size_t needed) {
    for (const bool numbered : {true, false})
        for (std::size_t cut = 1; cut < stream.size(); ++cut) {
            Talk t(IPPROTO_TCP);
            t.numbered = numbered;
            const Finding first = t.client(std::string_view(stream).substr(0, cut));
            EXPECT_FALSE(cut < needed && proves(first)) << "cut at " << cut;
            const Finding f = t.client(std::string_view(stream).substr(cut));
            EXPECT_TRUE(proves(f) && has(f, evidence)) << "cut at " << cut << " numbered " << numbered;
        }
    Talk bytewise(IPPROTO_TCP);
    Finding f;
    for (const char c : stream)
        f = bytewise.client(std::string(1, c));
    EXPECT_TRUE(proves(f) && has(f, evidence)) << "one byte at a time";
}

TEST(Handshake, ProvesAtTheStartOnly) {
    const std::string h = handshake();
    ASSERT_EQ(h.size(), 68u);
    const Finding f = one_segment(h);
    EXPECT_TRUE(proves(f) && has(f, BT_EV_TCP_HANDSHAKE) && f.host_evidence);
    EXPECT_FALSE(proves(one_segment("x" + h)));
    Talk later(IPPROTO_TCP);
    later.client("QUERY something\n");
    EXPECT_FALSE(proves(later.client(h))) << "not at offset 0";
    Talk answered(IPPROTO_TCP);
    EXPECT_TRUE(proves(answered.server(h))) << "either direction";
    EXPECT_TRUE(answered.inspector.named_peers().empty());
}

TEST(Handshake, EverySplitAndTruncation) {
    check_every_split(handshake(), BT_EV_TCP_HANDSHAKE, 20);
    check_truncations(handshake(), 20, one_segment);
    check_bit_flips(handshake(), one_segment, [](std::size_t i) { return i < 20; });
}

TEST(Handshake, SegmentsInAnyOrder) {
    const std::string h = handshake();
    for (std::size_t cut = 1; cut < h.size(); ++cut) {
        Talk t(IPPROTO_TCP);
        t.client_at(static_cast<std::uint32_t>(cut), h.substr(cut));
        EXPECT_TRUE(proves(t.client_at(0, h.substr(0, cut)))) << cut;
    }
    Talk three(IPPROTO_TCP);
    three.client_at(0, h.substr(0, 5));
    EXPECT_FALSE(proves(three.client_at(12, h.substr(12))));
    EXPECT_TRUE(proves(three.client_at(5, h.substr(5, 7))));
    Talk repeated(IPPROTO_TCP);
    repeated.client_at(0, h.substr(0, 5));
    repeated.client_at(0, h.substr(0, 5));
    EXPECT_TRUE(proves(repeated.client_at(3, h.substr(3)))) << "overlapping retransmission";
}

TEST(Handshake, ANewConnectionOfTheTupleStartsAfresh) {
    Talk t(IPPROTO_TCP);
    EXPECT_EQ(t.raw(true, "SSH-2.0-OpenSSH_9.2\r\n", 1000, true).judgement, Judgement::clean);
    EXPECT_EQ(t.raw(true, handshake(), 1021, true).judgement, Judgement::clean) << "the same connection";
    EXPECT_TRUE(proves(t.raw(true, handshake(), 0x40000000, true)));
    EXPECT_EQ(t.raw(true, "SSH-2.0-OpenSSH_9.2\r\n", 0x90000000, true).judgement, Judgement::clean);
}

TEST(Messages, ChainsProve) {
    const std::string requests = request(5, 0) + request(5, 16384) + request(5, 32768) + request(5, 49152);
    Finding f = one_segment(requests);
    EXPECT_TRUE(proves(f) && has(f, BT_EV_TCP_MESSAGE) && f.host_evidence);
    const std::string mixed = message(5, std::string(100, '\xff')) + message(1) + message(2) + request(1, 0);
    EXPECT_TRUE(proves(one_segment(mixed)));
    const std::string fast =
        message(14) + message(17, u32(3)) + message(17, u32(9)) + message(16, u32(1) + u32(0) + u32(16384));
    f = one_segment(fast);
    EXPECT_TRUE(proves(f) && has(f, BT_EV_TCP_FAST));
    const std::string v2 = message(21, hash(1) + hash(2).substr(0, 12) + u32(0) + u32(512) + u32(512) + u32(4));
    f = one_segment(message(4, u32(1)) + v2 + v2);
    EXPECT_TRUE(proves(f));
}

TEST(Messages, EverySplit) {
    const std::string chain = message(4, u32(1)) + request(5, 0) + request(5, 16384) + request(5, 32768);
    check_every_split(chain, BT_EV_TCP_MESSAGE, 9 + 17 + 17);
    check_truncations(chain, 9 + 17 + 17, one_segment);
}

TEST(Messages, FollowsLongPiecesAcrossPackets) {
    std::mt19937_64 rng(1);
    std::string stream;
    for (std::uint32_t i = 0; i < 3; ++i)
        stream += message(7, u32(12) + u32(i * 16384) + random_bytes(rng, 16384));
    for (const bool numbered : {true, false}) {
        Talk t(IPPROTO_TCP);
        t.numbered = numbered;
        Finding f;
        std::size_t decided = 0;
        for (std::size_t at = 0; at < stream.size(); at += 1448) {
            f = t.client(std::string_view(stream).substr(at, 1448));
            if (proves(f) && !decided)
                decided = at;
        }
        EXPECT_TRUE(proves(f)) << numbered;
        EXPECT_GT(decided + 1448, 2u * (16384 + 13)) << "a header or two are not enough";
    }
    // With a packet missing the chain has to start again and still ends in a proof later.
    Talk gap(IPPROTO_TCP);
    Finding f;
    for (int again = 0; again < 2; ++again)
        for (std::size_t at = 0; at < stream.size(); at += 1448)
            if (again || at != 1448 * 11)
                f = gap.client_at(static_cast<std::uint32_t>(at + again * stream.size()), stream.substr(at, 1448));
    EXPECT_TRUE(proves(f));
}

TEST(Messages, HeadersAloneProveNothing) {
    const std::vector<std::pair<const char*, std::vector<std::string>>> other{
        {"keep-alives", {u32(0) + u32(0) + u32(0) + u32(0) + u32(0)}},
        {"haves",
         {message(4, u32(1)) + message(4, u32(2)) + message(4, u32(3)) + message(4, u32(4)) + message(4, u32(5))}},
        {"VNC", {u32(1) + u8(0), u32(1) + u8(0), u32(1) + u8(0), u32(1) + u8(0), u32(1) + u8(0)}},
        {"LDAP with SASL",
         {u32(0xaa) + "\x05\x04" + std::string(0xa8, '\x41'), u32(0xaa) + "\x05\x04" + std::string(0xa8, '\x42'),
          u32(0x51) + "\x05\x04" + std::string(0x4f, '\x43'), u32(0xaa) + "\x05\x04" + std::string(0xa8, '\x44')}},
        {"Riak pings", {u32(1) + u8(1), u32(1) + u8(1), u32(1) + u8(14), u32(1) + u8(1), u32(1) + u8(2)}},
        {"OpenWire",
         {u32(0xf0) + u8(1) + std::string("ActiveMQ") + std::string(0xe7, '\1'), u32(1) + u8(10),
          u32(30) + u8(3) + std::string(29, 'c')}},
        {"Kafka",
         {u32(35) + u16(18) + u16(3) + u32(1) + std::string(27, 'k'),
          u32(40) + u16(3) + u16(9) + u32(2) + std::string(32, 'k')}},
        {"HTTP/2",
         {std::string("\0\0\x12\x04\0\0\0\0\0", 9) + std::string(18, 'h') +
          std::string("\0\0\x04\x08\0\0\0\0\0\x3f\xff\0\1", 13)}},
        {"wrong length of the last",
         {message(4, u32(1)) + message(4, u32(1)) + request(1, 0) + u32(12) + u8(6) + std::string(11, '\0')}},
        {"rubbish after", {message(1) + request(1, 0) + request(1, 16384) + request(1, 32768) + "rubbish"}},
    };
    EXPECT_FALSE(proves(one_segment(request(5, 0))));
    EXPECT_FALSE(proves(one_segment(request(5, 0) + request(5, 16384))));
    for (const auto& [name, segments] : other)
        for (const bool from_client : {true, false}) {
            Talk t(IPPROTO_TCP);
            for (int round = 0; round < 3; ++round)
                for (const auto& s : segments)
                    EXPECT_FALSE(proves(from_client ? t.client(s) : t.server(s))) << name;
        }
}

TEST(Messages, GeometryAndOrderMatter) {
    std::string off;
    for (std::uint32_t i = 0; i < 8; ++i)
        off += request(5, i * 16384 + 100);
    EXPECT_FALSE(proves(one_segment(off))) << "offsets that no client asks for";
    std::string odd;
    for (std::uint32_t i = 0; i < 8; ++i)
        odd += request(5, i * 16384, 1000);
    EXPECT_FALSE(proves(one_segment(odd))) << "only last blocks";
    EXPECT_FALSE(proves(one_segment(request(0x7fffffff, 0) + request(0x7fffffff, 0) + request(0x7fffffff, 0) +
                                    request(0x7fffffff, 0))));
    const std::string field = message(5, std::string(40, '\xff'));
    const std::string rest = message(1) + request(1, 0) + request(1, 16384);
    EXPECT_TRUE(proves(one_segment(field + rest)));
    EXPECT_FALSE(proves(one_segment(field + rest + field))) << "nobody sends two bitfields";
    EXPECT_FALSE(proves(one_segment(message(14) + rest + field))) << "nor one after Have All";
}

// RFC 4253 packets with an -etm MAC or AES-GCM: the length is readable, everything else is not, and the MAC follows.
TEST(Messages, OpenSshProvesNothing) {
    std::mt19937_64 rng(2);
    for (int session = 0; session < 300; ++session) {
        Talk t(IPPROTO_TCP);
        for (int i = 0; i < 60; ++i) {
            std::string segment;
            for (auto k = rng() % 3 + 1; k; --k) {
                const auto length = static_cast<std::uint32_t>(16 * (1 + rng() % 40));
                segment += u32(length) + random_bytes(rng, length) + random_bytes(rng, session % 2 ? 16 : 32);
            }
            EXPECT_FALSE(proves(t.client(segment)));
        }
    }
}

TEST(Messages, DeliveryOptimizationIsARelative) {
    const std::string requests = request(5, 0) + request(5, 16384) + request(5, 32768) + request(5, 49152);
    Talk midway(IPPROTO_TCP, 7680);
    EXPECT_EQ(midway.client(requests).judgement, Judgement::weighs);
    Talk start(IPPROTO_TCP, 40000);
    EXPECT_EQ(start.client("\x0e" + std::string("Swarm protocol") + std::string(60, '\1')).judgement, Judgement::clean);
    EXPECT_EQ(start.client(requests).judgement, Judgement::clean);
    Talk torrent(IPPROTO_TCP, 7680);
    EXPECT_TRUE(proves(torrent.client(handshake()))) << "the port excuses nothing that says BitTorrent";
}

TEST(Extension, HandshakeProves) {
    const std::string m = extended(0, extension_dict);
    const Finding f = one_segment(m);
    EXPECT_TRUE(proves(f) && has(f, BT_EV_TCP_EXTENSION));
    check_every_split(m, BT_EV_TCP_EXTENSION, m.size());
    check_truncations(m, m.size(), one_segment);
    // Length, id, sub-id and the dictionary's frame.
    check_bit_flips(m, one_segment, [&](std::size_t i) { return i < 7 || i + 1 == m.size(); });
}

TEST(Extension, OtherDictionariesDoNot) {
    for (const char* dict : {"d1:mdee", "d1:md3:fooi1eee", "d1:mi1e4:reqqi1ee", "d1:md6:ut_pexi300eee",
                             "d1:md6:ut_pex1:1eee", "de", "d5:hello5:worlde"})
        EXPECT_FALSE(proves(one_segment(extended(0, dict)))) << dict;
    EXPECT_FALSE(proves(one_segment("text with 1:md6:ut_pexi1ee11:ut_metadatai2ee in it"))) << "words are not messages";
}

TEST(Extension, PexNamesPeersOfAProvedFlow) {
    Talk t(IPPROTO_TCP);
    t.server(handshake() + extended(0, extension_dict));
    EXPECT_TRUE(proves(t.server(extended(1, pex()))));
    ASSERT_EQ(t.inspector.named_peers().size(), 2u);
    EXPECT_EQ(t.inspector.named_peers()[1].port, 51413);
    t.server(message(4, u32(1)));
    EXPECT_TRUE(t.inspector.named_peers().empty()) << "only the last packet's";
    Talk alone(IPPROTO_TCP);
    EXPECT_TRUE(proves(alone.server(extended(1, pex())))) << "in a connection that began earlier";
    Talk cut(IPPROTO_TCP);
    EXPECT_FALSE(proves(cut.server(extended(1, pex()).substr(0, 20))));
    EXPECT_TRUE(cut.inspector.named_peers().empty());
    EXPECT_TRUE(cut.inspector.claimed_peers().empty());
}

TEST(Extension, KnowsItsMessages) {
    EndpointSink nowhere;
    EXPECT_EQ(read_extension_message(bytes(pex()), nowhere), Extended::pex);
    EXPECT_EQ(read_extension_message(bytes("d8:msg_typei0e5:piecei3ee"), nowhere), Extended::metadata);
    EXPECT_EQ(read_extension_message(bytes("d8:msg_typei1e5:piecei0e10:total_sizei34256ee" + std::string(1000, 'x')),
                                     nowhere),
              Extended::metadata);
    EXPECT_EQ(read_extension_message(bytes(u8(1) + u8(0) + compact(198, 51, 100, 1, 6881) + u32(0)), nowhere),
              Extended::holepunch);
    EXPECT_EQ(read_extension_message(bytes("d5:added7:1234567e"), nowhere), Extended::none);
    EXPECT_EQ(read_extension_message(bytes("d5:added6:123456"), nowhere), Extended::cut);
    EXPECT_EQ(read_extension_message(bytes("d1:a1:bex"), nowhere), Extended::none);
}

const std::string socks5_client = "\x05\x02" + std::string("\0\x02", 2) + "\x01\x04user\x06secret" + "\x05\x01" +
                                  std::string("\0", 1) + "\x01\xc6\x33\x64\x07" + u16(6881);
const std::string socks5_server =
    "\x05\x02" + std::string("\x01\0", 2) + "\x05" + std::string("\0\0\x01\0\0\0\0\0\0", 9);

TEST(Socks, HandshakeInsideProves) {
    const std::string name =
        "\x05\x01" + std::string("\0", 1) + "\x05\x01" + std::string("\0", 1) + "\x03\x0bpeer.exampl" + u16(51413);
    const std::string six = "\x05\x01" + std::string("\0", 1) + "\x05\x01" + std::string("\0", 1) + "\x04" +
                            std::string(16, '\x20') + u16(51413);
    const std::string four = "\x04\x01" + u16(6881) + "\xc6\x33\x64\x07" + "me" + std::string(1, '\0');
    const std::string four_a = "\x04\x01" + u16(6881) + std::string("\0\0\0\x01", 4) + "me" + std::string(1, '\0') +
                               "peer.example" + std::string(1, '\0');
    for (const std::string& negotiation : {socks5_client, name, six, four, four_a}) {
        ASSERT_EQ(read_socks_client(bytes(negotiation)).match, Match::full);
        ASSERT_EQ(read_socks_client(bytes(negotiation)).length, negotiation.size());
        for (std::size_t n = 0; n < negotiation.size(); ++n)
            EXPECT_EQ(read_socks_client(bytes(negotiation).first(n)).match, Match::partial) << n;
        Talk t(IPPROTO_TCP, 1080);
        EXPECT_EQ(t.client(negotiation).judgement, Judgement::weighs);
        const Finding f = t.client(handshake());
        EXPECT_TRUE(proves(f) && has(f, BT_EV_TCP_HANDSHAKE) && has(f, BT_EV_SOCKS_CONNECT));
        EXPECT_FALSE(f.host_evidence);
        EXPECT_TRUE(proves(one_segment(negotiation + handshake()))) << "pipelined";
        check_every_split(negotiation + handshake(), BT_EV_TCP_HANDSHAKE, negotiation.size() + 20);
    }
}

TEST(Socks, EveryFixedByteCounts) {
    // The request of socks5_client starts at 17: version, command, reserved, address type.
    const std::size_t at = 17;
    ASSERT_EQ(socks5_client[at], 5);
    for (const auto& [offset, value] : {std::pair<std::size_t, int>{0, 6},
                                        {1, 0},
                                        {4, 3},
                                        {at, 4},
                                        {at + 1, 4},
                                        {at + 1, 0},
                                        {at + 2, 1},
                                        {at + 3, 2}}) {
        std::string wrong = socks5_client;
        wrong[offset] = static_cast<char>(value);
        EXPECT_NE(read_socks_client(bytes(wrong)).match, Match::full) << offset << " " << value;
    }
    for (const auto& [offset, value] :
         {std::pair<std::size_t, int>{0, 4}, {1, 1}, {2, 2}, {3, 1}, {4, 4}, {5, 9}, {6, 1}, {7, 2}}) {
        std::string wrong = socks5_server;
        wrong[offset] = static_cast<char>(value);
        EXPECT_NE(read_socks_server(bytes(wrong)).match, Match::full) << offset << " " << value;
    }
}

TEST(Socks, ServerSide) {
    ASSERT_EQ(read_socks_server(bytes(socks5_server)).length, socks5_server.size());
    Talk t(IPPROTO_TCP, 1080);
    for (const std::string& turn : {socks5_server.substr(0, 2), socks5_server.substr(2, 2), socks5_server.substr(4)})
        EXPECT_FALSE(proves(t.server(turn)));
    EXPECT_TRUE(proves(t.server(handshake())));
    Talk four(IPPROTO_TCP, 1080);
    four.server(std::string("\0\x5a\0\0\0\0\0\0", 8));
    EXPECT_TRUE(proves(four.server(handshake())));
    Talk refused(IPPROTO_TCP, 1080);
    refused.server("\x05" + std::string("\0", 1));
    refused.server("\x05\x02" + std::string("\0\x01\0\0\0\0\0\0", 8));
    EXPECT_FALSE(proves(refused.server(handshake())));
}

TEST(Socks, OtherInnerStreams) {
    Talk tracker(IPPROTO_TCP, 1080);
    tracker.client(socks5_client);
    EXPECT_TRUE(has(tracker.client(announce_request()), BT_EV_TRACKER_HTTP));
    Talk chain(IPPROTO_TCP, 1080);
    chain.client(socks5_client);
    EXPECT_TRUE(proves(chain.client(request(1, 0) + request(1, 16384) + request(1, 32768))));
    Talk tls(IPPROTO_TCP, 1080);
    tls.client(socks5_client);
    EXPECT_EQ(
        tls.client(std::string("\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 11) + std::string(505, '\0')).judgement,
        Judgement::clean);
    std::mt19937_64 rng(4);
    Talk random(IPPROTO_TCP, 1080);
    random.client(socks5_client);
    const Finding f = random.client("\xff" + random_bytes(rng, 300));
    EXPECT_EQ(f.judgement, Judgement::weighs);
    EXPECT_TRUE(has(f, BT_EV_ENTROPY));
}

TEST(Socks, LookAlikesAreNoNegotiation) {
    // DRDA (a 0x5a byte reply), TDS (packet type 4), Viber (04 02): no evidence.
    const std::string drda = std::string("\0\x5a\xd0\x43\0\x01\0\x54\x14\x43", 10) + std::string(80, '\x81');
    const std::string tds = std::string("\x04\x01\0\x11\x01\x3a\x01\0\xfd\0\0\xd5\0\0\0\0\0", 17);
    const std::string viber = std::string("\x04\x02\xed\x03\x03\x80\0\0\0\0\x0a\0", 12) + hash(1);
    for (const std::string& s : {drda, tds, viber})
        EXPECT_EQ(one_segment(s).evidence, 0u);
}

TEST(Entropy, RandomAgainstTextAndZeros) {
    std::mt19937_64 rng(5);
    int yes = 0;
    for (int i = 0; i < 1000; ++i)
        yes += looks_random(bytes(random_bytes(rng, 96 + rng() % 500)));
    EXPECT_GT(yes, 980);
    EXPECT_FALSE(looks_random(bytes(std::string(200, '\0'))));
    EXPECT_FALSE(looks_random(bytes(announce_request())));
    EXPECT_FALSE(looks_random({}));
    EXPECT_DOUBLE_EQ(bits_per_byte(bytes("\xff\x0f")), 6.0);
    EXPECT_EQ(printable_prefix(bytes("abc\x01")), 3u);
    EXPECT_EQ(longest_printable_run(bytes("ab\x01"
                                          "cde\x02")),
              3u);
}

TEST(FlowTable, EvictsTheOldestAndKeepsItsSize) {
    FlowTable table(4);
    bt_tuple t{};
    t.proto = IPPROTO_UDP;
    for (std::uint16_t port = 1; port <= 100; ++port) {
        t.sport = port;
        table.touch(t, port).evidence = port;
        t.sport = 1;
        ASSERT_NE(table.find(t, port), nullptr) << "used all the time";
        table.touch(t, port);
    }
    EXPECT_EQ(table.size(), 4u);
    t.sport = 100;
    ASSERT_NE(table.find(t, 100), nullptr);
    EXPECT_EQ(table.find(t, 100)->evidence, 100u);
    t.sport = 50;
    EXPECT_EQ(table.find(t, 100), nullptr);
}

TEST(Inspector, DoesNotAllocate) {
    Talk t(IPPROTO_TCP, 40001, 256);
    std::vector<std::string> payloads{handshake(),   announce_request(),          request(1, 0),
                                      socks5_client, extended(0, extension_dict), std::string(1400, 'x')};
    std::size_t proved = 0, before = 0;
    for (int i = 0; i < 20000; ++i) {
        if (i == 3 * 256) // until all entries are in use the slots grow
            before = mallinfo2().uordblks;
        proved += proves(t.client(payloads[static_cast<std::size_t>(i) % payloads.size()]));
        if (i % 3 == 0)
            t.next_client_port();
    }
    EXPECT_EQ(mallinfo2().uordblks, before);
    EXPECT_GT(proved, 0u);
}

TEST(Inspector, RandomTrafficProvesNothing) {
    std::mt19937_64 rng(20240607);
    {
        Talk t(IPPROTO_UDP, 40001, 4096);
        for (int i = 0; i < 1'000'000; ++i) {
            ASSERT_FALSE(proves(t.client(random_bytes(rng, rng() % 200)))) << "datagram " << i;
            t.next_client_port();
        }
    }
    Talk t(IPPROTO_TCP, 40001, 4096);
    for (int i = 0; i < 100'000; ++i) {
        ASSERT_FALSE(proves(t.client(random_bytes(rng, rng() % 700)))) << "first segment " << i;
        t.next_client_port();
    }
}

} // namespace
