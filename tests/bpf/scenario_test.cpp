// SPDX-License-Identifier: MIT
// Every scenario through the TC ingress program: verdicts, marks, counters.
#include "bpf/Kernel.h"
#include "bpf/Scenarios.h"

namespace btblock::test {
namespace {

class ScenarioTest : public KernelTest {};

TEST_F(ScenarioTest, VerdictsAndMarks) {
    Kernel& k = kernel();
    for (const Scenario& scenario : all_scenarios()) {
        k.reset();
        std::uint64_t drops = 0, punts = 0;
        for (std::size_t i = 0; i < scenario.steps.size(); ++i) {
            const auto& [packet, expect] = scenario.steps[i];
            SCOPED_TRACE(scenario.name + ", packet " + std::to_string(i));
            const Outcome got = k.ingress(packet);
            EXPECT_EQ(got.code, expect == Expect::drop ? tc_drop : tc_next);
            EXPECT_EQ(got.mark, expect == Expect::punt ? mark_bit : 0u);
            drops += expect == Expect::drop;
            punts += expect == Expect::punt;
        }
        SCOPED_TRACE(scenario.name);
        const bpf::Counters c = k.counters();
        EXPECT_EQ(c[BT_S_SEEN], scenario.steps.size());
        EXPECT_EQ(c[BT_S_PUNTED], punts);
        EXPECT_EQ(c[BT_S_DROP_DETECTED] + c[BT_S_DROP_FLOW] + c[BT_S_DROP_SOCKET] + c[BT_S_DROP_PEER], drops);
    }
}

TEST_F(ScenarioTest, MonitorModeDropsNothingButTells) {
    Kernel& k = kernel();
    for (const Scenario& scenario : all_scenarios()) {
        k.reset();
        k.config.flags = BT_C_MONITOR;
        k.configure();
        std::uint64_t drops = 0;
        for (const Step& step : scenario.steps) {
            EXPECT_EQ(k.ingress(step.packet).code, tc_next) << scenario.name;
            drops += step.expect == Expect::drop;
        }
        const auto events = k.take_events();
        EXPECT_EQ(k.counter(BT_S_MONITORED), drops) << scenario.name;
        EXPECT_EQ(!events.empty(), drops > 0) << scenario.name;
        for (const bt_event& e : events) {
            EXPECT_EQ(e.monitor, 1);
            EXPECT_EQ(e.action, BT_ACT_PASS);
        }
    }
}

TEST_F(ScenarioTest, WithoutLeaseNothingIsPunted) {
    Kernel& k = kernel();
    for (const Scenario& scenario : scenarios()) {
        k.reset();
        k.config.lease_until_ns = now_ns() - BT_NSEC_PER_SEC / 10; // the coarse clock lags
        k.configure();
        std::uint64_t punts = 0;
        for (const auto& [packet, expect] : scenario.steps) {
            const Outcome got = k.ingress(packet);
            EXPECT_EQ(got.code, expect == Expect::drop ? tc_drop : tc_next) << scenario.name;
            EXPECT_EQ(got.mark, 0u) << scenario.name;
            punts += expect == Expect::punt;
        }
        EXPECT_EQ(k.counter(BT_S_PUNTED), 0u);
        EXPECT_EQ(k.counter(BT_S_PUNT_NO_LEASE), punts) << scenario.name;
    }
}

TEST_F(ScenarioTest, EgressDropsAlikeAndNeverPunts) {
    Kernel& k = kernel();
    for (const Scenario& scenario : scenarios()) {
        k.reset();
        for (const auto& [packet, expect] : scenario.steps) {
            const Outcome got = k.egress(packet);
            EXPECT_EQ(got.code, expect == Expect::drop ? tc_drop : tc_next) << scenario.name;
            EXPECT_EQ(got.mark, 0u) << scenario.name;
        }
    }
}

TEST_F(ScenarioTest, CleanFlowsAreNotLookedAtAgain) {
    Kernel& k = kernel();
    for (const Scenario& scenario : scenarios()) {
        if (scenario.name.rfind("clean ", 0) != 0)
            continue;
        SCOPED_TRACE(scenario.name);
        k.reset();
        k.ingress(scenario.steps[0].packet);
        const auto first = k.flow(scenario.steps[0].packet);
        ASSERT_TRUE(first);
        EXPECT_EQ(first->verdict, BT_V_CLEAN);
        EXPECT_EQ(first->seen, 1);
        k.ingress(scenario.steps[1].packet);
        EXPECT_EQ(k.flow(scenario.steps[0].packet)->seen, 1);
        EXPECT_EQ(k.counter(BT_S_CLEAN_EARLY), 1u);
        EXPECT_EQ(k.counter(BT_S_NEW_FLOWS), 1u);
    }
}

// The mirror of a half-flow may be made by the other hook: a service on this host.
TEST_F(ScenarioTest, UtpPairsAcrossHooks) {
    Kernel& k = kernel();
    const Packet syn_packet = Packet::udp(client4, 7100, remote4, 7200).payload(utp(4, 77, 1, 0));
    EXPECT_EQ(k.egress(syn_packet).code, tc_next);
    EXPECT_EQ(k.ingress(syn_packet.reply().payload(utp(2, 77, 9, 1))).code, tc_drop);
    EXPECT_EQ(k.egress(syn_packet).code, tc_drop);
    k.reset();
    EXPECT_EQ(k.ingress(syn_packet).code, tc_next);
    EXPECT_EQ(k.egress(syn_packet.reply().payload(utp(2, 77, 9, 1))).code, tc_drop);
}

// A forwarded packet passes ingress and then egress: it is judged once.
TEST_F(ScenarioTest, SecondHookDoesNotJudgeAgain) {
    Kernel& k = kernel();
    const Packet p = Packet::tcp(client4, 1000, remote4, 80).payload("GET /a?b HTTP/1.1\r\n\r\n");
    EXPECT_EQ(k.ingress(p).mark, mark_bit);
    EXPECT_EQ(k.egress(p).code, tc_next);
    EXPECT_EQ(k.flow(p)->seen, 1);
    EXPECT_EQ(k.flow(p)->owner & 1, 0u);
}

// A device that is guarded later than the one behind it takes over what that one had judged.
TEST_F(ScenarioTest, IngressTakesOverFromEgress) {
    Kernel& k = kernel();
    const Packet p = Packet::udp(client4, 7100, remote4, 7200).payload(noise(200, 1));
    EXPECT_EQ(k.egress(p).code, tc_next);
    EXPECT_EQ(k.flow(p)->owner & 1, 1u);
    EXPECT_EQ(k.ingress(p).code, tc_next);
    EXPECT_EQ(k.flow(p)->owner & 1, 0u);
    EXPECT_EQ(k.flow(p)->seen, 2);
    EXPECT_EQ(k.egress(p).code, tc_next);
    EXPECT_EQ(k.flow(p)->owner & 1, 0u) << "and keeps it";
    EXPECT_EQ(k.flow(p)->seen, 2);
    EXPECT_EQ(k.ingress(Packet(p).payload(dht_query())).code, tc_drop);
}

// What was stored without a packet of its direction belongs to the hook that sees one.
TEST_F(ScenarioTest, AReusedTupleIsJudgedWhereItIsSeen) {
    Kernel& k = kernel();
    const Packet peer = Packet::tcp(client4, 1000, remote4, 2000);
    EXPECT_EQ(k.ingress(Packet(peer).payload(handshake())).code, tc_drop);
    EXPECT_EQ(k.flow(peer.reply())->owner, 0u);
    for (const Packet& p : {peer, peer.reply()}) {
        EXPECT_EQ(k.egress(Packet(p).flags(syn).payload("")).code, tc_next);
        EXPECT_EQ(k.egress(Packet(p).payload(handshake())).code, p.tuple().sport == 1000 ? tc_next : tc_drop)
            << "the first is ingress's";
    }
    EXPECT_EQ(k.ingress(Packet(peer).payload(handshake())).code, tc_drop);
    bt_flow blocked{}; // by user space, whose packet left no half-flow
    blocked.verdict = BT_V_BLOCKED;
    const Packet other = Packet::tcp(client4, 1001, remote4, 2000);
    ASSERT_TRUE(k.maps.flows.update(other.tuple(), blocked));
    EXPECT_EQ(k.ingress(Packet(other).flags(syn)).code, tc_next);
    EXPECT_EQ(k.ingress(Packet(other).payload("some text")).code, tc_next);
    EXPECT_EQ(k.flow(other)->seen, 1);
}

} // namespace
} // namespace btblock::test
