// SPDX-License-Identifier: MIT
// detect::Pipeline: the scenarios of the kernel programs, and what must never be taken for BitTorrent.
#include "bpf/Scenarios.h"
#include "detect/Pipeline.h"
#include "unit/mse.h"

#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <random>
#include <span>

namespace btblock::test {
namespace {

std::span<const std::uint8_t> bytes(const std::string& s) {
    return {reinterpret_cast<const std::uint8_t*>(s.data()), s.size()};
}

// The same packet of another client: what one scenario leaves behind is nothing to the next.
Packet of_client(Packet p, unsigned number) {
    bt_addr ends[2] = {p.tuple().src, p.tuple().dst};
    for (bt_addr& a : ends)
        if (net::Address(a) == net::Address(address(client4)) || net::Address(a) == net::Address(address(client6))) {
            a.b[13] = static_cast<bt_u8>(number >> 8);
            a.b[14] = static_cast<bt_u8>(number);
        }
    return p.endpoints(ends[0], ends[1]);
}

TEST(Pipeline, Scenarios) {
    detect::Pipeline pipeline({.names = false, .inside = {}});
    std::uint64_t now = BT_NSEC_PER_SEC;
    unsigned number = 0;
    for (const Scenario& scenario : all_scenarios()) {
        SCOPED_TRACE(scenario.name);
        ++number;
        bool deep = false; // after a punt the deep detectors have a say as well
        for (std::size_t i = 0; i < scenario.steps.size(); ++i) {
            const auto& [packet, expect] = scenario.steps[i];
            const std::string ip = of_client(packet, number).ip();
            const std::uint64_t punted = pipeline.counter(BT_S_PUNTED);
            const detect::Decision decision = pipeline.packet(bytes(ip), ip.size(), now += 1000);
            const bool punt = pipeline.counter(BT_S_PUNTED) != punted;
            if (!deep) {
                EXPECT_EQ(punt, expect == Expect::punt) << i;
            }
            deep |= punt;
            if (expect == Expect::drop) {
                EXPECT_EQ(decision.action, BT_ACT_DROP) << i;
                EXPECT_NE(decision.evidence, 0u) << i;
            } else if (!deep) {
                EXPECT_EQ(decision.action, BT_ACT_PASS) << i;
            }
        }
    }
}

// Packets in a row, some time apart.
struct Path {
    detect::Pipeline pipeline{{.inside = {}}};
    std::uint64_t now = BT_NSEC_PER_SEC;

    bool pass(const Packet& p, std::uint64_t later = 1'000'000) {
        const std::string ip = p.ip();
        return pipeline.packet(bytes(ip), ip.size(), now += later).action == BT_ACT_PASS;
    }
};

// A thousand encrypted connections, as the specification has them. Which of them end, and at which turn (1 to 5).
struct Ended {
    unsigned at_third = 0, others = 0;
};
Ended thousand_connections(bool active) {
    Path path;
    std::mt19937_64 rng(7);
    constexpr std::uint64_t later = 100'000'000;
    Ended ended;
    for (unsigned n = 0; n < 1000; ++n) {
        if (active && n % 100 == 0) // it talks to its tracker now and then
            path.pass(
                Packet::udp(client4, static_cast<std::uint16_t>(7000 + n), remote4, 1337).payload(tracker_connect()),
                later);
        const std::string peer = "203.0." + std::to_string(n / 250) + "." + std::to_string(1 + n % 250);
        const auto port = static_cast<std::uint16_t>(20000 + n);
        const auto turns = mse::handshake(rng, n % 2);
        // Both ways: the client dials, or is dialled.
        const bool dials = n % 3;
        Stream out(dials ? client4 : peer, port, dials ? peer : client4, 51413);
        Stream back(dials ? peer : client4, 51413, dials ? client4 : peer, port);
        for (std::size_t turn = 0; turn < turns.size(); ++turn)
            if (!path.pass((turn % 2 ? back : out).next(turns[turn]), later)) {
                ++(turn == 2 ? ended.at_third : ended.others);
                break;
            }
    }
    return ended;
}

TEST(Pipeline, EncryptedConnectionsOfAnActiveClientEndAtTheirThirdTurn) {
    std::mt19937_64 rng(1);
    ASSERT_TRUE(mse::agrees(rng));
    const Ended ended = thousand_connections(true);
    EXPECT_GE(ended.at_third, 990u);
    EXPECT_EQ(ended.others, 2u) << "until it dialled a second end: at the fifth turn, before any piece";
    EXPECT_GE(ended.at_third + ended.others, 999u) << "one in a thousand could be eDonkey's";
}

TEST(Pipeline, TheSameConnectionsOfAnotherClientPass) {
    const Ended ended = thousand_connections(false);
    EXPECT_EQ(ended.at_third + ended.others, 0u);
}

// ---------------------------------------------------------------- programs beside a torrent

// Questions and answers of MSE's lengths through some servers in turn, each in a connection of its own, by a client
// that runs a torrent as well. Returns how many of `count` got through.
unsigned polls_that_pass(unsigned servers, unsigned count, bool with_torrent) {
    Path path;
    std::mt19937_64 rng(11);
    const auto converse = [&](std::uint16_t port, const std::string& host, std::uint16_t to,
                              const std::array<std::string, 5>& turns) {
        Stream out(client4, port, host, to), back(host, to, client4, port);
        bool passed = true;
        for (std::size_t turn = 0; turn < 3; ++turn)
            passed = path.pass((turn % 2 ? back : out).next(turns[turn])) && passed;
        return passed;
    };
    path.pass(Packet::udp(client4, 7000, remote4, 1337).payload(tracker_connect()));
    unsigned passed = 0;
    for (unsigned n = 0; n < count; ++n) {
        path.now += 5 * BT_NSEC_PER_SEC;
        const std::array<std::string, 5> turns{noise(110 + rng() % 60, 3 * n), noise(200 + rng() % 300, 3 * n + 1),
                                               noise(60 + rng() % 40, 3 * n + 2), "", ""};
        passed += converse(static_cast<std::uint16_t>(30000 + n), "198.51.100." + std::to_string(1 + n % servers), 8388,
                           turns);
        if (with_torrent)
            converse(static_cast<std::uint16_t>(40000 + n), "203.0.113." + std::to_string(1 + n), 51413,
                     mse::handshake(rng, true));
    }
    return passed;
}

TEST(Pipeline, WhatAsksItsServersInTurnsOfMseIsToldFromPeers) {
    EXPECT_EQ(polls_that_pass(1, 40, false), 40u) << "no second end";
    for (const unsigned servers : {1u, 2u, 3u}) {
        SCOPED_TRACE(servers);
        const unsigned known = 4 * servers; // four openings to one of them, each within a minute
        EXPECT_GE(polls_that_pass(servers, 40, false), 40 - known);
        EXPECT_GE(polls_that_pass(servers, 40, true), 40 - known);
    }
}

// ---------------------------------------------------------------- the end of a capture

class Reviewed {
public:
    void pass(const Packet& p) { path_.pass(p); }
    void turns(std::uint16_t port, const std::vector<std::size_t>& lengths) {
        Stream out(client4, port, remote4, port), back(remote4, port, client4, port);
        for (std::size_t i = 0; i < lengths.size(); ++i)
            pass((i % 2 ? back : out).next(noise(lengths[i], port + static_cast<unsigned>(i))));
    }
    // Source ports of what was decided, and the evidence.
    std::map<unsigned, std::uint32_t> decided() {
        std::map<unsigned, std::uint32_t> found;
        path_.pipeline.review([&](const bt_tuple& t, std::uint32_t evidence) { found[t.sport] = evidence; });
        return found;
    }

private:
    Path path_;
};

TEST(Pipeline, TheEndOfACaptureDecidesOpenFirstTurnsOfAnActiveClient) {
    constexpr std::uint32_t mse = BT_EV_BIT(BT_EV_MSE_HANDSHAKE) | BT_EV_BIT(BT_EV_ENTROPY);
    const auto play = [](Reviewed& capture) {
        capture.turns(51001, {300});
        capture.turns(51002, {300, 200});
        capture.turns(51003, {300, 20}); // another answer
        capture.turns(51004, {900});     // no key is that long
        capture.turns(443, {300});       // a whitelisted port
    };
    Reviewed active;
    active.pass(Packet::udp(client4, 7000, remote4, 1337).payload(tracker_connect()));
    play(active);
    EXPECT_EQ(active.decided(), (std::map<unsigned, std::uint32_t>{{51001, mse}, {51002, mse}}));
    Reviewed idle;
    play(idle);
    EXPECT_TRUE(idle.decided().empty());
    // What only weighed makes a client active, but does not judge a flow by its first turn.
    Reviewed scored;
    for (const char* request :
         {"GET /geoip HTTP/1.1\r\nUser-Agent: qBittorrent/4.5.2\r\n\r\n", "GET /a.torrent HTTP/1.1\r\nHost: h\r\n\r\n"})
        scored.pass(Packet::tcp(client4, static_cast<std::uint16_t>(request[5]), remote4, 80).payload(request));
    play(scored);
    EXPECT_TRUE(scored.decided().empty());
    scored.turns(51010, {300, 200, 100, 90, 68}); // it is active: the peer handshake at its place proves, and that does
    EXPECT_EQ(scored.decided().size(), 2u);
}

TEST(Pipeline, TheEndOfACaptureDecidesSynsOfACondemnedSocket) {
    Reviewed capture;
    const auto syn = [](std::uint16_t port) {
        return Packet::udp(client4, port, remote4, 51000).payload(utp(4, 7, 1, 0));
    };
    capture.pass(syn(7000));
    capture.pass(Packet::udp(client4, 7001, other4, 51000).payload(utp(4, 7, 1, 0)));
    capture.pass(Packet::udp(client4, 7000, other4, 1337).payload(tracker_connect()));
    EXPECT_EQ(capture.decided(), (std::map<unsigned, std::uint32_t>{
                                     {7000, BT_EV_BIT(BT_EV_UTP_SYN) | BT_EV_BIT(BT_EV_SOCKET_CONDEMNED)}}));
}

TEST(Pipeline, DeepDetectorsDecideWhatIsPunted) {
    const auto verdict = [](const Packet& p) {
        detect::Pipeline pipeline;
        const std::string ip = p.ip();
        return pipeline.packet(bytes(ip), ip.size(), 1).action;
    };
    const auto datagram = [&](const std::string& text) {
        return verdict(Packet::udp(client4, 1, remote4, 2).payload(text));
    };
    EXPECT_EQ(datagram("d1:ad1:xi1e2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"), BT_ACT_DROP);
    EXPECT_EQ(datagram("d1:ad1:xi1e2:id19:abcdefghij012345678e1:q4:ping1:t2:aa1:y1:qe"), BT_ACT_PASS) << "no node id";
    EXPECT_EQ(datagram("d1:ad1:xi1e2:id20:abcdefghij0123456789e1:q4:ping1:t2:aae"), BT_ACT_PASS) << "no type";
    EXPECT_EQ(datagram("d3:bar4:spam3:fooi42e4:listl1:a1:bee"), BT_ACT_PASS) << "another dictionary";
    EXPECT_EQ(verdict(Packet::udp(client4, 1, remote4, 2)
                          .payload("d1:ad2:id20:abcdefghij01234567892:roi1ee1:q4:ping1:t2:aa1:y1:qe")),
              BT_ACT_DROP);
    const std::string announce =
        "GET /announce?info_hash=%124Vx%9a%bc%de%f1%23Eg%89%ab%cd%ef%124Vx%9a&peer_id=-TR3000-abcdefghijkl&port=6881"
        "&uploaded=0&downloaded=0&left=0&compact=1 HTTP/1.1\r\nHost: t\r\n\r\n";
    EXPECT_EQ(verdict(Packet::tcp(client4, 1, remote4, 80).payload(announce)), BT_ACT_DROP);
    EXPECT_EQ(
        verdict(Packet::tcp(client4, 1, remote4, 80).payload("GET /search?q=bittorrent HTTP/1.1\r\nHost: s\r\n\r\n")),
        BT_ACT_PASS);
}

// ---------------------------------------------------------------- nobody else

// Text and protocols whose bytes come near (PROTOCOLS: the predecessor's false alarms).
TEST(Pipeline, LookalikesPass) {
    const std::vector<std::pair<const char*, std::vector<std::string>>> tcp{
        {"LDAP with SASL", {be(0xaa, 4) + be(5, 1) + noise(0xa9, 1), be(0xaa, 4) + be(5, 1) + noise(0xa9, 2)}},
        {"VNC update request", {"RFB 003.008\n", be(0x0000000100ULL, 5) + std::string(5, '\0')}},
        {"OpenSSH, encrypted-then-MAC, from the middle",
         {be(0x20, 4) + noise(48, 3), be(0x30, 4) + noise(64, 4), be(0x20, 4) + noise(48, 5)}},
        {"OpenWire", {be(0x140, 4) + be(1, 1) + std::string("ActiveMQ") + std::string(0x137, '\x01')}},
        {"IRC",
         {"PRIVMSG #t :the \x13"
          "BitTorrent protocol handshake\r\n"}},
        {"SQL", {"\x13\x00\x00\x00\x03SELECT 'BitTorrent protocol'"}},
        {"HTTP page", {"GET /wiki/BitTorrent?info_hash=what HTTP/1.1\r\nHost: w\r\n\r\n"}},
        {"Bitcoin", {be(0xf9beb4d9, 4) + "version" + std::string(100, '\0')}},
        {"git", {"0033git-upload-pack /r.git"}},
        {"TLS", {tls_hello(), be(0x17, 1) + be(0x0303, 2) + be(300, 2) + noise(300, 8)}},
    };
    std::vector<std::pair<const char*, std::vector<std::string>>> udp{
        {"QUIC", {quic_initial(), noise(1200, 9)}},
        {"STUN", {stun_request(), be(0x0101, 2) + be(12, 2) + be(0x2112a442, 4) + noise(24, 10)}},
        {"DNS", {dns_query(), be(0x0101, 2) + dns_query().substr(2)}},
        {"WireGuard", {wireguard_init(), be(2, 1) + be(0, 3) + noise(88, 11), be(4, 1) + be(0, 3) + noise(128, 12)}},
        {"NTP, small root dispersion", {be(0x23020a00, 4) + be(0, 4) + be(1, 4) + std::string(36, '\x01')}},
        {"RTP, small SSRC", {be(0x8000, 2) + be(1, 2) + be(160, 4) + be(1, 4) + std::string(160, '\x55')}},
        {"iperf3 UDP", {be(0, 4) + be(0, 4) + be(1, 4) + std::string(1400, '\x36')}},
        {"text dictionary", {"d1:this is a poem about a dictionary that ends with e"}},
        {"SSDP", {"M-SEARCH * HTTP/1.1\r\nHost: 239.255.255.250:1900\r\n\r\n"}},
    };
    for (const auto& [name, payloads] : tcp) {
        detect::Pipeline pipeline;
        Stream s(client4, 50000, remote4, 4000), back(remote4, 4000, client4, 50000);
        std::uint64_t now = 0;
        for (const std::string& p : payloads)
            for (const std::string& ip : {s.next(p).ip(), back.next(p).ip()})
                EXPECT_EQ(pipeline.packet(bytes(ip), ip.size(), now += 1000).action, BT_ACT_PASS) << name;
    }
    for (const auto& [name, payloads] : udp) {
        detect::Pipeline pipeline;
        std::uint64_t now = 0;
        for (const std::string& p : payloads) {
            const Packet out = Packet::udp(client4, 50000, remote4, 4000).payload(p);
            for (const std::string& ip : {out.ip(), out.reply().ip()})
                EXPECT_EQ(pipeline.packet(bytes(ip), ip.size(), now += 1000).action, BT_ACT_PASS) << name;
        }
    }
}

// What a client does elsewhere does not make another client's random traffic suspicious.
TEST(Pipeline, OneClientsActivityIsItsOwn) {
    detect::Pipeline pipeline;
    const std::string query = Packet::udp(client4, 6881, remote4, 7777).payload(dht_query()).ip();
    EXPECT_EQ(pipeline.packet(bytes(query), query.size(), 1).action, BT_ACT_DROP);
    for (const Step& step : mse_turns("10.0.0.3", remote4, 42000, 20, Expect::pass, Expect::pass)) {
        const std::string ip = step.packet.ip();
        EXPECT_EQ(pipeline.packet(bytes(ip), ip.size(), 2).action, BT_ACT_PASS);
    }
}

TEST(Pipeline, CutAndEmptyPackets) {
    detect::Pipeline pipeline;
    for (const Scenario& scenario : {scenarios()[0], scenarios6()[0]})
        for (const Step& step : scenario.steps) {
            const std::string ip = step.packet.ip();
            for (std::size_t n = 0; n < ip.size() - step.packet.payload().size(); ++n) {
                const std::vector<std::uint8_t> exact(ip.begin(), ip.begin() + static_cast<std::ptrdiff_t>(n));
                EXPECT_EQ(pipeline.packet(exact, ip.size(), 1).action, BT_ACT_PASS);
            }
        }
}

TEST(Pipeline, AFullTableForgetsWhatWasNotUsedLately) {
    detect::PipelineOptions options;
    options.flow_capacity = 4;
    detect::Pipeline pipeline(options);
    const auto text = [](std::uint16_t port) { return Packet::udp(client4, port, remote4, 9).payload("text"); };
    for (std::uint16_t port = 1; port < 100; ++port) {
        const std::string ip = text(port).ip(), busy = text(1).ip();
        EXPECT_EQ(pipeline.packet(bytes(ip), ip.size(), port).action, BT_ACT_PASS);
        EXPECT_EQ(pipeline.packet(bytes(busy), busy.size(), port).action, BT_ACT_PASS);
        EXPECT_NE(pipeline.flow(text(1).tuple()), nullptr) << "in use";
        EXPECT_NE(pipeline.flow(text(port).tuple()), nullptr);
    }
    EXPECT_EQ(pipeline.flow(text(50).tuple()), nullptr);
    const std::string query = Packet::udp(client4, 1000, remote4, 9).payload(dht_query()).ip();
    EXPECT_EQ(pipeline.packet(bytes(query), query.size(), 1000).action, BT_ACT_DROP);
}

} // namespace
} // namespace btblock::test
