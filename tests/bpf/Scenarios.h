// SPDX-License-Identifier: MIT
// Scenarios: what a packet sequence must lead to, for the kernel programs (tests/bpf) and for detect::Pipeline alike.
#pragma once

#include "bpf/PacketBuilder.h"

#include <array>
#include <random>
#include <string>
#include <vector>

namespace btblock::test {

enum class Expect { pass, drop, punt };

struct Step {
    Packet packet;
    Expect expect;
};

struct Scenario {
    std::string name;
    std::vector<Step> steps;
};

// ---------------------------------------------------------------- payloads

inline const std::string handshake_text = "\x13"
                                          "BitTorrent protocol";
inline std::string handshake() {
    return handshake_text + std::string(8, '\0') + std::string(20, 'h') + "-qB4520-abcdefghijkl";
}
inline std::string dht_query() {
    return "d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
}
inline std::string dht_response() {
    return "d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re";
}
inline std::string dht_error() {
    return "d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee";
}
inline std::string dht_bep42(int width) {
    return "d2:ip" + std::to_string(width) + ":" + std::string(static_cast<std::size_t>(width), 'i') +
           "1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re";
}
// Of the DHT of Azureus, Vuze and BiglyBT: find node, with an address of 4 or 16 bytes; an answer, action 1029 or 1032.
inline std::string azureus_dht_request(unsigned width) {
    return be(0xabc74312c2e9ab96ULL, 8) + be(1028, 4) + be(0xbafcd1a0, 4) + be(54, 1) + be(0, 1) + be(0, 4) +
           be(55, 1) + be(width, 1) + std::string(width, '\x0a') + be(45000, 2) + be(0x30db44f5, 4) +
           be(0x19ac3a4b5c6ULL, 8) + be(0, 2) + be(20, 1) + std::string(20, 'n');
}
inline std::string azureus_dht_reply(unsigned action) {
    return be(action, 4) + be(0xbafcd1a0, 4) + be(0xabc74312c2e9ab96ULL, 8) + be(54, 1) + be(0, 1) + be(0, 4) +
           be(0x40d1ef71, 4) + be(0, 4);
}
inline std::string tracker_connect() {
    return be(0x41727101980ULL, 8) + be(0, 4) + be(0x12345678, 4);
}
inline std::string tracker_announce() {
    return be(0x1122334455667788ULL, 8) + be(1, 4) + be(9, 4) + std::string(20, 'h') + "-TR3000-abcdefghijkl" +
           be(0, 8) + be(1000, 8) + be(0, 8) + be(2, 4) + be(0, 4) + be(77, 4) + be(0xffffffff, 4) + be(6881, 2);
}
inline std::string utp(unsigned type, unsigned id, unsigned seq, unsigned ack, std::uint32_t diff = 0,
                       const std::string& data = "") {
    return be(type << 4 | 1, 1) + be(0, 1) + be(id, 2) + be(0x01020304, 4) + be(diff, 4) + be(0x10000, 4) + be(seq, 2) +
           be(ack, 2) + data;
}
inline std::string lsd() {
    return "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: "
           "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n\r\n";
}
inline std::string socks_udp(int atyp, const std::string& inner) {
    const std::string where = atyp == 1   ? std::string("\x7f\x01\x02\x03", 4)
                              : atyp == 4 ? std::string(16, '\x20')
                                          : "\x0b" + std::string("example.org");
    return be(0, 3) + be(static_cast<unsigned>(atyp), 1) + where + be(6881, 2) + inner;
}
// Deterministic bytes that look uniformly random.
inline std::string noise(std::size_t n, unsigned seed) {
    std::mt19937_64 rng(seed);
    std::string s(n, '\0');
    for (char& c : s)
        c = static_cast<char>(rng() >> 32 & 0xff);
    return s;
}
inline std::string tls_hello() {
    return be(0x16, 1) + be(0x0301, 2) + be(200, 2) + be(1, 1) + be(196, 3) + be(0x0303, 2) + noise(194, 5);
}
// OpenSSL's first extension: the server name.
inline std::string tls_hello_for(const std::string& host) {
    const auto n = static_cast<unsigned>(host.size());
    const std::string name = be(0, 2) + be(n + 5, 2) + be(n + 3, 2) + be(0, 1) + be(n, 2) + host;
    const std::string extensions = name + be(43, 2) + be(3, 2) + be(2, 1) + be(0x0304, 2);
    const std::string body = be(0x0303, 2) + noise(32, 5) + be(32, 1) + noise(32, 6) + be(4, 2) + be(0x13011302, 4) +
                             be(1, 1) + be(0, 1) + be(static_cast<unsigned>(extensions.size()), 2) + extensions;
    const auto length = static_cast<unsigned>(body.size());
    return be(0x16, 1) + be(0x0301, 2) + be(length + 4, 2) + be(1, 1) + be(length, 3) + body;
}
inline std::string quic_initial() {
    return be(0xc3, 1) + be(1, 4) + be(8, 1) + noise(1190, 6);
}
inline std::string stun_request() {
    return be(1, 2) + be(0, 2) + be(0x2112a442, 4) + noise(12, 7);
}
inline std::string dtls_hello() {
    return be(0x16, 1) + be(0xfefd, 2) + be(0, 8) + be(100, 2) + noise(100, 8);
}
inline std::string dns_query() {
    return be(0xabcd, 2) + be(0x0100, 2) + be(1, 2) + be(0, 6) +
           std::string("\x07"
                       "example"
                       "\x03"
                       "org",
                       12) +
           be(0, 1) + be(1, 2) + be(1, 2);
}
inline std::string wireguard_init() {
    return be(1, 1) + be(0, 3) + noise(144, 9);
}
inline std::string ntp_request() {
    return be(0x23, 1) + std::string(47, '\0');
}

// ---------------------------------------------------------------- sequences

inline const std::string client4 = "10.0.0.2", remote4 = "203.0.113.9", other4 = "198.51.100.77";
inline const std::string client6 = "fd00::2", remote6 = "2001:db8::9", other6 = "2001:db8:1::77";

// Payload segments of one TCP direction, in order.
class Stream {
public:
    Stream(const std::string& from, std::uint16_t sport, const std::string& to, std::uint16_t dport,
           std::uint32_t seq = 1000)
        : base_(Packet::tcp(from, sport, to, dport)), seq_(seq) {}
    Packet next(const std::string& bytes) {
        Packet p = at(seq_, bytes);
        seq_ += static_cast<std::uint32_t>(bytes.size());
        return p;
    }
    [[nodiscard]] Packet at(std::uint32_t seq, const std::string& bytes) const {
        Packet p = base_;
        return p.seq(seq).payload(bytes);
    }
    [[nodiscard]] std::uint32_t seq() const { return seq_; }

private:
    Packet base_;
    std::uint32_t seq_;
};

struct Addresses {
    std::string client = client4, remote = remote4, other = other4;
};

// Turns 1 to 5 of an encrypted peer connection, and what the third and the fifth must lead to. The first turn is a key
// and `pad` bytes, by default as many as the seed.
inline std::vector<Step> mse_turns(const std::string& client, const std::string& remote, std::uint16_t sport,
                                   unsigned seed, Expect third, Expect fifth, std::size_t pad = 0,
                                   std::size_t last = 68) {
    Stream a(client, sport, remote, 51000), b(remote, 51000, client, sport);
    return {{a.next(noise(96 + (pad ? pad : seed), seed)), Expect::pass},
            {b.next(noise(96 + 301, seed + 1)), Expect::pass},
            {a.next(noise(56 + 33, seed + 2)), third},
            {b.next(noise(14 + 200, seed + 3)), third == Expect::drop ? Expect::drop : Expect::pass},
            {a.next(noise(last, seed + 4)), fifth}};
}

inline std::vector<Scenario> scenarios(const Addresses& a = {}) {
    using enum Expect;
    std::vector<Scenario> all;
    const auto append = [](Scenario& to, const std::vector<Step>& steps) {
        to.steps.insert(to.steps.end(), steps.begin(), steps.end());
    };
    const auto udp = [&](std::uint16_t sport, std::uint16_t dport, const std::string& payload) {
        return Packet::udp(a.client, sport, a.remote, dport).payload(payload);
    };
    const auto in = [&](std::uint16_t sport, std::uint16_t dport, const std::string& payload) {
        return Packet::udp(a.remote, sport, a.client, dport).payload(payload);
    };
    const std::string hs = handshake();

    // --- peer handshake
    {
        Stream out(a.client, 40000, a.remote, 6881), back(a.remote, 6881, a.client, 40000);
        all.push_back({"handshake whole",
                       {{out.at(999, "").flags(syn), pass},
                        {out.next(hs), drop},
                        {out.next("more of it"), drop},
                        {back.next("whatever"), drop}}});
    }
    {
        Stream back(a.remote, 6881, a.client, 40000);
        all.push_back({"handshake from the outside", {{back.next(hs), drop}, {back.next("x"), drop}}});
    }
    {
        Stream bytes(a.client, 40002, a.remote, 6881);
        Scenario each{"handshake byte by byte, beyond the budget", {}};
        for (std::size_t i = 0; i < handshake_text.size(); ++i)
            each.steps.push_back({bytes.next(hs.substr(i, 1)), i + 1 < handshake_text.size() ? punt : drop});
        all.push_back(each);
    }
    for (std::size_t i = 1; i < handshake_text.size(); ++i) {
        Stream two(a.client, 40001, a.remote, 6881);
        all.push_back({"handshake split at " + std::to_string(i),
                       {{two.next(hs.substr(0, i)), punt}, {two.next(hs.substr(i)), drop}}});
        Stream again(a.client, 40001, a.remote, 6881);
        const Packet first = again.next(hs.substr(0, i));
        all.push_back({"handshake retransmitted at " + std::to_string(i),
                       {{first, punt}, {first, punt}, {again.next(hs.substr(i)), drop}}});
        for (std::size_t j = i + 1; j < handshake_text.size(); ++j) {
            Stream three(a.client, 40001, a.remote, 6881);
            all.push_back({"handshake split at " + std::to_string(i) + "," + std::to_string(j),
                           {{three.next(hs.substr(0, i)), punt},
                            {three.next(hs.substr(i, j - i)), punt},
                            {three.next(hs.substr(j)), drop}}});
        }
    }
    {
        Stream wrap(a.client, 40002, a.remote, 6881, 0xfffffff8u);
        all.push_back({"handshake over the sequence wrap",
                       {{wrap.next(hs.substr(0, 12)), punt}, {wrap.next(hs.substr(12)), drop}}});
        Stream gap(a.client, 40003, a.remote, 6881);
        all.push_back(
            {"handshake with a gap", {{gap.next(hs.substr(0, 5)), punt}, {gap.at(gap.seq() + 7, hs.substr(5)), pass}}});
        Stream turned(a.client, 40004, a.remote, 6881);
        Stream overtaken(a.client, 40007, a.remote, 6881);
        all.push_back(
            {"handshake overtaken by what follows it",
             {{overtaken.at(overtaken.seq() + 48, hs.substr(48)), pass}, {overtaken.next(hs.substr(0, 48)), drop}}});
        all.push_back({"handshake split in its text and out of order",
                       {{turned.at(turned.seq() + 9, hs.substr(9)), pass}, {turned.next(hs.substr(0, 9)), pass}}});
        Stream later(a.client, 40005, a.remote, 6667);
        all.push_back({"handshake text not at offset 0",
                       {{later.next("PRIVMSG #chat :hello there\r\n"), pass}, {later.next(hs), pass}}});
        Stream mail(a.client, 40006, a.remote, 25);
        all.push_back({"words about BitTorrent",
                       {{mail.next("Subject: \x13"
                                   "BitTorrent protocol"),
                         pass}}});
    }

    // --- proxies
    {
        Stream out(a.client, 40010, a.remote, 1080), back(a.remote, 1080, a.client, 40010);
        all.push_back({"SOCKS5 then handshake",
                       {{out.next(std::string("\x05\x01\x00", 3)), punt},
                        {back.next(std::string("\x05\x00", 2)), pass},
                        {out.next(std::string("\x05\x01\x00\x01\x7f\x01\x02\x03\x1a\xe1", 10)), punt},
                        {back.next(std::string("\x05\x00\x00\x01\x7f\x01\x02\x03\x1a\xe1", 10)), pass},
                        {out.next(hs), drop}}});
        Stream four(a.client, 40011, a.remote, 1080);
        all.push_back(
            {"SOCKS4 then handshake",
             {{four.next(std::string("\x04\x01\x1a\xe1\x7f\x01\x02\x03\x00", 9)), punt}, {four.next(hs), drop}}});
        Stream connect(a.client, 40012, a.remote, 3128);
        all.push_back({"CONNECT then handshake",
                       {{connect.next("CONNECT 203.0.113.5:6881 HTTP/1.1\r\n\r\n"), punt}, {connect.next(hs), drop}}});
        Stream mirror_first(a.client, 40013, a.remote, 1080), answer(a.remote, 1080, a.client, 40013);
        all.push_back({"SOCKS5 then the other side's handshake",
                       {{mirror_first.next(std::string("\x05\x01\x00", 3)), punt},
                        {answer.next(std::string("\x05\x00", 2)), pass},
                        {answer.next(hs), drop}}});
    }

    // --- DHT
    all.push_back({"DHT query", {{udp(6881, 6882, dht_query()), drop}, {udp(6881, 6882, "x"), drop}}});
    all.push_back({"DHT response", {{udp(6881, 6882, dht_response()), drop}}});
    all.push_back({"DHT error", {{udp(6881, 6882, dht_error()), drop}}});
    all.push_back({"DHT short error", {{udp(6881, 6882, "d1:eli203e1:xe1:y1:ee"), drop}}});
    all.push_back({"DHT BEP 42, 6 bytes", {{udp(6881, 6882, dht_bep42(6)), drop}}});
    all.push_back({"DHT BEP 42, 18 bytes", {{udp(6881, 6882, dht_bep42(18)), drop}}});
    all.push_back(
        {"DHT unusual", {{udp(6881, 6882, "d1:q4:ping1:t2:aa1:y1:q1:ad2:id20:abcdefghij0123456789ee"), punt}}});
    all.push_back({"DHT from the outside", {{in(6881, 6882, dht_query()), drop}}});
    for (const unsigned width : {4u, 16u}) {
        const Step asks{udp(45000, 6881, azureus_dht_request(width)), pass};
        const Step asks_again{udp(45001, 6881, azureus_dht_request(width)), drop};
        const Step answered{in(45002, 6881, azureus_dht_reply(1029)), drop};
        all.push_back({"Azureus DHT, an active client, " + std::to_string(width),
                       {asks, {udp(7000, 1337, tracker_connect()), drop}, asks_again, answered}});
    }
    all.push_back({"Azureus DHT, another action",
                   {{udp(7000, 1337, tracker_connect()), drop}, {udp(45000, 6881, azureus_dht_reply(1040)), pass}}});
    all.push_back({"bencode lookalike", {{udp(6881, 6882, "dx:this is no dictionary, whatever it says ok"), pass}}});

    // --- UDP tracker
    all.push_back(
        {"tracker connect", {{udp(7000, 1337, tracker_connect()), drop}, {udp(7000, 1337, tracker_announce()), drop}}});
    all.push_back({"tracker connect, padded", {{udp(7000, 1337, tracker_connect() + std::string(8, 'p')), drop}}});
    all.push_back({"tracker announce alone", {{udp(7000, 1337, tracker_announce()), drop}}});
    all.push_back({"tracker connect, wrong magic", {{udp(7000, 1337, be(0x41727101981ULL, 8) + be(0, 8)), pass}}});

    // --- uTP
    all.push_back(
        {"uTP SYN and STATE", {{udp(7100, 7200, utp(4, 77, 1, 0)), pass}, {in(7200, 7100, utp(2, 77, 500, 1)), drop}}});
    all.push_back({"uTP SYN and STATE, inbound",
                   {{in(7200, 7100, utp(4, 77, 1, 0)), pass}, {udp(7100, 7200, utp(2, 77, 500, 1)), drop}}});
    all.push_back(
        {"uTP wrong id", {{udp(7100, 7200, utp(4, 77, 1, 0)), pass}, {in(7200, 7100, utp(2, 78, 500, 1)), pass}}});
    all.push_back(
        {"uTP wrong ack", {{udp(7100, 7200, utp(4, 77, 1, 0)), pass}, {in(7200, 7100, utp(2, 77, 500, 2)), pass}}});
    all.push_back({"uTP STATE with data",
                   {{udp(7100, 7200, utp(4, 77, 1, 0)), pass}, {in(7200, 7100, utp(2, 77, 500, 1, 0, "data")), pass}}});
    all.push_back({"uTP SYN not strict",
                   {{udp(7100, 7200, utp(4, 77, 1, 5)), pass}, {in(7200, 7100, utp(2, 77, 500, 1)), pass}}});
    all.push_back({"uTP SYN of an active client",
                   {{udp(7000, 1337, tracker_connect()), drop}, {udp(7101, 7200, utp(4, 77, 1, 0)), drop}}});
    all.push_back({"uTP SYN as libutp sends it, and another of the same socket",
                   {{udp(7102, 7200, utp(4, 77, 1, 0, 0x7fffffff)), pass},
                    {udp(7102, 7200, utp(4, 77, 1, 0, 0x7fffffff)), pass},
                    {udp(7102, 7201, utp(4, 79, 9, 0, 0x7fffffff)), drop}}});
    all.push_back({"uTP SYNs of two sockets",
                   {{udp(7103, 7200, utp(4, 77, 1, 0)), pass}, {udp(7104, 7201, utp(4, 79, 9, 0)), pass}}});
    all.push_back(
        {"uTP running connection",
         {{udp(7100, 7200, utp(0, 101, 10, 20, 5, "abc")), pass}, {in(7200, 7100, utp(2, 100, 21, 10, 5)), drop}}});
    all.push_back({"uTP running connection, packets under way",
                   {{udp(7100, 7200, utp(0, 101, 10, 20, 5, "abc")), pass},
                    {in(7200, 7100, utp(2, 100, 210, 9, 5)), pass},
                    {udp(7100, 7200, utp(0, 101, 11, 200, 5, "abc")), drop}}});
    all.push_back({"uTP running connection, acknowledges what was not sent",
                   {{udp(7100, 7200, utp(0, 101, 10, 20, 5, "abc")), pass},
                    {in(7200, 7100, utp(2, 100, 21, 900, 5)), pass},
                    {udp(7100, 7200, utp(0, 101, 1500, 21, 5, "abc")), pass},
                    {in(7200, 7100, utp(2, 100, 22, 10, 5)), pass}}});
    all.push_back(
        {"uTP running connection, the same id both ways",
         {{udp(7100, 7200, utp(0, 101, 10, 20, 5, "abc")), pass}, {in(7200, 7100, utp(2, 101, 21, 10, 5)), pass}}});

    {
        const std::string pex = be(20, 1) + be(1, 1) + "d5:added6:abcdef7:added.f1:xe";
        const std::string whole = be(static_cast<unsigned>(pex.size()), 4) + pex;
        all.push_back({"uTP packet with a handshake", {{udp(7110, 7200, utp(0, 101, 10, 20, 5, hs)), punt}}});
        all.push_back({"uTP packet with PEX", {{udp(7111, 7200, utp(0, 101, 10, 20, 5, whole)), punt}}});
        all.push_back({"uTP packet with data", {{udp(7112, 7200, utp(0, 101, 10, 20, 5, noise(90, 5))), pass}}});
    }

    // --- LSD, SOCKS UDP
    all.push_back({"LSD IPv4", {{Packet::udp(client4, 6771, "239.192.152.143", 6771).payload(lsd()), drop}}});
    all.push_back({"LSD IPv6", {{Packet::udp(client6, 6771, "ff15::efc0:988f", 6771).payload(lsd()), drop}}});
    all.push_back(
        {"SSDP", {{Packet::udp(client4, 6771, "239.255.255.250", 1900).payload("M-SEARCH * HTTP/1.1\r\n\r\n"), pass}}});
    for (const int atyp : {1, 3, 4}) {
        const std::string kind = std::to_string(atyp);
        all.push_back({"SOCKS UDP DHT, address type " + kind, {{udp(7300, 1080, socks_udp(atyp, dht_query())), drop}}});
        all.push_back(
            {"SOCKS UDP text, address type " + kind, {{udp(7300, 1080, socks_udp(atyp, std::string(40, 'x'))), pass}}});
    }

    // --- something else: clean at the first packet, later ones are not looked at
    const auto clean_tcp = [&](const char* name, std::uint16_t port, const std::string& first) {
        Stream s(a.client, 41000, a.remote, port);
        all.push_back({std::string("clean ") + name, {{s.next(first), pass}, {s.next(hs), pass}}});
    };
    const auto clean_udp = [&](const char* name, std::uint16_t port, const std::string& first) {
        all.push_back(
            {std::string("clean ") + name, {{udp(41000, port, first), pass}, {udp(41000, port, dht_query()), pass}}});
    };
    clean_tcp("TLS", 443, tls_hello());
    clean_tcp("TLS with a name", 443, tls_hello_for("a-host-name-of-forty-characters.example.or"));
    clean_tcp("Delivery Optimization", 7681,
              "\x0e"
              "Swarm protocol" +
                  std::string(40, 0));
    {
        Stream s(a.client, 41001, a.remote, 4433);
        all.push_back({"TLS that names an info-hash", {{s.next(tls_hello_for(std::string(40, 'a'))), punt}}});
    }
    clean_tcp("SSH", 22, "SSH-2.0-OpenSSH_9.2p1\r\n");
    clean_tcp("VNC", 5900, "RFB 003.008\n");
    clean_tcp("SMTP", 25, "220 mail.example.org ESMTP\r\n");
    clean_tcp("HTTP/2", 80, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    clean_tcp("Gnutella", 6346, "GNUTELLA CONNECT/0.6\r\n");
    clean_udp("QUIC", 443, quic_initial());
    clean_udp("STUN", 3478, stun_request());
    clean_udp("DTLS", 5000, dtls_hello());
    clean_udp("DNS", 53, dns_query());
    clean_udp("WireGuard", 51820, wireguard_init());
    clean_udp("NTP", 123, ntp_request());
    clean_udp("SIP", 5060, "INVITE sip:bob@example.org SIP/2.0\r\n");

    // --- HTTP keep-alive: every request with a query goes to user space, whatever the budget
    {
        Stream s(a.client, 41100, a.remote, 80);
        Scenario http{"HTTP keep-alive", {}};
        for (int i = 0; i < 20; ++i) {
            http.steps.push_back({s.next("GET /image" + std::to_string(i) + ".png HTTP/1.1\r\nHost: a\r\n\r\n"),
                                  i == 0 ? punt : pass}); // the first may be a web seed's
            http.steps.push_back(
                {s.next("GET /announce?x=" + std::to_string(i) + " HTTP/1.1\r\nHost: a\r\n\r\n"), punt});
        }
        all.push_back(http);
    }

    // --- WebSocket: a client's first messages go to user space, and what follows stays in the kernel
    {
        std::uint16_t port = 41101;
        for (const unsigned first : {0x81u, 0xc1u}) { // as it is, compressed
            const std::string frame = be(first << 8 | 0xfe, 2) + be(1200, 2) + noise(1204, 41);
            const std::string name = first == 0x81 ? "WebSocket" : "WebSocket, compressed";
            Stream s(a.client, port++, a.remote, 8000);
            Scenario websocket{name, {{s.next("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"), punt}}};
            for (int i = 0; i < 20; ++i)
                websocket.steps.push_back({s.next(frame), i < BT_PUNT_BUDGET ? punt : pass});
            all.push_back(websocket);
            all.push_back({name + ", begun earlier",
                           {{Packet::tcp(a.client, port++, a.remote, 8000).seq(900).payload(frame), punt}}});
        }
    }

    // --- MSE grammar
    all.push_back({"MSE, nothing else known", mse_turns(a.client, a.remote, 42000, 20, pass, pass)});
    {
        Scenario active{"MSE, active client", {{udp(7000, 1337, tracker_connect()), drop}}};
        Scenario server = active, several = active, dialled = active;
        append(active, mse_turns(a.client, a.remote, 42001, 30, pass, drop)); // the handshake at its place
        all.push_back(active);
        server.name = "MSE-like, active client, one server";
        append(server, mse_turns(a.client, a.remote, 42001, 30, pass, pass, 0, 70));
        append(server, mse_turns(a.client, a.remote, 42008, 35, pass, pass, 0, 18));
        append(server, mse_turns(a.client, a.remote, 42009, 40, pass, drop, 0, 5)); // "interested"
        all.push_back(server);
        several.name = "MSE, active client, the second of two ends";
        append(several, mse_turns(a.client, a.remote, 42001, 30, pass, pass, 0, 70));
        append(several, mse_turns(a.client, a.other, 42008, 35, drop, drop, 0, 70));
        several.steps.push_back({Stream(a.client, 42001, a.remote, 51000, 1000 + 96 + 30 + 89 + 70).next(noise(33, 47)),
                                 drop}); // and the first with it
        all.push_back(several);
        Scenario much{"MSE, active client, the second of two ends after long", {server.steps[0]}};
        append(much, mse_turns(a.client, a.remote, 42001, 30, pass, pass, 0, 70));
        Stream blocks(a.remote, 51000, a.client, 42001, 1000 + 397 + 214);
        for (unsigned i = 0; i < 120; ++i)
            much.steps.push_back({blocks.next(noise(1448, 55 + i)), pass});
        append(much, mse_turns(a.client, a.other, 42008, 35, drop, drop, 0, 70));
        much.steps.push_back({blocks.next(noise(1448, 54)), drop});
        all.push_back(much);
        dialled.name = "MSE-like, active client, dialled from two hosts";
        append(dialled, mse_turns(a.remote, a.client, 42001, 30, pass, pass, 0, 70));
        append(dialled, mse_turns(a.other, a.client, 42008, 35, pass, pass, 0, 70));
        append(dialled, mse_turns(a.other, a.client, 42009, 40, pass, drop));
        all.push_back(dialled);
        Scenario many{"MSE, many peers, nothing else known", {}};
        for (unsigned i = 0; i < 5; ++i)
            append(many, mse_turns(a.client, i % 2 ? a.other : a.remote, static_cast<std::uint16_t>(42020 + i),
                                   40 + 7 * i, pass, pass));
        all.push_back(many);
        Scenario late{"MSE, the client gives itself away later", mse_turns(a.client, a.remote, 42002, 40, pass, pass)};
        Stream on(a.client, 42002, a.remote, 51000, 1000 + 96 + 40 + 89 + 68);
        append(late, {{udp(7000, 1337, tracker_connect()), drop}, {on.next(noise(33, 47)), drop}});
        all.push_back(late);
        Scenario later{"MSE, the client gives itself away after long",
                       mse_turns(a.client, a.remote, 42003, 50, pass, pass)};
        Stream data(a.remote, 51000, a.client, 42003, 1000 + 397 + 214);
        for (unsigned i = 0; i < 120; ++i)
            later.steps.push_back({data.next(noise(1448, 55 + i)), pass});
        append(later, {{udp(7000, 1337, tracker_connect()), drop}, {data.next(noise(1448, 54)), drop}});
        all.push_back(later);
        // Requests of one size, or again and again to one server: the fourth such connection shows what they are.
        Scenario polls{"MSE-like, the same first turn again", {{udp(7000, 1337, tracker_connect()), drop}}};
        Scenario one{"MSE-like, the same server again", polls.steps};
        Scenario peers{"MSE, different peers and turns", polls.steps};
        for (unsigned i = 0; i < 6; ++i) {
            const auto port = static_cast<std::uint16_t>(42030 + i);
            const std::string& turned = i % 2 ? a.other : a.remote;
            const Expect then = i < 3 ? drop : pass, third = i == 0 ? pass : drop;
            append(polls, mse_turns(a.client, turned, port, 60 + 5 * i, i == 0 ? pass : then, then, 77));
            append(one, mse_turns(a.client, a.remote, static_cast<std::uint16_t>(port + 10), 60 + 5 * i, pass, then));
            append(peers, mse_turns(a.client, turned, static_cast<std::uint16_t>(port + 20), 60 + 5 * i, third, drop));
        }
        all.push_back(polls);
        all.push_back(one);
        all.push_back(peers);
        {
            // eDonkey's obfuscation: keys of the same size, paddings of at most 15 bytes
            Stream out(a.client, 42013, a.remote, 4661), back(a.remote, 4661, a.client, 42013);
            Scenario edonkey{"MSE-like, eDonkey",
                             {{udp(7000, 1337, tracker_connect()), drop},
                              {out.next(noise(103, 72)), pass},
                              {back.next(noise(110, 73)), pass},
                              {out.next(noise(81, 74)), pass}}};
            append(edonkey, mse_turns(a.client, a.remote, 42014, 79, pass, drop)); // and it tells nothing of others
            all.push_back(edonkey);
        }
        // A conversation of random messages whose turns are not those of MSE.
        Stream out(a.client, 42006, a.remote, 9443), back(a.remote, 9443, a.client, 42006);
        const std::vector<Step> random{{out.next(noise(200, 75)), pass}, {back.next(noise(1200, 76)), pass}};
        Scenario mixed{"MSE, active client that has other random streams",
                       {{udp(7000, 1337, tracker_connect()), drop}}};
        append(mixed, random);
        append(mixed, mse_turns(a.client, a.remote, 42007, 78, pass, pass));
        all.push_back(mixed);
    }

    {
        // Transmission's writes: the key and its padding, and later a byte before the rest of the turn
        Stream out(a.client, 42010, a.remote, 6881), back(a.remote, 6881, a.client, 42010);
        all.push_back({"MSE, turns in several segments",
                       {{udp(7000, 1337, tracker_connect()), drop},
                        {out.next(noise(440, 80)), pass},
                        {out.next(noise(109, 81)), pass},
                        {back.next(noise(601, 82)), pass},
                        {out.next(noise(1, 83)), pass},
                        {out.next(noise(124, 84)), drop}}});
    }
    {
        Stream out(a.client, 42011, a.remote, 6881), back(a.remote, 6881, a.client, 42011);
        all.push_back({"MSE-like, but the answer is too long",
                       {{udp(7000, 1337, tracker_connect()), drop},
                        {out.next(noise(440, 85)), pass},
                        {back.next(noise(700, 86)), pass},
                        {out.next(noise(124, 87)), pass},
                        {out.next(noise(124, 88)), pass}}});
    }
    for (const unsigned piece : {16397u, 16400u}) {
        // the block of a piece message, 4 + 9 + 16384 bytes, and what is not one
        const auto port = static_cast<std::uint16_t>(42000 + piece % 100);
        Stream out(a.client, port, a.remote, 51000, 1000 + 186 + 89 + 68),
            back(a.remote, 51000, a.client, port, 1000 + 397 + 214);
        Scenario s{"MSE, a write of " + std::to_string(piece), mse_turns(a.client, a.remote, port, 90, pass, pass)};
        s.steps.push_back({back.next(noise(295, 91)), pass});
        s.steps.push_back({out.next(noise(288, 92)), pass});
        s.steps.push_back({back.next(noise(50, 93)), pass});
        for (unsigned sent = 0; sent < piece; sent += 1448) {
            const unsigned n = std::min(1448u, piece - sent);
            const bool last = sent + n == piece;
            s.steps.push_back(
                {back.next(noise(n, 94 + sent)).flags(last ? ack | psh : ack), last && piece == 16397 ? drop : pass});
        }
        s.steps.push_back({out.next(noise(17, 95)), piece == 16397 ? drop : pass});
        all.push_back(s);
    }

    for (const bool active : {false, true}) {
        // One opening in a thousand has eDonkey's lengths: then the first piece tells.
        Stream out(a.client, 42270, a.remote, 51000), back(a.remote, 51000, a.client, 42270);
        Scenario s{active ? "MSE, like eDonkey's, active client" : "MSE, like eDonkey's", {}};
        if (active)
            s.steps.push_back({udp(7000, 1337, tracker_connect()), drop});
        append(s, {{out.next(noise(105, 72)), pass},
                   {back.next(noise(110, 73)), pass},
                   {out.next(noise(247, 74)), pass},
                   {back.next(noise(146, 75)), pass},
                   {out.next(noise(68, 76)), pass},
                   {back.next(noise(308, 77)), pass},
                   {out.next(noise(291, 78)), pass},
                   {back.next(noise(50, 79)), pass}});
        for (unsigned sent = 0; sent < 16397; sent += 1448) {
            const unsigned n = std::min(1448u, 16397 - sent);
            const bool last = sent + n == 16397;
            s.steps.push_back({back.next(noise(n, 80 + sent)).flags(last ? ack | psh : ack), last ? drop : pass});
        }
        all.push_back(s);
    }
    for (const unsigned more : {0u, 1u}) {
        // the next requests leave when the head of a block has come, but not yet the block
        const std::uint16_t port = more ? 42272 : 42271;
        Scenario s{more ? "MSE, a block in two writes and a byte" : "MSE, a block in two writes",
                   mse_turns(a.client, a.remote, port, 50, pass, pass)};
        Stream out(a.client, port, a.remote, 51000, 1000 + 96 + 50 + 89 + 68),
            back(a.remote, 51000, a.client, port, 1000 + 397 + 214);
        append(s, {{out.next(noise(17, 81)).acknowledges(back.seq()), pass},
                   {out.next(noise(51, 82)).acknowledges(back.seq() + 13), pass},
                   {out.next(noise(34, 83)).acknowledges(back.seq() + 16397 + more), more ? pass : drop}});
        all.push_back(s);
    }

    // Segments of requests, each with as many blocks got meanwhile as `share` hundredths of what was asked for.
    const auto rows = [&](const std::string& remote, std::uint16_t port, const std::vector<unsigned>& lengths,
                          unsigned share, std::size_t dropped, std::size_t fifth_turn = 70) {
        std::vector<Step> steps = mse_turns(a.client, remote, port, port % 89u + 1, pass, pass, 0, fifth_turn);
        const auto sent = static_cast<std::uint32_t>(96 + port % 89u + 1 + 89 + fifth_turn);
        Stream out(a.client, port, remote, 51000, 1000 + sent), back(remote, 51000, a.client, port, 1000 + 397 + 214);
        steps.push_back({back.next(noise(295, 96)), pass});
        steps.push_back({out.next(noise(68, 97)), pass}); // other messages, of a length that requests may have
        steps.push_back({out.next(noise(289, 98)), pass});
        const std::uint32_t start = back.seq();
        unsigned asked = 0;
        for (std::size_t i = 0; i < lengths.size(); ++i) {
            if (i == 1)
                steps.push_back({back.next(noise(2048, 98)), pass});
            steps.push_back({out.next(noise(lengths[i], 110 + static_cast<unsigned>(i)))
                                 .acknowledges(start + asked / 17 * 16397 / 100 * share),
                             i >= dropped ? drop : pass});
            asked += lengths[i];
        }
        return steps;
    };
    const auto asking = [&](const std::string& name, std::uint16_t port, const std::vector<unsigned>& lengths,
                            unsigned share, std::size_t dropped) {
        all.push_back({"MSE, " + name, rows(a.remote, port, lengths, share, dropped)});
    };
    for (const bool bare : {true, false}) {
        // Pieces come from all peers, so each is told of many; but every connection began alike.
        const unsigned second = bare ? 34 : 51;
        Scenario swarm{bare ? "MSE, bare requests to two hosts" : "MSE, longer requests to two hosts", {}};
        std::uint16_t port = bare ? 42230 : 42240;
        for (const std::string& remote : {a.remote, a.remote, a.other}) {
            const auto steps = rows(remote, port++, {34, second, 147}, 80, bare && remote == a.other ? 1 : 99);
            swarm.steps.insert(swarm.steps.end(), steps.begin(), steps.end());
        }
        all.push_back(swarm);
    }
    for (const bool bare : {true, false}) // a peer handshake is the dialler's fifth turn
        all.push_back({bare ? "MSE, a handshake and bare requests" : "MSE, a handshake and longer requests",
                       rows(a.remote, bare ? 42260 : 42261, {34, bare ? 34u : 51u, 147}, 80, bare ? 1 : 99, 68)});
    asking("requests", 42217, {34, 51, 17, 68, 102, 34}, 80, 4);
    asking("requests and haves", 42218, {34, 77, 145, 145, 9, 290, 247}, 50, 5);
    asking("requests of whole pieces", 42219, {26, 78, 104, 182, 130}, 90, 4);
    asking("requests and many haves", 42225, {34, 34, 113, 68, 51, 104, 102}, 60, 5);
    asking("requests of one length", 42220, {68, 68, 68, 68, 68, 68, 68, 68}, 80, 99);
    asking("requests of two lengths", 42221, {68, 34, 68, 34, 68, 34, 68, 34}, 80, 7);
    asking("requests of two lengths, none bare", 42226, {68, 51, 68, 51, 68, 51, 68, 51, 68}, 80, 99);
    asking("segments of other lengths", 42222, {36, 54, 18, 72, 108, 36}, 80, 99);
    asking("more than was asked for", 42223, {34, 51, 17, 68, 102, 34, 85}, 400, 99);
    asking("little of what was asked for", 42224, {34, 51, 17, 68, 102, 34, 85}, 20, 99);

    // A batch of requests, and the next when all of its blocks have come. Its lengths fit nothing above.
    const auto batch = [&](const std::string& name, std::uint16_t port, unsigned asked, std::uint32_t got,
                           Expect then) {
        Scenario s{"MSE, " + name, mse_turns(a.client, a.remote, port, port % 89u + 1, pass, pass)};
        Stream out(a.client, port, a.remote, 51000, 1000 + 96 + port % 89u + 1 + 89 + 68),
            back(a.remote, 51000, a.client, port, 1000 + 397 + 214);
        s.steps.push_back({back.next(noise(295, 96)), pass});
        s.steps.push_back({out.next(noise(asked - 300, 98)).acknowledges(back.seq()), pass}); // in two segments
        s.steps.push_back({out.next(noise(300, 99)).acknowledges(back.seq()), pass});
        s.steps.push_back({out.next(noise(1448, 97)).acknowledges(back.seq() + got), then});
        all.push_back(s);
    };
    batch("a batch of requests and its blocks", 42250, 20 * 17 + 9, 20 * 16397, drop);
    batch("a batch of requests and a byte more", 42251, 20 * 17 + 9, 20 * 16397 + 1, pass);
    batch("a batch of requests and fewer blocks", 42252, 20 * 17 + 9, 10 * 16397, pass);
    batch("a batch of requests and more blocks", 42253, 20 * 17 + 9, 21 * 16397, pass);

    {
        Stream out(a.client, 42300, a.remote, 1080), back(a.remote, 1080, a.client, 42300);
        all.push_back({"MSE inside SOCKS 5, active client",
                       {{udp(7000, 1337, tracker_connect()), drop},
                        {out.next(be(0x050100, 3)), punt},
                        {back.next(be(0x0500, 2)), pass},
                        {out.next(be(0x05010001, 4) + be(0xc6336407, 4) + be(6881, 2)), punt},
                        {back.next(be(0x05000001, 4) + be(0xc6336407, 4) + be(6881, 2)), pass},
                        {out.next(noise(552, 120)), punt},
                        {back.next(noise(159, 121)), pass},
                        {out.next(noise(297, 122)), drop}}});
    }

    // --- budget: after eight payloads nobody looks
    {
        Scenario spent{"budget", {}};
        for (int i = 0; i < 8; ++i)
            spent.steps.push_back({udp(43000, 43001, "ordinary text " + std::to_string(i)), pass});
        spent.steps.push_back({udp(43000, 43001, dht_query()), pass});
        all.push_back(spent);
        Scenario last = spent;
        last.name = "budget, last one";
        last.steps.erase(last.steps.begin());
        last.steps.back().expect = drop;
        all.push_back(last);
    }
    return all;
}

// The same with the addresses of the IPv6 clients.
inline std::vector<Scenario> scenarios6() {
    return scenarios({client6, remote6, other6});
}

// Every scenario of both families.
inline std::vector<Scenario> all_scenarios() {
    std::vector<Scenario> all = scenarios();
    for (Scenario& s : scenarios6()) {
        s.name += " (IPv6)";
        all.push_back(std::move(s));
    }
    return all;
}

} // namespace btblock::test
