// SPDX-License-Identifier: MIT
// The punt filter (include/btblock/punt.h), and what is told about dropped packets with action = reject.
#include "bpf/Kernel.h"
#include "bpf/Scenarios.h"

#include <bpf/libbpf.h>
#include <chrono>
#include <cstring>
#include <thread>

namespace btblock::test {
namespace {

class PuntFilterTest : public KernelTest {
protected:
    // Whether the firewall would take the packet out, and then whether to drop it.
    static bool takes(const Packet& p) { return kernel().run(bpf::Program::pass_filter, p.frame()).code == 0; }
    static bool drops(const Packet& p) { return kernel().run(bpf::Program::drop_filter, p.frame()).code == 1; }
    static Packet tcp(std::uint16_t port = 1000) { return Packet::tcp(client4, port, remote4, 80); }
    static void block(const Packet& p, std::uint64_t last_seen_ns = now_ns()) {
        bt_flow flow{};
        flow.verdict = BT_V_BLOCKED;
        flow.last_seen_ns = last_seen_ns;
        ASSERT_TRUE(kernel().maps.flows.update(p.tuple(), flow));
    }
};

// Everything that TC ingress hands to user space is taken here, too; what is proved to be clean is not.
TEST_F(PuntFilterTest, TakesWhatIngressPunts) {
    unsigned punts = 0;
    for (const Scenario& scenario : scenarios()) {
        kernel().reset();
        for (std::size_t i = 0; i < scenario.steps.size(); ++i) {
            const auto& [packet, expect] = scenario.steps[i];
            SCOPED_TRACE(scenario.name + ", packet " + std::to_string(i));
            const bool taken = takes(packet);
            EXPECT_TRUE(taken || expect != Expect::punt);
            EXPECT_FALSE(taken && scenario.name.rfind("clean ", 0) == 0);
            EXPECT_FALSE(drops(packet));
            punts += expect == Expect::punt;
        }
    }
    EXPECT_GT(punts, 20u);
}

TEST_F(PuntFilterTest, ARequestInPieces) {
    const std::string request = "GET /announce?info_hash=aaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\n\r\n";
    Packet first = tcp().seq(1).payload(request.substr(0, 30));
    Packet second = tcp().seq(31).payload(request.substr(30));
    EXPECT_TRUE(takes(first));
    EXPECT_TRUE(takes(second));
    EXPECT_TRUE(takes(first)) << "sent again";
    EXPECT_FALSE(takes(tcp().seq(static_cast<std::uint32_t>(1 + request.size())).payload("body")));
    EXPECT_TRUE(takes(tcp().seq(static_cast<std::uint32_t>(5 + request.size())).payload(request))) << "keep-alive";
}

TEST_F(PuntFilterTest, BulkStaysInTheKernel) {
    unsigned taken = 0;
    for (unsigned i = 0; i < 200; ++i)
        taken += takes(tcp().seq(1 + i * 1000).payload(noise(1000, i)));
    EXPECT_EQ(taken, 0u);
    // an upload after its request, and many little messages
    taken = takes(tcp(2000).seq(1).payload("GET /u?x=1 HTTP/1.1\r\n\r\n"));
    for (unsigned i = 0; i < 200; ++i)
        taken += takes(tcp(2000).seq(1 + 23 + i * 1000).payload(noise(1000, i)));
    EXPECT_EQ(taken, 1u);
    taken = 0;
    for (unsigned i = 0; i < 200; ++i)
        taken += takes(tcp(3000).seq(1 + i * 5).payload(be(1, 4) + be(2, 1)));
    EXPECT_LE(taken, static_cast<unsigned>(BT_PUNT_BUDGET));
    EXPECT_GT(taken, 0u);
}

TEST_F(PuntFilterTest, NothingWithoutTheDaemon) {
    kernel().config.lease_until_ns = now_ns() - BT_NSEC_PER_SEC / 10;
    kernel().configure();
    const Packet p = tcp().payload("GET /announce?info_hash=a HTTP/1.1\r\n\r\n");
    EXPECT_FALSE(takes(p));
    block(p);
    EXPECT_TRUE(takes(p)) << "verdicts hold";
    EXPECT_TRUE(drops(p));
}

TEST_F(PuntFilterTest, BlockedTuples) {
    const Packet p = tcp().payload("x");
    EXPECT_FALSE(drops(p));
    block(p);
    EXPECT_TRUE(takes(p));
    EXPECT_TRUE(drops(p));
    EXPECT_EQ(kernel().counter(BT_S_DROP_FLOW), 1u);
    EXPECT_FALSE(takes(tcp().flags(ack))) << "no payload";
    EXPECT_FALSE(takes(tcp().flags(syn))) << "a new connection";
    EXPECT_FALSE(takes(p)) << "under the same ports";
    block(p);
    kernel().config.flags = BT_C_MONITOR;
    kernel().configure();
    EXPECT_FALSE(takes(p));
    EXPECT_FALSE(drops(p));
}

TEST_F(PuntFilterTest, CondemnedSocketsAndIdleDatagrams) {
    const Packet p = Packet::udp(client4, 5000, remote4, 6000).payload("some text that is nothing");
    EXPECT_FALSE(takes(p));
    block(p, now_ns() - BT_UDP_IDLE_NS - BT_NSEC_PER_SEC);
    EXPECT_FALSE(takes(p)) << "another use of the ports";
    ASSERT_TRUE(kernel().maps.flows.erase(p.tuple()));
    ASSERT_TRUE(kernel().maps.sockets.update({address(client4), 5000, 17, 0}, {now_ns() + BT_SOCKET_TTL_NS, 0, 0, 0}));
    EXPECT_TRUE(takes(p));
    EXPECT_TRUE(drops(p));
    EXPECT_EQ(kernel().counter(BT_S_DROP_SOCKET), 1u);
}

TEST_F(PuntFilterTest, NamesWhenTheyAreWatched) {
    const auto query = [](std::uint16_t port) { return Packet::udp(client4, port, remote4, 53).payload(dns_query()); };
    EXPECT_FALSE(takes(tcp(4000).payload(tls_hello())));
    EXPECT_FALSE(takes(query(4000)));
    kernel().config.flags = BT_C_NAMES;
    kernel().configure();
    EXPECT_TRUE(takes(tcp(4001).seq(1).payload(tls_hello())));
    EXPECT_FALSE(takes(tcp(4001).seq(206).payload(std::string("\x14\x03\x03\x00\x01\x01", 6)))) << "a whole hello";
    EXPECT_TRUE(takes(query(4001)));
    EXPECT_FALSE(takes(query(4001).reply().payload(be(0x0101, 2) + be(0x8180, 2) + dns_query().substr(4))));
    // The rest of one that fills more than a segment, and no more.
    EXPECT_TRUE(takes(tcp(4002).seq(1).payload(tls_hello().substr(0, 100))));
    unsigned taken = 0;
    for (unsigned i = 0; i < 100; ++i)
        taken += takes(tcp(4002).seq(101 + i * 1000).payload(noise(1000, i)));
    EXPECT_EQ(taken, 3u);
}

TEST_F(PuntFilterTest, AllowedAddresses) {
    bt_allow entry{};
    entry.expires_ns = ~0ULL;
    ASSERT_TRUE(kernel().maps.allow.update(net::Prefix::parse(remote4)->lpm(), entry));
    EXPECT_FALSE(takes(tcp().payload("GET /announce?info_hash=a HTTP/1.1\r\n\r\n")));
}

TEST_F(PuntFilterTest, EgressKnowsThatItHasBeenAsked) {
    const Packet p = tcp().payload("GET /a?b HTTP/1.1\r\n\r\n");
    kernel().egress(p);
    EXPECT_EQ(kernel().counter(BT_S_PUNT_NO_LEASE), 1u);
    EXPECT_EQ(kernel().flow(p)->leaky, 1);
    kernel().reset();
    kernel().config.flags = BT_C_FILTERED;
    kernel().configure();
    kernel().egress(p);
    EXPECT_EQ(kernel().counter(BT_S_PUNT_NO_LEASE), 0u);
    EXPECT_EQ(kernel().flow(p)->leaky, 0);
}

// ---------------------------------------------------------------- action = reject

class RejectTest : public PuntFilterTest {
protected:
    static std::vector<bt_reject> told() {
        std::vector<bt_reject> found;
        const auto receive = [](void* to, void* data, std::size_t size) {
            bt_reject r{};
            if (size == sizeof r)
                std::memcpy(&r, data, sizeof r);
            static_cast<std::vector<bt_reject>*>(to)->push_back(r);
            return 0;
        };
        ring_buffer* ring = ring_buffer__new(kernel().maps.rejects_fd.get(), receive, &found, nullptr);
        EXPECT_NE(ring, nullptr);
        ring_buffer__consume(ring);
        ring_buffer__free(ring);
        return found;
    }
    static void reject() {
        std::this_thread::sleep_for(std::chrono::milliseconds(1100)); // the last test's second of answers ends
        told();
        kernel().config.flags = BT_C_REJECT;
        kernel().configure();
    }
};

TEST_F(RejectTest, DroppedPacketsAreDescribed) {
    const Packet p = tcp().seq(100).flags(ack | psh).payload(handshake());
    EXPECT_EQ(kernel().ingress(p).code, tc_drop);
    EXPECT_TRUE(told().empty()) << "the default is silence";
    reject();
    EXPECT_EQ(kernel().ingress(p).code, tc_drop);
    EXPECT_EQ(kernel().egress(p).code, tc_drop);
    EXPECT_TRUE(drops(p));
    const auto found = told();
    ASSERT_EQ(found.size(), 3u);
    for (const bt_reject& r : found) {
        const bt_tuple wanted = p.tuple();
        EXPECT_EQ(std::memcmp(&r.tuple, &wanted, sizeof wanted), 0);
        EXPECT_EQ(r.seq, 100u);
        EXPECT_EQ(r.payload_len, handshake().size());
        EXPECT_EQ(r.tcp_flags, ack | psh);
    }
    EXPECT_EQ(kernel().ingress(tcp().flags(rst).payload("x")).code, tc_drop);
    EXPECT_TRUE(told().empty()) << "a reset is never answered";
}

TEST_F(RejectTest, LimitedAndOnlyWhileSomebodyAnswers) {
    const Packet p = tcp().payload(handshake());
    reject();
    for (unsigned i = 0; i < 3 * BT_REJECT_RATE; ++i)
        EXPECT_EQ(kernel().ingress(p).code, tc_drop);
    const std::size_t answers = told().size();
    EXPECT_GE(answers, 1u);
    EXPECT_LE(answers, 2u * BT_REJECT_RATE) << "a second may end in between";
    kernel().config.lease_until_ns = now_ns() - BT_NSEC_PER_SEC / 10;
    kernel().configure();
    EXPECT_EQ(kernel().ingress(p).code, tc_drop);
    EXPECT_TRUE(told().empty());
}

TEST_F(RejectTest, XdpLeavesItToTc) {
    bt_ban entry{};
    entry.expires_ns = ~0ULL;
    ASSERT_TRUE(kernel().maps.bans.update(address(remote4), entry));
    const Packet p = tcp().flags(syn);
    EXPECT_EQ(kernel().xdp(p).code, XDP_DROP);
    reject();
    EXPECT_EQ(kernel().xdp(p).code, XDP_PASS);
    EXPECT_EQ(kernel().ingress(p).code, tc_drop);
    EXPECT_EQ(told().size(), 1u);
}

} // namespace
} // namespace btblock::test
