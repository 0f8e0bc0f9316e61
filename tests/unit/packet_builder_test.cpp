// SPDX-License-Identifier: MIT
// The builder itself, against bytes written out by hand: the tests of the path rest on it.
#include "bpf/PacketBuilder.h"

#include <gtest/gtest.h>

namespace btblock::test {
namespace {

std::string hex(const std::string& s) {
    std::string out;
    for (const char c : s) {
        out += "0123456789abcdef"[c >> 4 & 15];
        out += "0123456789abcdef"[c & 15];
    }
    return out;
}

TEST(PacketBuilder, UdpOverIpv4) {
    const Packet p = Packet::udp("10.0.0.2", 4660, "192.0.2.1", 53).payload("hi");
    EXPECT_EQ(hex(p.ip()), "4500001e0007000040110000"
                           "0a000002c0000201"
                           "12340035000a0000"
                           "6869");
    EXPECT_EQ(hex(p.frame()).substr(24), "0800" + hex(p.ip()));
    EXPECT_EQ(p.header_size(), 42u);
    EXPECT_EQ(hex(p.reply().ip()).substr(24, 24), "c00002010a00000200351234");
}

TEST(PacketBuilder, TcpOverIpv4WithOptionsAndTags) {
    Packet p = Packet::tcp("10.0.0.2", 1, "192.0.2.1", 2).payload("x").seq(0x01020304).flags(syn | ack);
    p.ip_options(1).tcp_options(1).fragment(2, true).qinq(0x64, 5);
    EXPECT_EQ(hex(p.frame()).substr(24), "88a80064"
                                         "81000005"
                                         "0800"
                                         "46000031000720024006"
                                         "00000a000002c0000201"
                                         "01010101"
                                         "00010002010203040000000160"
                                         "12ffff00000000"
                                         "01010101"
                                         "78");
}

TEST(PacketBuilder, Ipv6ExtensionHeaders) {
    Packet p = Packet::udp("fd00::1", 1, "fd00::2", 2).payload("x");
    p.extension(0, 16).extension(51, 12).fragment(1, false);
    EXPECT_EQ(hex(p.ip()), "60000000" // 16 + 12 + 8 + 9 bytes follow
                           "002d0040"
                           "fd000000000000000000000000000001"
                           "fd000000000000000000000000000002"
                           "3301" +
                               std::string(28, '0') +          // hop-by-hop, next AH
                               "2c01" + std::string(20, '0') + // AH, next fragment
                               "1100000800000007"
                               "0001000200090000"
                               "78");
}

} // namespace
} // namespace btblock::test
