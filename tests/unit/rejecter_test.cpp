// SPDX-License-Identifier: MIT
#include "queue/Rejecter.h"

#include "btblock/wire.h"
#include "net/Address.h"
#include "net/Packet.h"

#include <gtest/gtest.h>

namespace btblock::queue {
namespace {

bt_reject packet(const char* from, const char* to, std::uint8_t proto, std::uint8_t flags = 0) {
    bt_reject r{};
    r.tuple.src = net::Address::parse(from)->raw();
    r.tuple.dst = net::Address::parse(to)->raw();
    r.tuple.sport = 1111;
    r.tuple.dport = 2222;
    r.tuple.proto = proto;
    r.seq = 0xfffffff0;
    r.ack = 77;
    r.payload_len = 68;
    r.tcp_flags = flags;
    return r;
}

// The Internet checksum over everything, its field included, is 0.
unsigned sum(const std::vector<std::uint8_t>& bytes, std::size_t from, std::uint32_t start = 0) {
    for (std::size_t i = from; i < bytes.size(); i += 2)
        start += bytes[i] << 8 | (i + 1 < bytes.size() ? bytes[i + 1] : 0);
    while (start >> 16)
        start = (start & 0xffff) + (start >> 16);
    return ~start & 0xffff;
}

void expect_segment(const std::vector<std::uint8_t>& bytes, const bt_tuple& tuple, std::uint32_t seq, std::uint32_t ack,
                    unsigned flags) {
    const auto parsed = net::parse_packet(bytes, bytes.size());
    ASSERT_TRUE(parsed);
    EXPECT_TRUE(bt_addr_equal(&parsed->tuple.src, &tuple.src) && bt_addr_equal(&parsed->tuple.dst, &tuple.dst));
    EXPECT_EQ(parsed->tuple.sport, tuple.sport);
    EXPECT_EQ(parsed->tuple.dport, tuple.dport);
    EXPECT_EQ(parsed->seq, seq);
    EXPECT_EQ(parsed->ack, ack);
    EXPECT_EQ(parsed->tcp_flags, flags);
    EXPECT_EQ(parsed->payload_length, 0u);
    const bool v4 = bytes[0] >> 4 == 4;
    const std::size_t header = v4 ? 20 : 40, addresses = v4 ? 12 : 8;
    ASSERT_EQ(bytes.size(), header + 20);
    if (v4) {
        EXPECT_EQ(sum({bytes.begin(), bytes.begin() + 20}, 0), 0u);
    }
    std::vector<std::uint8_t> pseudo(bytes.begin() + static_cast<std::ptrdiff_t>(addresses), bytes.end());
    EXPECT_EQ(sum(pseudo, 0, 6 + 20), 0u) << "TCP checksum";
}

TEST(Rejecter, Resets) {
    for (const auto& [from, to] : {std::pair{"10.0.0.2", "203.0.113.9"}, std::pair{"fd00::2", "2001:db8::9"}}) {
        const bt_reject data = packet(from, to, 6, BT_TCP_ACK);
        bt_tuple back;
        bt_mirror(&data.tuple, &back);
        expect_segment(reset_for_sender(data), back, 77, 0, BT_TCP_RST);
        expect_segment(reset_for_receiver(data), data.tuple, 0xfffffff0, 77, BT_TCP_RST | BT_TCP_ACK);
        bt_reject attempt = packet(from, to, 6, BT_TCP_SYN);
        attempt.payload_len = 0;
        expect_segment(reset_for_sender(attempt), back, 0, 0xfffffff1, BT_TCP_RST | BT_TCP_ACK);
        expect_segment(reset_for_sender(packet(from, to, 6, BT_TCP_FIN)), back, 0, 0x35, BT_TCP_RST | BT_TCP_ACK);
    }
}

TEST(Rejecter, PortUnreachable) {
    const auto v4 = port_unreachable(packet("10.0.0.2", "203.0.113.9", 17));
    ASSERT_EQ(v4.size(), 8u + 20 + 8);
    EXPECT_EQ(v4[0], 3);
    EXPECT_EQ(v4[1], 3);
    EXPECT_EQ(sum(v4, 0), 0u);
    const std::vector<std::uint8_t> quoted(v4.begin() + 8, v4.end());
    const auto parsed = net::parse_packet(quoted, quoted.size() + 68);
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->tuple.sport, 1111);
    EXPECT_EQ(parsed->tuple.dport, 2222);
    EXPECT_EQ(parsed->payload_length, 68u);
    const auto v6 = port_unreachable(packet("fd00::2", "2001:db8::9", 17));
    ASSERT_EQ(v6.size(), 8u + 40 + 8);
    EXPECT_EQ(v6[0], 1);
    EXPECT_EQ(v6[1], 4);
}

TEST(Rejecter, WhatIsNeverAnswered) {
    auto rejecter = Rejecter::open(0);
    if (!rejecter)
        GTEST_SKIP() << rejecter.error().message;
    EXPECT_FALSE((*rejecter)->answer(packet("127.0.0.1", "127.0.0.2", 6, BT_TCP_RST)));
    EXPECT_FALSE((*rejecter)->answer(packet("127.0.0.1", "239.192.152.143", 17)));
    EXPECT_FALSE((*rejecter)->answer(packet("0.0.0.0", "127.0.0.1", 17)));
    EXPECT_FALSE((*rejecter)->answer(packet("fe80::1", "2001:db8::1", 17)));
    EXPECT_FALSE((*rejecter)->answer(packet("::", "2001:db8::1", 17)));
    EXPECT_FALSE((*rejecter)->answer(packet("127.0.0.1", "127.0.0.2", 1)));
}

} // namespace
} // namespace btblock::queue
