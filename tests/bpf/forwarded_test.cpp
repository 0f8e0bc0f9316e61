// SPDX-License-Identifier: MIT
// bpf/forwarded.h: what ingress let pass, egress does not look up again, once.
#include "bpf/Kernel.h"
#include "bpf/Scenarios.h"

namespace btblock::test {
namespace {

class ForwardedTest : public KernelTest {
protected:
    void SetUp() override {
        KernelTest::SetUp();
        if (IsSkipped())
            return;
        if (kernel().forwarded(segment(1)).code == -1000 - EINVAL)
            GTEST_SKIP() << "this kernel's BPF_PROG_TEST_RUN takes no ingress_ifindex";
    }
    static Packet segment(std::uint32_t seq) {
        return Packet::tcp(client4, 1000, remote4, 22).seq(seq).payload("SSH-2.0-x\r\n");
    }
    // Ingress lets it pass, then an address is banned: what egress does says whether it looked. All of it in one tick
    // of the kernel's clock, so it is tried again.
    static int egress_after_ban(const Packet& in, const Packet& out, std::uint32_t from = 1, unsigned times = 1) {
        int code = 0;
        for (int attempt = 0; attempt < 20; ++attempt) {
            unban();
            EXPECT_EQ(kernel().ingress(in).code, tc_next);
            ban();
            for (unsigned i = 0; i < times; ++i)
                code = kernel().forwarded(out, from).code;
            if (code == tc_next)
                break;
        }
        unban();
        return code;
    }
    static void ban() {
        bt_ban entry{};
        entry.expires_ns = ~0ULL;
        ASSERT_TRUE(kernel().maps.bans.update(address(remote4), entry));
    }
    static void unban() { (void)kernel().maps.bans.erase(address(remote4)); }
};

TEST_F(ForwardedTest, WhatIngressLetPassIsNotLookedUpAgain) {
    EXPECT_EQ(egress_after_ban(segment(7), segment(7)), tc_next);
    const Packet datagram = Packet::udp(client4, 5000, remote4, 6000).payload("some text that is nothing");
    EXPECT_EQ(egress_after_ban(datagram, datagram), tc_next);
}

TEST_F(ForwardedTest, Once) {
    EXPECT_EQ(egress_after_ban(segment(7), segment(7), 1, 2), tc_drop);
}

TEST_F(ForwardedTest, OnlyThatPacketFromThatDevice) {
    EXPECT_EQ(egress_after_ban(segment(7), segment(7), 0), tc_drop) << "made on this machine";
    EXPECT_EQ(egress_after_ban(segment(7), segment(7), 2), tc_drop) << "another device brought it in";
    EXPECT_EQ(egress_after_ban(segment(7), segment(8)), tc_drop);
    EXPECT_EQ(egress_after_ban(segment(7), segment(7).payload("SSH-2.0-another\r\n")), tc_drop);
    EXPECT_EQ(egress_after_ban(segment(7), segment(7).flags(syn)), tc_drop);
    EXPECT_EQ(egress_after_ban(segment(7), Packet::tcp(other4, 1000, remote4, 22).seq(7).payload("SSH-2.0-x\r\n")),
              tc_drop)
        << "translated";
}

TEST_F(ForwardedTest, WhatWasDroppedOrHandedUpLeavesNoNote) {
    const Packet query = Packet::udp(client4, 5000, remote4, 6881).payload(dht_query());
    EXPECT_EQ(kernel().ingress(query).code, tc_drop);
    EXPECT_EQ(kernel().forwarded(query).code, tc_drop);
    const Packet request = Packet::tcp(client4, 1001, remote4, 80).seq(1).payload("GET /a?b HTTP/1.1\r\n\r\n");
    for (int attempt = 0; attempt < 5; ++attempt) {
        unban();
        EXPECT_EQ(kernel().ingress(request).mark, mark_bit);
        ban();
        EXPECT_EQ(kernel().forwarded(request).code, tc_drop);
    }
    unban();
}

TEST_F(ForwardedTest, IsCountedAsSeen) {
    const std::uint64_t before = kernel().counter(BT_S_SEEN);
    EXPECT_EQ(egress_after_ban(segment(7), segment(7)), tc_next);
    EXPECT_EQ((kernel().counter(BT_S_SEEN) - before) % 2, 0u);
}

} // namespace
} // namespace btblock::test
