// SPDX-License-Identifier: MIT
// Conversations of other protocols through the whole decision: what was taken for BitTorrent before, and what comes
// near it. Nothing of it may be blocked.
#include "bpf/Scenarios.h"
#include "detect/Pipeline.h"

#include <gtest/gtest.h>
#include <memory>
#include <span>

namespace btblock::test {
namespace {

// Client and server that talk; counts what is blocked. What the client shows is remembered between its conversations.
class Conversation {
public:
    explicit Conversation(bool udp, std::uint16_t port) : udp_(udp), port_(port) { next(); }
    // Another connection of the same client to another server.
    void next() {
        ++number_;
        const std::string server =
            "203.0." + std::to_string(113 + number_ / 250) + "." + std::to_string(1 + number_ % 250);
        const auto sport = static_cast<std::uint16_t>(20000 + number_ % 40000);
        out_ = std::make_unique<Stream>(client4, sport, server, port_);
        back_ = std::make_unique<Stream>(server, port_, client4, sport);
        datagram_ = std::make_unique<Packet>(Packet::udp(client4, sport, server, port_));
    }
    void client(const std::string& payload) { send(udp_ ? Packet(*datagram_).payload(payload) : out_->next(payload)); }
    void server(const std::string& payload) { send(udp_ ? datagram_->reply().payload(payload) : back_->next(payload)); }
    [[nodiscard]] unsigned blocked() const { return blocked_; }

private:
    void send(const Packet& packet) {
        const std::string ip = packet.ip();
        const std::span bytes(reinterpret_cast<const std::uint8_t*>(ip.data()), ip.size());
        blocked_ += pipeline_.packet(bytes, ip.size(), now_ += 5'000'000).action == BT_ACT_DROP;
    }

    bool udp_;
    std::uint16_t port_;
    unsigned number_ = 0, blocked_ = 0;
    std::uint64_t now_ = BT_NSEC_PER_SEC;
    detect::Pipeline pipeline_;
    std::unique_ptr<Stream> out_, back_;
    std::unique_ptr<Packet> datagram_;
};

constexpr unsigned sessions = 300;

// An encrypted packet of RFC 4253 with its length in clear: aes128-gcm (RFC 5647, 16 bytes of tag) and the
// encrypt-then-MAC modes (32 bytes of hmac-sha2-256-etm) look like length-prefixed messages.
std::string ssh_packet(unsigned blocks, std::size_t mac, unsigned seed) {
    return be(16 * blocks, 4) + noise(16 * blocks + mac, seed);
}

TEST(PipelineLookAlike, OpenSshWithLengthsInClear) {
    for (const std::size_t mac : {16u, 32u, 64u})
        for (const bool from_the_middle : {false, true}) {
            Conversation ssh(false, 2222);
            for (unsigned s = 0; s < sessions; ++s) {
                ssh.next();
                if (!from_the_middle) {
                    ssh.client("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n");
                    ssh.server("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n");
                    ssh.client(be(1500, 4) + be(6, 1) + be(20, 1) + noise(1494, s));
                    ssh.server(be(1100, 4) + be(6, 1) + be(20, 1) + noise(1094, s + 1));
                }
                for (unsigned i = 0; i < 12; ++i) { // keystrokes, their echo, output
                    ssh.client(ssh_packet(1 + i % 3, mac, s * 100 + i));
                    ssh.server(ssh_packet(1 + i % 5, mac, s * 100 + i + 50));
                }
            }
            EXPECT_EQ(ssh.blocked(), 0u) << mac << (from_the_middle ? ", from the middle" : "");
        }
}

TEST(PipelineLookAlike, Iperf3) {
    Conversation udp(true, 5201);
    for (unsigned s = 0; s < sessions; ++s) {
        udp.next();
        udp.client(be(0x36373839, 4)); // the word that opens a stream, and its answer
        udp.server(be(0x39383736, 4));
        for (unsigned i = 1; i <= 20; ++i) // seconds, microseconds, number, then zeros or a pattern
            udp.client(be(1700000000 + s, 4) + be(i * 977, 4) + be(i, 4) +
                       (s % 2 ? std::string(1436, '\0') : noise(1436, s)));
        for (unsigned i = 1; i <= 20; ++i)
            udp.server(be(i * 977, 4) + be(0, 4) + be(i % 4, 4) + std::string(200 + i, '\0'));
    }
    EXPECT_EQ(udp.blocked(), 0u);
    Conversation tcp(false, 5201);
    tcp.client(noise(36, 1) + std::string(1, '\0')); // the cookie of the control connection
    for (unsigned i = 0; i < 10; ++i)
        tcp.client(be(110, 4) + "{\"tcp\":true,\"omit\":0,\"time\":10}"), tcp.server(be(9, 1));
    EXPECT_EQ(tcp.blocked(), 0u);
}

TEST(PipelineLookAlike, LdapWithSasl) {
    Conversation ldap(false, 389);
    for (unsigned s = 0; s < sessions; ++s) {
        ldap.next();
        if (s % 2) {
            const std::string bind =
                be(0x020102600482ULL, 6) + be(1500, 2) + std::string("\x02\x01\x03\x04\x00\xa3", 6);
            ldap.client(be(0x3082, 2) + be(1600, 2) + bind + noise(1590, s)); // a Kerberos ticket in BER
            ldap.server(be(0x3081b1, 3) + be(0x020102610ULL, 6) + be(0x0a010e0400, 5) + noise(160, s));
        }
        for (unsigned i = 0; i < 10; ++i) { // wrapped: a length, then a GSS-API token (RFC 4121)
            ldap.client(be(0xaa, 4) + be(0x0504, 2) + be(0x06ff, 2) + noise(0xa6, s * 20 + i));
            ldap.server(be(0x1aa, 4) + be(0x0504, 2) + be(0x07ff, 2) + noise(0x1a6, s * 20 + i + 10));
        }
    }
    EXPECT_EQ(ldap.blocked(), 0u);
}

TEST(PipelineLookAlike, Vnc) {
    for (const bool from_the_middle : {false, true}) {
        Conversation vnc(false, 5900);
        for (unsigned s = 0; s < sessions; ++s) {
            vnc.next();
            if (!from_the_middle) {
                vnc.server("RFB 003.008\n");
                vnc.client("RFB 003.008\n");
                vnc.server(be(0x0102, 2));
                vnc.client(be(2, 1));
                vnc.server(noise(16, s)); // the challenge
                vnc.client(noise(16, s + 1));
                vnc.server(be(0, 4));
                vnc.client(be(1, 1));
            }
            for (unsigned i = 0; i < 10; ++i) {
                vnc.client(be(3, 1) + be(1, 1) + be(0, 4) + be(1024, 2) + be(768, 2)); // update request
                vnc.server(be(0, 2) + be(1, 2) + be(0, 2) + be(i, 2) + be(16, 2) + be(16, 2) + be(i % 8, 4) +
                           noise(300, i));
                vnc.server(be(1, 4) + be(0, 1)); // a short zlib block
            }
        }
        EXPECT_EQ(vnc.blocked(), 0u);
    }
}

TEST(PipelineLookAlike, NtpWithSmallRootDispersion) {
    for (const std::uint16_t port : {std::uint16_t{123}, std::uint16_t{1123}}) { // also where its port does not say it
        Conversation ntp(true, port);
        for (unsigned dispersion = 0; dispersion < 64; ++dispersion) {
            ntp.next();
            for (unsigned i = 0; i < 4; ++i) {
                const std::string clock = be(0x83aa7e80u + dispersion, 4) + noise(4, i);
                ntp.client(be(0x230206ec, 4) + be(1, 4) + be(dispersion, 4) + be(0xc0000201, 4) + clock + clock +
                           clock + clock);
                ntp.server(be(0x240206ec, 4) + be(0, 4) + be(dispersion % 4, 4) + be(0xc0000201, 4) + clock + clock +
                           clock + clock + std::string(52, '\0'));
            }
        }
        EXPECT_EQ(ntp.blocked(), 0u);
    }
}

TEST(PipelineLookAlike, RtpWithSmallSource) {
    Conversation rtp(true, 5004);
    for (unsigned s = 0; s < sessions; ++s) {
        rtp.next();
        for (unsigned i = 0; i < 20; ++i) {
            const std::string head = be(0x80, 1) + be(s % 128, 1) + be(i, 2) + be(i * 160, 4) + be(s % 4, 4);
            rtp.client(head + noise(160, i));
            rtp.server(head + std::string(160, '\xd5'));
        }
        rtp.client(be(0x80c8, 2) + be(6, 2) + be(s % 4, 4) + std::string(20, '\0')); // RTCP sender report
    }
    EXPECT_EQ(rtp.blocked(), 0u);
}

// Epoch, connection, call, sequence, serial, type, flags, status, security, checksum, service.
std::string rx(unsigned call, unsigned seq, unsigned serial, unsigned type, const std::string& data) {
    return be(0x5f000000u + call, 4) + be(0x10000000u, 4) + be(call, 4) + be(seq, 4) + be(serial, 4) + be(type, 1) +
           be(1, 1) + be(0, 2) + be(0, 2) + be(1, 2) + data;
}

TEST(PipelineLookAlike, AfsRx) {
    Conversation afs(true, 7000);
    for (unsigned call = 0; call < 64; ++call) {
        afs.next();
        for (unsigned i = 1; i <= 6; ++i) {
            afs.client(rx(call % 8, i, i, 1, be(131, 4) + noise(90, i)));
            afs.server(rx(call % 8, i, i, 2, noise(17, i) + std::string(40, '\0')));
            afs.server(rx(call % 8, i, i + 1, 1, noise(300, i)));
        }
    }
    EXPECT_EQ(afs.blocked(), 0u);
}

TEST(PipelineLookAlike, LwappAndCapwap) {
    for (const std::uint16_t port : {std::uint16_t{12223}, std::uint16_t{5246}}) {
        Conversation ap(true, port);
        for (unsigned s = 0; s < sessions; ++s) {
            ap.next();
            for (unsigned i = 0; i < 10; ++i) {
                // flags, fragment, length, status; then type, sequence, length, session
                ap.client(be(0x04, 1) + be(i, 1) + be(40, 2) + be(0, 2) + be(1 + i % 4, 1) + be(i, 1) + be(s % 3, 4) +
                          be(1, 4) + noise(60, i));
                ap.server(be(0x00100200, 4) + be(0, 4) + be(1 + s % 2, 4) + be(i, 1) + be(30, 2) + noise(80, i));
            }
        }
        EXPECT_EQ(ap.blocked(), 0u);
    }
}

// Version 1 with a session: the first byte is that of a uTP STATE packet.
TEST(PipelineLookAlike, Pfcp) {
    Conversation pfcp(true, 8805);
    for (unsigned s = 0; s < sessions; ++s) {
        pfcp.next();
        for (unsigned i = 0; i < 10; ++i) {
            const std::string session = be(0, 4) + be(s, 4);
            pfcp.client(be(0x21, 1) + be(50 + i % 8, 1) + be(60, 2) + session + be(i, 3) + be(0, 1) + noise(48, i));
            pfcp.server(be(0x21, 1) + be(51 + i % 8, 1) + be(33, 2) + session + be(i, 3) + be(0, 1) + noise(21, i));
            pfcp.client(be(0x20, 1) + be(1, 1) + be(12, 2) + be(i, 3) + be(0, 1) + be(96, 2) + be(4, 2) + be(s, 4));
        }
    }
    EXPECT_EQ(pfcp.blocked(), 0u);
}

TEST(PipelineLookAlike, TextAboutBitTorrent) {
    const std::string words = handshake() + " and d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe\r\n";
    Conversation mail(false, 25);
    mail.server("220 mail.example.org ESMTP\r\n");
    mail.client("EHLO client.example.org\r\n");
    mail.server("250 mail.example.org\r\n");
    mail.client("MAIL FROM:<a@example.org>\r\n");
    mail.client("DATA\r\n");
    mail.client("Subject: \x13" + words);
    mail.client(words);
    mail.next(); // the server greets late, and the client writes first
    mail.client("HELO x\r\n");
    mail.client(words);
    EXPECT_EQ(mail.blocked(), 0u);
    Conversation irc(false, 6667);
    irc.client("NICK a\r\nUSER a 0 * :a\r\n");
    irc.server(":irc.example.org 001 a :Welcome\r\n");
    irc.client("PRIVMSG #c :" + words);
    irc.client(words);
    irc.server(words);
    EXPECT_EQ(irc.blocked(), 0u);
    Conversation news(false, 119);
    news.server("200 news.example.org\r\n");
    news.client("POST\r\n");
    for (unsigned i = 0; i < 4; ++i)
        news.client(words), news.server(words);
    EXPECT_EQ(news.blocked(), 0u);
}

} // namespace
} // namespace btblock::test
