// SPDX-License-Identifier: MIT
#include "policy/BanPolicy.h"

#include <gtest/gtest.h>

namespace btblock::policy {
namespace {

net::Address at(std::string_view text) {
    return *net::Address::parse(text);
}

std::vector<net::Prefix> prefixes(std::initializer_list<std::string_view> list) {
    std::vector<net::Prefix> out;
    for (const std::string_view text : list)
        out.push_back(*net::Prefix::parse(text));
    return out;
}

bt_event event(std::string_view src, std::uint16_t sport, std::string_view dst, std::uint16_t dport,
               std::uint32_t evidence = BT_EV_BIT(BT_EV_TCP_HANDSHAKE)) {
    bt_event e{};
    e.tuple = {at(src).raw(), at(dst).raw(), sport, dport, 6, {}};
    e.evidence = evidence;
    return e;
}

class BanPolicyTest : public ::testing::Test {
protected:
    BanPolicy policy() const {
        return BanPolicy(config, prefixes({"10.0.0.0/8", "fd00::/8"}), prefixes({"203.0.113.53", "2001:db8:5::1"}));
    }
    Config config;
};

TEST_F(BanPolicyTest, BansThePeerWhicheverWayThePacketWent) {
    auto p = policy();
    EXPECT_EQ(p.decide(event("10.0.0.2", 4000, "203.0.113.9", 6881), true, 1)->address, at("203.0.113.9"));
    const auto back = p.decide(event("203.0.113.9", 6881, "10.0.0.2", 4000), true, 1);
    ASSERT_TRUE(back);
    EXPECT_EQ(back->address, at("203.0.113.9"));
    EXPECT_FALSE(back->port);
    EXPECT_FALSE(back->subnet64);
    EXPECT_FALSE(p.decide(event("10.0.0.2", 4000, "10.0.0.3", 6881), true, 1)) << "both inside";
}

TEST_F(BanPolicyTest, OnlyEvidenceOfAnEstablishedConnection) {
    auto p = policy();
    for (std::uint32_t code = 0; code < BT_EV_COUNT; ++code) {
        const bool strong = code == BT_EV_TCP_HANDSHAKE || code == BT_EV_TCP_MESSAGE || code == BT_EV_TCP_EXTENSION ||
                            code == BT_EV_TCP_FAST || code == BT_EV_UTP_PAIR || code == BT_EV_UTP_DATA;
        EXPECT_EQ(p.decide(event("10.0.0.2", 4000, "203.0.113.9", 6881, BT_EV_BIT(code)), true, 1).has_value(), strong)
            << code;
    }
    EXPECT_FALSE(p.decide(event("10.0.0.2", 4000, "203.0.113.9", 6881), false, 1)) << "shown by a proxy or HTTP only";
}

TEST_F(BanPolicyTest, Targets) {
    config.ban.target = BanTarget::none;
    EXPECT_FALSE(policy().decide(event("10.0.0.2", 4000, "203.0.113.9", 6881), true, 1));
    config.ban.target = BanTarget::client;
    EXPECT_EQ(policy().decide(event("10.0.0.2", 4000, "203.0.113.9", 6881), true, 1)->address, at("10.0.0.2"));
    EXPECT_EQ(policy().decide(event("203.0.113.9", 6881, "10.0.0.2", 4000), true, 1)->address, at("10.0.0.2"));
    EXPECT_FALSE(policy().decide(event("203.0.113.9", 6881, "198.51.100.1", 4000), true, 1)) << "no client";
    config.ban.target = BanTarget::source;
    EXPECT_EQ(policy().decide(event("10.0.0.2", 4000, "203.0.113.9", 6881), true, 1)->address, at("10.0.0.2"));
}

TEST_F(BanPolicyTest, EndpointScope) {
    config.ban.scope = BanScope::endpoint;
    auto p = policy();
    EXPECT_EQ(p.decide(event("10.0.0.2", 4000, "203.0.113.9", 6881), true, 1)->port, 6881);
    const auto v6 = p.decide(event("fd00::2", 4000, "2001:db8::9", 6881), true, 1);
    EXPECT_EQ(v6->address, at("2001:db8::9"));
    EXPECT_FALSE(v6->subnet64);
    EXPECT_EQ(v6->port, 6881);
}

TEST_F(BanPolicyTest, Ipv6BansTheSubnetUnlessItHoldsSomethingProtected) {
    auto p = policy();
    const auto wide = p.decide(event("fd00::2", 4000, "2001:db8:1::9", 6881), true, 1);
    EXPECT_EQ(wide->address, at("2001:db8:1::"));
    EXPECT_TRUE(wide->subnet64);
    const auto narrow = p.decide(event("fd00::2", 4000, "2001:db8:5::9", 6881), true, 1);
    EXPECT_EQ(narrow->address, at("2001:db8:5::9"));
    EXPECT_FALSE(narrow->subnet64);
}

TEST_F(BanPolicyTest, NeverProtectedAddressesAndServicePorts) {
    config.whitelist_ports = {443};
    auto p = policy();
    EXPECT_FALSE(p.decide(event("10.0.0.2", 4000, "203.0.113.53", 6881), true, 1));
    EXPECT_FALSE(p.decide(event("10.0.0.2", 4000, "203.0.113.9", 443), true, 1));
    EXPECT_FALSE(p.decide(event("203.0.113.9", 443, "10.0.0.2", 4000), true, 1));
    EXPECT_TRUE(p.is_protected(at("203.0.113.53")));
    EXPECT_FALSE(p.is_protected(at("203.0.113.54")));
    p.set_never({});
    EXPECT_TRUE(p.decide(event("10.0.0.2", 4000, "203.0.113.53", 6881), true, 1));
    p.set_inside(prefixes({"203.0.113.0/24"}));
    EXPECT_EQ(p.decide(event("10.0.0.2", 4000, "203.0.113.53", 6881), true, 1)->address, at("10.0.0.2"));
}

TEST_F(BanPolicyTest, AfterCountsWithinItsWindow) {
    config.ban.after = 3;
    auto p = policy();
    const bt_event e = event("10.0.0.2", 4000, "203.0.113.9", 6881);
    const bt_event other = event("10.0.0.2", 4000, "203.0.113.10", 6881);
    const std::uint64_t later = BanPolicy::window_ns + 2;
    EXPECT_FALSE(p.decide(e, true, 1));
    EXPECT_FALSE(p.decide(e, true, 100));
    EXPECT_FALSE(p.decide(other, true, 101));
    EXPECT_FALSE(p.decide(e, true, later)) << "the first is forgotten";
    EXPECT_TRUE(p.decide(e, true, later + 1));
    EXPECT_FALSE(p.decide(e, true, later + 2)) << "counting starts again";
}

TEST_F(BanPolicyTest, DurationsGrowOnRepetition) {
    config.ban.duration = 100;
    const BanDecision target{at("203.0.113.9"), false, {}};
    const BanDecision other{at("203.0.113.10"), false, {}};
    const auto after = [](std::uint64_t seconds) { return seconds * BT_NSEC_PER_SEC; };
    auto plain = policy();
    EXPECT_EQ(plain.duration(target, 0), 100u);
    EXPECT_EQ(plain.duration(target, after(101)), 100u);
    config.ban.growth = 3;
    config.ban.max_duration = 500;
    auto p = policy();
    EXPECT_EQ(p.duration(target, 0), 100u);
    EXPECT_EQ(p.duration(target, after(50)), 100u) << "still banned: no repetition";
    EXPECT_EQ(p.duration(target, after(151)), 300u);
    EXPECT_EQ(p.duration(other, after(151)), 100u);
    EXPECT_EQ(p.duration(target, after(452)), 500u) << "at most";
    EXPECT_EQ(p.duration(target, after(952 + 501)), 100u) << "forgotten";
}

TEST_F(BanPolicyTest, ReconfiguredItKeepsItsCounts) {
    config.ban.after = 3;
    auto p = policy();
    const bt_event e = event("10.0.0.2", 4000, "203.0.113.9", 6881);
    EXPECT_FALSE(p.decide(e, true, 1));
    config.ban.after = 2;
    p.reconfigure(config);
    EXPECT_TRUE(p.decide(e, true, 2));
}

} // namespace
} // namespace btblock::policy
