// SPDX-License-Identifier: MIT
// Protocols that were mistaken for BitTorrent before.
#include "detect_build.h"

using namespace btblock::detect;
using namespace btblock::detect::build;

namespace {

TEST(LookAlike, Iperf3Datagrams) {
    // sec, usec, sequence number (32 bits: 1 and 2 come early), then a pattern or zeros.
    for (std::uint32_t n = 0; n < 200; ++n)
        for (const std::string& fill :
             {std::string(1436, '\0'), std::string(1436, '9'), hash(n) + std::string(200, '-')}) {
            Talk t(IPPROTO_UDP, 5201);
            EXPECT_EQ(t.client(u32(1700000000) + u32(n * 977) + u32(n) + u32(n) + fill).judgement, Judgement::none);
            EXPECT_EQ(t.server(u32(n) + u32(n) + fill).judgement, Judgement::none);
        }
}

TEST(LookAlike, Ntp) {
    for (std::uint32_t dispersion = 0; dispersion < 8; ++dispersion) {
        const std::string request = std::string("\x23\x02\x06\xec", 4) + u32(0x00000001) + u32(dispersion) +
                                    u32(0xc0000201) + u64(0xe5e0e0e0e0e0e0e0) + u64(0) + u64(0xe5e0e0e1e0e0e0e0) +
                                    u64(0xe5e0e0e2e0e0e0e0);
        Talk t(IPPROTO_UDP, 123);
        EXPECT_EQ(t.client(request).judgement, Judgement::none);
        EXPECT_EQ(t.server(request).judgement, Judgement::none);
        EXPECT_EQ(t.client(request + std::string(60, '\0')).judgement, Judgement::none) << "with a MAC and extensions";
    }
}

TEST(LookAlike, RtpWithSmallSources) {
    std::mt19937_64 rng(6);
    Talk t(IPPROTO_UDP, 5004);
    for (unsigned i = 0; i < 3000; ++i) {
        const std::string packet = u8(0x80) + u8(i % 128) + u16(i) + u32(i * 160) + u32(i % 3) + random_bytes(rng, 160);
        ASSERT_EQ(t.client(packet).judgement, Judgement::none);
    }
}

TEST(LookAlike, DnsWithAnyId) {
    const std::string question = std::string("\x07tracker\x07"
                                             "example\x03org\0\0\x01\0\x01",
                                             25);
    Talk t(IPPROTO_UDP, 53, 4096);
    for (std::uint32_t id = 0; id < 0x10000; ++id) {
        t.next_client_port();
        const std::string query = u16(id) + u16(0x0100) + u16(1) + u16(0) + u16(0) + u16(0) + question;
        ASSERT_EQ(t.client(query).judgement, Judgement::clean) << id;
        const std::string answer = u16(id) + u16(0x8180) + u16(1) + u16(1) + u16(0) + u16(0) + question +
                                   std::string("\xc0\x0c\0\x01\0\x01\0\0\x01\x2c\0\x04", 12) + "\xc6\x33\x64\x07";
        ASSERT_EQ(t.server(answer).judgement, Judgement::none) << id;
    }
}

TEST(LookAlike, SmallBinaryDatagrams) {
    std::mt19937_64 rng(8);
    const std::vector<std::string> heads{
        std::string("\0\0\0\x01", 4),
        std::string("\0\0\0\x03\x05", 5), // like SOCKS, like tracker responses
        std::string("\x41\0", 2),
        std::string("\x01\0\0\0", 4),                   // like uTP; a WireGuard initiation
        std::string("\0\0\x04\x17\x27\x10\x19\x81", 8), // not quite the tracker's magic
        "d1:",
        "d1:ad2:id20:",
        "d1:rd2:id20:",
        "d1:eli201e",
    };
    Talk t(IPPROTO_UDP, 40001, 4096);
    for (int i = 0; i < 100'000; ++i) {
        t.next_client_port();
        const std::string s = heads[static_cast<std::size_t>(i) % heads.size()] + random_bytes(rng, rng() % 160);
        ASSERT_NE(t.client(s).judgement, Judgement::proves) << i;
    }
}

TEST(LookAlike, TextAboutBitTorrent) {
    const std::string words = "The handshake is \x13" + std::string("BitTorrent protocol, then ") + handshake() +
                              "d1:ad2:id20: " + dht_ping + " 1:md6:ut_pexi1ee " + announce_request();
    const std::vector<std::vector<std::string>> talks{
        {"EHLO mail.example.org\r\n", "MAIL FROM:<a@b>\r\n", "DATA\r\n", words, handshake(), announce_request(),
         extended(0, extension_dict)},
        {"NICK a\r\nUSER a 0 * :a\r\n", "PRIVMSG #c :" + words, words},
        {"Q" + u32(60) + "INSERT INTO t VALUES ('" + words + "')", words},
        {"POST /wiki HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(words.size() * 2) + "\r\n\r\n", words,
         words},
    };
    for (const auto& talk : talks) {
        Talk t(IPPROTO_TCP);
        for (const auto& s : talk)
            EXPECT_FALSE(proves(t.client(s))) << s.substr(0, 40);
    }
    EXPECT_FALSE(proves(one_datagram(words)));
    Talk page(IPPROTO_TCP, 80);
    page.client("GET /wiki/BitTorrent HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_FALSE(proves(page.server("HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + words)));
    EXPECT_FALSE(proves(page.server(words)));
    EXPECT_FALSE(proves(page.server(handshake())));
    EXPECT_FALSE(proves(page.server(announce_request())));
}

TEST(LookAlike, ServersThatSpeakFirstAreDoneWith) {
    for (const char* greeting : {"SSH-2.0-OpenSSH_9.2\r\n", "RFB 003.008\n", "220 ftp.example.org ready\r\n",
                                 "* OK IMAP4rev1\r\n", "+OK POP3\r\n"})
        EXPECT_EQ(Talk(IPPROTO_TCP).server(greeting).judgement, Judgement::clean) << greeting;
}

} // namespace
