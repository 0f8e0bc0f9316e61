// SPDX-License-Identifier: MIT
#include "net/Address.h"
#include "net/Inside.h"
#include "net/Interface.h"
#include "net/LinkWatcher.h"
#include "unit/own_netns.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_arp.h>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <vector>

namespace {

using btblock::ExitCode;
using namespace btblock::net;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Kind = LinkEvent::Kind;

Address ip(const char* text) {
    auto address = Address::parse(text);
    EXPECT_TRUE(address) << text;
    return address ? *address : Address();
}

Prefix net(const char* text) {
    auto prefix = Prefix::parse(text);
    EXPECT_TRUE(prefix) << text;
    return prefix ? *prefix : Prefix();
}

std::vector<std::string> texts(const std::vector<Prefix>& prefixes) {
    std::vector<std::string> result;
    for (const Prefix& prefix : prefixes)
        result.push_back(prefix.to_string());
    return result;
}

bool covers(const std::vector<Prefix>& prefixes, const char* address) {
    return std::ranges::any_of(prefixes, [&](const Prefix& p) { return p.contains(ip(address)); });
}

// ---- Address

TEST(Address, ReadsAndWritesBothFamilies) {
    for (const char* text : {"0.0.0.0", "192.0.2.1", "255.255.255.255", "::", "::1", "2001:db8::1", "fe80::1:0:0:1",
                             "2001:db8:0:1:1:1:1:1"})
        EXPECT_EQ(ip(text).to_string(), text);
}

TEST(Address, WritesRfc5952) {
    EXPECT_EQ(ip("2001:0DB8:0:0:0:0:0:0001").to_string(), "2001:db8::1");
    EXPECT_EQ(ip("2001:db8:0:0:1:0:0:1").to_string(), "2001:db8::1:0:0:1"); // the first of two equal runs
    EXPECT_EQ(ip("2001:0:0:1:0:0:0:1").to_string(), "2001:0:0:1::1");       // the longest run
}

TEST(Address, HoldsV4AsMapped) {
    const Address v4 = ip("192.0.2.1");
    EXPECT_TRUE(v4.is_v4());
    EXPECT_EQ(v4, ip("::ffff:192.0.2.1"));
    EXPECT_EQ(v4, ip("::ffff:c000:201"));
    const unsigned char expected[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1};
    EXPECT_EQ(std::memcmp(v4.raw().b, expected, sizeof expected), 0);
    EXPECT_FALSE(ip("::192.0.2.1").is_v4());
    EXPECT_FALSE(ip("::").is_v4());
    EXPECT_FALSE(ip("::fffe:c000:201").is_v4());
    EXPECT_TRUE(ip("0.0.0.0").is_v4());
}

TEST(Address, FromBytes) {
    const unsigned char four[] = {203, 0, 113, 9};
    EXPECT_EQ(Address::from_v4(four), ip("203.0.113.9"));
    const unsigned char sixteen[] = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7};
    EXPECT_EQ(Address::from_v6(sixteen), ip("2001:db8::7"));
    EXPECT_EQ(Address(ip("2001:db8::7").raw()), ip("2001:db8::7"));
}

TEST(Address, RefusesWhatIsNone) {
    for (const std::string& text :
         {std::string(""), std::string("1.2.3"), std::string("1.2.3.4.5"), std::string("1.2.3.256"),
          std::string("01.2.3.4"), std::string(" 1.2.3.4"), std::string("1.2.3.4 "), std::string("1.2.3.4/24"),
          std::string("1.2.3.4:80"), std::string("[::1]"), std::string("::1%lo"), std::string(":::"),
          std::string("1::2::3"), std::string("12345::"), std::string("example.org"), std::string("1.2.3.4\0.5", 10),
          std::string("::1\0", 4)}) {
        auto address = Address::parse(text);
        ASSERT_FALSE(address) << text;
        EXPECT_EQ(address.error().exit_code, ExitCode::usage);
        EXPECT_THAT(address.error().message, HasSubstr(text));
    }
}

TEST(Address, ReadsAPartOfALongerText) {
    const std::string_view text = "10.0.0.12";
    EXPECT_EQ(Address::parse(text.substr(0, 8)).operator*(), ip("10.0.0.1"));
}

TEST(Address, Orders) {
    EXPECT_LT(ip("10.0.0.9"), ip("10.0.0.10"));
    EXPECT_LT(ip("127.0.0.1"), ip("200.0.0.0")); // unsigned bytes
    EXPECT_LT(ip("255.255.255.255"), ip("2001:db8::"));
    EXPECT_EQ(ip("10.0.0.9") <=> ip("10.0.0.9"), std::strong_ordering::equal);
}

TEST(Address, Endpoint) {
    EXPECT_EQ(endpoint_string(ip("192.0.2.1"), 80), "192.0.2.1:80");
    EXPECT_EQ(endpoint_string(ip("::ffff:192.0.2.1"), 65535), "192.0.2.1:65535");
    EXPECT_EQ(endpoint_string(ip("2001:db8::1"), 0), "[2001:db8::1]:0");
}

// ---- Prefix

TEST(Prefix, ClearsHostBits) {
    EXPECT_EQ(net("192.0.2.130/25").to_string(), "192.0.2.128/25");
    EXPECT_EQ(net("192.0.2.255/31").to_string(), "192.0.2.254/31");
    EXPECT_EQ(net("255.255.255.255/0").to_string(), "0.0.0.0/0");
    EXPECT_EQ(net("2001:db8:ffff:ffff::1/33").to_string(), "2001:db8:8000::/33");
    EXPECT_EQ(net("ffff::/0").to_string(), "::/0");
    EXPECT_EQ(net("2001:db8::1/127").to_string(), "2001:db8::/127");
}

TEST(Prefix, EveryLengthKeepsThatManyBits) {
    for (unsigned length = 0; length <= 32; ++length) {
        const Prefix prefix(ip("255.255.255.255"), length);
        EXPECT_EQ(prefix.length(), length);
        EXPECT_TRUE(prefix.address().is_v4());
        unsigned bits = 0;
        for (unsigned i = 12; i < 16; ++i)
            bits += static_cast<unsigned>(__builtin_popcount(prefix.address().raw().b[i]));
        EXPECT_EQ(bits, length);
        EXPECT_EQ(prefix.lpm().prefixlen, 96 + length);
    }
    const Address all_ones = ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    for (unsigned length = 0; length <= 128; ++length) {
        const Prefix prefix(all_ones, length);
        EXPECT_EQ(prefix.length(), length);
        unsigned bits = 0;
        for (const unsigned char b : prefix.address().raw().b)
            bits += static_cast<unsigned>(__builtin_popcount(b));
        EXPECT_EQ(bits, length);
        EXPECT_EQ(prefix.lpm().prefixlen, length);
    }
}

TEST(Prefix, BareAddressIsFullLength) {
    EXPECT_EQ(net("192.0.2.1").length(), 32u);
    EXPECT_EQ(net("192.0.2.1").to_string(), "192.0.2.1");
    EXPECT_EQ(net("2001:db8::1").length(), 128u);
    EXPECT_EQ(net("2001:db8::1/128").to_string(), "2001:db8::1");
    EXPECT_EQ(net("192.0.2.1"), net("192.0.2.1/32"));
    EXPECT_NE(net("192.0.2.0/24"), net("192.0.2.0/25"));
}

TEST(Prefix, ClampsLength) {
    EXPECT_EQ(Prefix(ip("192.0.2.1"), 128).length(), 32u);
    EXPECT_EQ(Prefix(ip("2001:db8::1"), 4000).length(), 128u);
}

TEST(Prefix, RefusesWhatIsNone) {
    for (const char* text : {"", "/", "/24", "192.0.2.0/", "192.0.2.0/33", "192.0.2.0/-1", "192.0.2.0/+8",
                             "192.0.2.0/ 8", "192.0.2.0/8 ", "192.0.2.0/8/8", "192.0.2.0/255.0.0.0", "2001:db8::/129",
                             "192.0.2.0/4294967297", "192.0.2.0/99999999999999999999", "nonsense/8", "192.0.2/24"}) {
        auto prefix = Prefix::parse(text);
        ASSERT_FALSE(prefix) << text;
        EXPECT_EQ(prefix.error().exit_code, ExitCode::usage);
        EXPECT_THAT(prefix.error().message, HasSubstr(text));
    }
}

TEST(Prefix, Contains) {
    EXPECT_TRUE(net("10.0.0.0/8").contains(ip("10.255.255.255")));
    EXPECT_FALSE(net("10.0.0.0/8").contains(ip("11.0.0.0")));
    EXPECT_FALSE(net("10.0.0.0/8").contains(ip("9.255.255.255")));
    EXPECT_TRUE(net("192.0.2.128/25").contains(ip("192.0.2.128")));
    EXPECT_FALSE(net("192.0.2.128/25").contains(ip("192.0.2.127")));
    EXPECT_TRUE(net("0.0.0.0/0").contains(ip("203.0.113.5")));
    EXPECT_FALSE(net("0.0.0.0/0").contains(ip("2001:db8::1"))); // families stay apart
    EXPECT_FALSE(net("::/0").contains(ip("203.0.113.5")));
    EXPECT_TRUE(net("::/0").contains(ip("2001:db8::1")));
    EXPECT_TRUE(net("2001:db8::1").contains(ip("2001:db8::1")));
    EXPECT_FALSE(net("2001:db8::1").contains(ip("2001:db8::2")));
}

TEST(Prefix, LpmKeyAndBack) {
    for (const char* text : {"0.0.0.0/0", "10.0.0.0/8", "192.0.2.1", "::/0", "fc00::/7", "2001:db8::1"}) {
        const Prefix prefix = net(text);
        EXPECT_EQ(Prefix::from_lpm(prefix.lpm()), prefix) << text;
    }
    EXPECT_EQ(net("10.0.0.0/8").lpm().prefixlen, 104u);
    EXPECT_EQ(net("fc00::/7").lpm().prefixlen, 7u);
}

// ---- Interface

TEST(Interface, KindFromHardwareType) {
    EXPECT_EQ(link_kind(ARPHRD_ETHER), LinkKind::ethernet);
    EXPECT_EQ(link_kind(ARPHRD_LOOPBACK), LinkKind::ethernet);
    for (const unsigned type : {ARPHRD_NONE, ARPHRD_PPP, ARPHRD_TUNNEL, ARPHRD_TUNNEL6, ARPHRD_SIT, ARPHRD_IPGRE,
                                ARPHRD_IP6GRE, ARPHRD_RAWIP})
        EXPECT_EQ(link_kind(type), LinkKind::ip) << type;
    EXPECT_EQ(link_kind(ARPHRD_INFINIBAND), std::nullopt);
    EXPECT_EQ(link_kind(ARPHRD_CAN), std::nullopt);
}

std::vector<Interface> made_up_interfaces() {
    Interface lo;
    lo.name = "lo";
    lo.ifindex = 1;
    lo.hardware_type = ARPHRD_LOOPBACK;
    Interface eth;
    eth.name = "eth0";
    eth.ifindex = 2;
    eth.hardware_type = ARPHRD_ETHER;
    eth.alternative_names = {"enp0s3"};
    Interface ib;
    ib.name = "ib0";
    ib.ifindex = 3;
    ib.hardware_type = ARPHRD_INFINIBAND;
    return {lo, eth, ib};
}

TEST(Interface, FindsByNameAndAlternativeName) {
    auto found = find_interface_in(made_up_interfaces(), "eth0");
    ASSERT_TRUE(found);
    EXPECT_EQ(found->ifindex, 2u);
    found = find_interface_in(made_up_interfaces(), "enp0s3");
    ASSERT_TRUE(found);
    EXPECT_EQ(found->name, "eth0");
}

TEST(Interface, UnknownNameListsWhatExists) {
    auto found = find_interface_in(made_up_interfaces(), "eht0");
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().message, "interface 'eht0' does not exist (there are: lo, eth0, ib0)");
    EXPECT_THAT(find_interface_in({}, "x").error().message, HasSubstr("(there are: none)"));
    const std::vector<Interface> many(40, made_up_interfaces().front());
    EXPECT_THAT(find_interface_in(many, "x").error().message, HasSubstr("... 28 more"));
}

TEST(Interface, RefusesLinksWithoutIp) {
    auto found = find_interface_in(made_up_interfaces(), "ib0");
    ASSERT_FALSE(found);
    EXPECT_THAT(found.error().message, HasSubstr("ib0"));
    EXPECT_THAT(found.error().message, HasSubstr("link type 32"));
}

TEST(Interface, LoopbackExistsHere) {
    auto lo = find_interface("lo"); // needs no privileges
    ASSERT_TRUE(lo) << lo.error().message;
    EXPECT_EQ(lo->kind, LinkKind::ethernet);
    EXPECT_FALSE(lo->has_device);
    EXPECT_EQ(lo->driver_kind, "");
}

TEST(Interface, ReadsKindsFromTheKernel) {
    SKIP_WITHOUT_NETNS();
    own_netns::run([] {
        ASSERT_TRUE(own_netns::shell("ip link add va type veth peer name vb"));
        ASSERT_TRUE(own_netns::shell("ip link set va up"));
        ASSERT_TRUE(own_netns::shell("ip link property add dev va altname a-much-longer-name-of-va"));
        ASSERT_TRUE(own_netns::shell("ip tuntap add dev tun7 mode tun"));
        ASSERT_TRUE(own_netns::shell("ip tuntap add dev tap7 mode tap"));
        auto all = list_interfaces();
        ASSERT_TRUE(all);
        EXPECT_EQ(std::ranges::count(*all, std::string("eth0"), &Interface::name), 0)
            << "the own namespace has only what was made here";
        auto va = find_interface("va");
        ASSERT_TRUE(va);
        EXPECT_EQ(va->kind, LinkKind::ethernet);
        EXPECT_EQ(va->driver_kind, "veth");
        EXPECT_TRUE(va->up);
        EXPECT_FALSE(va->has_device);
        EXPECT_EQ(find_interface("a-much-longer-name-of-va")->ifindex, va->ifindex);
        EXPECT_FALSE(find_interface("vb")->up);
        auto tun = find_interface("tun7");
        ASSERT_TRUE(tun);
        EXPECT_EQ(tun->kind, LinkKind::ip);
        EXPECT_EQ(tun->driver_kind, "tun");
        EXPECT_FALSE(tun->has_device);
        EXPECT_EQ(find_interface("tap7")->kind, LinkKind::ethernet);
    });
}

// ---- LinkWatcher

std::vector<LinkEvent> wait_for_events(LinkWatcher& watcher) {
    pollfd readable{watcher.fd(), POLLIN, 0};
    EXPECT_EQ(poll(&readable, 1, 2000), 1);
    return watcher.read();
}

TEST(LinkWatcher, TellsWhatChanges) {
    SKIP_WITHOUT_NETNS();
    own_netns::run([] {
        ASSERT_TRUE(own_netns::shell("ip link set lo up"));
        auto watcher = LinkWatcher::open();
        ASSERT_TRUE(watcher) << watcher.error().message;
        EXPECT_THAT(watcher->read(), IsEmpty()) << "what exists at the start is no event";

        ASSERT_TRUE(own_netns::shell("ip link add va type veth peer name vb"));
        const unsigned va = find_interface("va")->ifindex;
        const unsigned vb = find_interface("vb")->ifindex;
        auto events = wait_for_events(*watcher);
        EXPECT_THAT(events, testing::UnorderedElementsAre(LinkEvent{Kind::appeared, "va", va},
                                                          LinkEvent{Kind::appeared, "vb", vb}));

        ASSERT_TRUE(own_netns::shell("ip link set va name wan"));
        EXPECT_THAT(wait_for_events(*watcher),
                    ElementsAre(LinkEvent{Kind::gone, "va", va}, LinkEvent{Kind::appeared, "wan", va}));

        ASSERT_TRUE(own_netns::shell("ip address add 198.51.100.1/24 dev wan"));
        EXPECT_THAT(wait_for_events(*watcher), ElementsAre(LinkEvent{Kind::addresses_changed, "wan", va}));
        ASSERT_TRUE(own_netns::shell("ip address change 198.51.100.1/24 dev wan valid_lft 900 preferred_lft 900"));
        EXPECT_THAT(wait_for_events(*watcher), IsEmpty()) << "a renewed lifetime is no change";
        ASSERT_TRUE(own_netns::shell("ip address del 198.51.100.1/24 dev wan"));
        EXPECT_THAT(wait_for_events(*watcher), ElementsAre(LinkEvent{Kind::addresses_changed, "wan", va}));

        ASSERT_TRUE(own_netns::shell("ip link set wan alias uplink"));
        EXPECT_THAT(watcher->read(), IsEmpty()) << "an alias is no event";

        ASSERT_TRUE(own_netns::shell("ip link del wan"));
        events = wait_for_events(*watcher);
        EXPECT_THAT(events,
                    testing::UnorderedElementsAre(LinkEvent{Kind::gone, "wan", va}, LinkEvent{Kind::gone, "vb", vb}));
        EXPECT_THAT(watcher->read(), IsEmpty()) << "and it does not block";
    });
}

TEST(LinkWatcher, LeavingABridgeIsNotGone) {
    SKIP_WITHOUT_NETNS();
    own_netns::run([] {
        auto probe = btblock::firewall::run_command({"ip", "link", "add", "br7", "type", "bridge"});
        if (!probe || !probe->succeeded()) {
            std::printf("no bridge devices in this kernel: not tested\n");
            return;
        }
        ASSERT_TRUE(own_netns::shell("ip link add va type veth peer name vb"));
        auto watcher = LinkWatcher::open();
        ASSERT_TRUE(watcher);
        ASSERT_TRUE(own_netns::shell("ip link set va master br7"));
        ASSERT_TRUE(own_netns::shell("ip link set va nomaster"));
        for (const LinkEvent& event : watcher->read())
            EXPECT_NE(event.kind, Kind::gone) << event.name;
        EXPECT_TRUE(find_interface("va"));
    });
}

TEST(LinkWatcher, LostMessagesMeanResync) {
    SKIP_WITHOUT_NETNS();
    own_netns::run([] {
        ASSERT_TRUE(own_netns::shell("ip link set lo up"));
        auto watcher = LinkWatcher::open();
        ASSERT_TRUE(watcher);
        const int small = 1;
        ASSERT_EQ(setsockopt(watcher->fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
        std::string batch;
        for (int i = 1; i < 200; ++i)
            batch += "address add 127.9.0." + std::to_string(i) + "/32 dev lo\n";
        ASSERT_TRUE(own_netns::shell("ip -batch -", batch));
        EXPECT_THAT(wait_for_events(*watcher), ElementsAre(LinkEvent{Kind::resync, "", 0}));
        EXPECT_THAT(watcher->read(), IsEmpty());
        ASSERT_TRUE(own_netns::shell("ip address del 127.9.0.199/32 dev lo"));
        EXPECT_THAT(wait_for_events(*watcher), ElementsAre(LinkEvent{Kind::addresses_changed, "lo", 1}))
            << "it knows again what there is";
    });
}

// ---- Inside: the pure part

constexpr unsigned lo = 1;
constexpr unsigned wan = 2;
constexpr unsigned lan = 3;
constexpr unsigned wg = 4;

// A VPN server with public addresses outside and a public prefix for its clients.
NetworkSnapshot vpn_server() {
    NetworkSnapshot n;
    n.addresses = {{lo, ip("127.0.0.1"), net("127.0.0.0/8"), {}},
                   {lo, ip("::1"), net("::1"), {}},
                   {wan, ip("198.51.100.7"), net("198.51.100.0/24"), ip("198.51.100.255")},
                   {wan, ip("2001:db8:f::7"), net("2001:db8:f::/64"), {}},
                   {wg, ip("203.0.113.1"), net("203.0.113.0/28"), {}}};
    n.routes = {{wan, net("0.0.0.0/0"), ip("198.51.100.1")},
                {wan, net("198.51.100.0/24"), {}},
                {wan, net("::/0"), ip("fe80::1")},
                {wg, net("203.0.113.0/28"), {}},
                {wg, net("2001:db8:77::/48"), {}}};
    n.resolvers = {ip("9.9.9.9"), ip("10.0.0.53")};
    return n;
}

TEST(Inside, PrivateRangesAlways) {
    const auto inside = inside_of({});
    for (const char* address : {"10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.7.7", "100.64.0.1",
                                "100.127.255.255", "169.254.1.1", "fc00::1", "fdff::1", "fe80::1"})
        EXPECT_TRUE(covers(inside, address)) << address;
    for (const char* address : {"11.0.0.1", "172.15.255.255", "172.32.0.0", "192.167.0.1", "100.63.255.255",
                                "100.128.0.0", "8.8.8.8", "fbff::1", "2001:db8::1", "fec0::1"})
        EXPECT_FALSE(covers(inside, address)) << address;
}

TEST(Inside, OnLinkPrefixesOfOtherInterfacesOnly) {
    const auto n = vpn_server();
    EXPECT_EQ(uplinks(n), std::set{wan});
    const auto inside = inside_of(n);
    EXPECT_TRUE(covers(inside, "203.0.113.14"));
    EXPECT_TRUE(covers(inside, "2001:db8:77:5::1"));
    EXPECT_FALSE(covers(inside, "198.51.100.8")) << "a neighbour on the uplink";
    EXPECT_FALSE(covers(inside, "2001:db8:f::8"));
    EXPECT_FALSE(covers(inside, "203.0.113.16"));
    EXPECT_TRUE(covers(inside, "198.51.100.7")) << "the machine itself";
    EXPECT_TRUE(covers(inside, "2001:db8:f::7"));
    EXPECT_TRUE(covers(inside, "127.0.0.1"));
}

TEST(Inside, NoPrefixTwice) {
    auto n = vpn_server();
    n.addresses.push_back({lan, ip("10.3.0.1"), net("10.3.0.0/16"), {}});
    const auto inside = texts(inside_of(n));
    EXPECT_THAT(inside, ElementsAre("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
                                    "192.168.0.0/16", "198.51.100.7", "203.0.113.0/28", "::1", "2001:db8:f::7",
                                    "2001:db8:77::/48", "fc00::/7", "fe80::/10"));
}

TEST(Inside, DefaultRouteInPiecesIsADefaultRoute) {
    for (const char* piece : {"0.0.0.0/1", "128.0.0.0/1", "64.0.0.0/2", "2000::/3", "8000::/1"}) {
        NetworkSnapshot n;
        n.routes = {{wg, net(piece), {}}, {lan, net("203.0.113.0/24"), {}}};
        EXPECT_EQ(uplinks(n), std::set{wg}) << piece;
        const auto inside = inside_of(n);
        EXPECT_FALSE(covers(inside, "66.1.1.1")) << piece;
        EXPECT_FALSE(covers(inside, "2001:db8::1")) << piece;
        EXPECT_TRUE(covers(inside, "203.0.113.9")) << piece;
    }
}

TEST(Inside, DefaultRouteWithoutGatewayIsAnUplink) {
    NetworkSnapshot n;
    n.addresses = {{wg, ip("203.0.113.5"), net("203.0.113.0/24"), {}}};
    n.routes = {{wg, net("0.0.0.0/0"), {}}};
    EXPECT_EQ(uplinks(n), std::set{wg});
    EXPECT_FALSE(covers(inside_of(n), "203.0.113.6"));
    EXPECT_FALSE(covers(inside_of(n), "8.8.8.8"));
}

TEST(Inside, WithoutDefaultRouteGatewaysLeadOut) {
    NetworkSnapshot n;
    n.addresses = {{wan, ip("198.51.100.7"), net("198.51.100.0/24"), {}},
                   {lan, ip("203.0.113.1"), net("203.0.113.0/24"), {}}};
    n.routes = {{wan, net("192.0.2.0/24"), ip("198.51.100.1")},
                {wan, net("198.51.100.0/24"), {}},
                {lan, net("203.0.113.0/24"), {}}};
    EXPECT_EQ(uplinks(n), std::set{wan});
    EXPECT_FALSE(covers(inside_of(n), "198.51.100.8"));
    EXPECT_TRUE(covers(inside_of(n), "203.0.113.8"));
    // A gateway inside is no uplink once there is a default route.
    n.routes.push_back({wan, net("0.0.0.0/0"), ip("198.51.100.1")});
    n.routes.push_back({lan, net("203.0.114.0/24"), ip("203.0.113.2")});
    EXPECT_EQ(uplinks(n), std::set{wan});
    EXPECT_TRUE(covers(inside_of(n), "203.0.113.8"));
    EXPECT_FALSE(covers(inside_of(n), "203.0.114.1")) << "only what is on-link";
}

TEST(Inside, NoUplinkAtAll) {
    NetworkSnapshot n;
    n.addresses = {{lan, ip("203.0.113.1"), net("203.0.113.0/24"), {}}};
    EXPECT_THAT(uplinks(n), IsEmpty());
    EXPECT_TRUE(covers(inside_of(n), "203.0.113.77"));
}

TEST(Inside, PointToPointPeer) {
    NetworkSnapshot n;
    n.addresses = {{wg, ip("203.0.113.1"), net("203.0.113.2"), {}}};
    EXPECT_THAT(texts(inside_of(n)), testing::IsSupersetOf({"203.0.113.1", "203.0.113.2"}));
}

TEST(Inside, AnAddressWithLengthZeroIsNotTheWholeInternet) {
    NetworkSnapshot n;
    n.addresses = {{lan, ip("203.0.113.1"), net("0.0.0.0/0"), {}}};
    EXPECT_FALSE(covers(inside_of(n), "8.8.8.8"));
    EXPECT_TRUE(covers(inside_of(n), "203.0.113.1"));
}

TEST(NeverBan, OwnGatewaysResolversAndSpecial) {
    const auto never = never_ban_of(vpn_server());
    for (const char* address :
         {"198.51.100.7", "203.0.113.1", "2001:db8:f::7", "198.51.100.1", "fe80::1", "9.9.9.9", "10.0.0.53",
          "127.0.0.1", "127.9.9.9", "::1", "224.0.0.1", "239.192.152.143", "239.255.255.255", "ff15::efc0:988f",
          "255.255.255.255", "198.51.100.255", "0.0.0.0", "::"})
        EXPECT_TRUE(covers(never, address)) << address;
    for (const char* address : {"198.51.100.2", "203.0.113.2", "8.8.8.8", "fe80::2", "223.255.255.255", "240.0.0.1",
                                "10.0.0.54", "2001:db8:f::8", "0.0.0.1"})
        EXPECT_FALSE(covers(never, address)) << address;
}

TEST(NeverBan, Resolvers) {
    EXPECT_THAT(parse_resolvers("# nameserver 1.1.1.1\n"
                                "search example.org\n"
                                "nameserver 9.9.9.9\n"
                                "nameserver\t2620:fe::fe # comment\r\n"
                                "  nameserver fe80::1%eth0\n"
                                "nameservers 8.8.8.8\n"
                                "nameserver8.8.4.4\n"
                                "nameserver nonsense\n"
                                "nameserver\n"
                                "\n"
                                "nameserver 10.0.0.53"),
                ElementsAre(ip("9.9.9.9"), ip("2620:fe::fe"), ip("fe80::1"), ip("10.0.0.53")));
    EXPECT_THAT(parse_resolvers(""), IsEmpty());
}

// ---- Inside: the reader

TEST(Inside, ReadsTheKernel) {
    SKIP_WITHOUT_NETNS();
    own_netns::run([] {
        for (const char* command : {
                 "ip link set lo up",
                 "ip link add wan type veth peer name wan-peer",
                 "ip link add lan type veth peer name lan-peer",
                 "ip link set wan up",
                 "ip link set wan-peer up",
                 "ip link set lan up",
                 "ip link set lan-peer up",
                 "ip address add 198.51.100.7/24 broadcast 198.51.100.255 dev wan",
                 "ip address add 203.0.113.1/28 dev lan",
                 "ip address add 203.0.113.33 peer 203.0.113.34/32 dev lan",
                 "ip -6 address add 2001:db8:f::7/64 dev wan nodad",
                 "ip -6 address add 2001:db8:a::1/64 dev lan nodad",
                 "ip route add default via 198.51.100.1 dev wan table 77", // policy routing: all tables count
                 "ip route add 192.0.2.0/25 dev lan",
                 "ip route add 192.0.2.128/25 nexthop via 203.0.113.3 dev lan nexthop via 203.0.113.4 dev lan",
                 "ip route add 100.99.0.0/16 via inet6 fe80::77 dev lan",
                 "ip route add blackhole default metric 9999",
                 "ip -6 route add default via 2001:db8:f::1 dev wan",
             })
            ASSERT_TRUE(own_netns::shell(command));
        auto network = read_network();
        ASSERT_TRUE(network) << network.error().message;
        EXPECT_EQ(uplinks(*network), std::set{find_interface("wan")->ifindex});

        auto inside = default_inside();
        ASSERT_TRUE(inside);
        for (const char* address : {"203.0.113.14", "203.0.113.34", "203.0.113.33", "192.0.2.1", "198.51.100.7",
                                    "2001:db8:a::99", "2001:db8:f::7"})
            EXPECT_TRUE(covers(*inside, address)) << address;
        for (const char* address : {"198.51.100.8", "203.0.113.16", "192.0.2.129", "2001:db8:f::8", "8.8.8.8"})
            EXPECT_FALSE(covers(*inside, address)) << address;

        auto never = never_ban_addresses();
        ASSERT_TRUE(never);
        for (const char* address : {"198.51.100.7", "198.51.100.1", "198.51.100.255", "203.0.113.3", "203.0.113.4",
                                    "fe80::77", "2001:db8:f::1", "2001:db8:a::1"})
            EXPECT_TRUE(covers(*never, address)) << address;
        for (const char* address : {"203.0.113.5", "198.51.100.8"})
            EXPECT_FALSE(covers(*never, address)) << address;
    });
}

TEST(Inside, ManyRoutesThroughOneGatewayAreKeptOnce) {
    SKIP_WITHOUT_NETNS();
    own_netns::run([] {
        ASSERT_TRUE(own_netns::shell("ip link add wan type veth peer name wan-peer"));
        ASSERT_TRUE(own_netns::shell("ip link set wan up"));
        ASSERT_TRUE(own_netns::shell("ip address add 198.51.100.7/24 dev wan"));
        std::string batch = "route add default via 198.51.100.1\n";
        for (int i = 0; i < 3000; ++i)
            batch +=
                "route add 20." + std::to_string(i / 250) + "." + std::to_string(i % 250) + ".0/24 via 198.51.100.1\n";
        ASSERT_TRUE(own_netns::shell("ip -batch -", batch));
        auto network = read_network();
        ASSERT_TRUE(network);
        EXPECT_LT(network->routes.size(), 20u);
        EXPECT_EQ(uplinks(*network).size(), 1u);
    });
}

} // namespace
