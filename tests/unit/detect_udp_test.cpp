// SPDX-License-Identifier: MIT
// DHT, UDP trackers and both inside SOCKS.
#include "detect/Dht.h"
#include "detect/Socks.h"
#include "detect/Tracker.h"
#include "detect_build.h"

using namespace btblock::detect;
using namespace btblock::detect::build;

namespace {

struct Positive {
    const char* name;
    std::string datagram;
    int evidence;
};

std::vector<Positive> dht_messages() {
    const std::string id = "2:id20:" + hash(1);
    const auto query = [&](const std::string& rest, const std::string& name) {
        return "d1:ad" + id + rest + "e1:q" + str(name) + "1:t4:\x01\x02\x03\x04" + "1:y1:qe";
    };
    return {
        {"ping", dht_ping, BT_EV_DHT_QUERY},
        {"read only (BEP 43)", "d1:ad" + id + "e1:q4:ping2:roi1e1:t2:aa1:y1:qe", BT_EV_DHT_QUERY},
        {"unsorted", "d1:y1:q1:t2:aa1:q4:ping1:ad" + id + "ee", BT_EV_DHT_QUERY},
        {"version in front", "d1:v4:UT\x11\x22" + ("1:y1:q1:t2:aa1:q4:ping1:ad" + id) + "ee", BT_EV_DHT_QUERY},
        {"find_node", query("6:target20:" + hash(2) + "4:wantl2:n42:n6e", "find_node"), BT_EV_DHT_QUERY},
        {"get_peers", dht_get_peers(), BT_EV_DHT_QUERY},
        {"get_peers bs (BEP 33)", query("9:info_hash20:" + hash(2) + "6:scrapei1e", "get_peers"), BT_EV_DHT_QUERY},
        {"announce_peer",
         query("12:implied_porti1e9:info_hash20:" + hash(2) + "4:porti6881e5:token8:aoeusnth", "announce_peer"),
         BT_EV_DHT_QUERY},
        {"get (BEP 44)", query("6:target20:" + hash(2), "get"), BT_EV_DHT_QUERY},
        {"put (BEP 44)", query("5:token4:tokn1:v12:Hello World!", "put"), BT_EV_DHT_QUERY},
        {"sample_infohashes (BEP 51)", query("6:target20:" + hash(2), "sample_infohashes"), BT_EV_DHT_QUERY},
        {"reply", dht_reply(), BT_EV_DHT_RESPONSE},
        {"short reply", "d1:rd" + id + "e1:t1:a1:y1:re", BT_EV_DHT_RESPONSE},
        {"reply over IPv6",
         "d1:rd" + id + "6:nodes638:" + hash(2) + std::string("\x20\x01\x0d\xb8", 4) + hash(3).substr(0, 14) +
             "e1:t2:aa1:y1:re",
         BT_EV_DHT_RESPONSE},
        {"error", "d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee", BT_EV_DHT_ERROR},
    };
}

TEST(Dht, RecognisesEveryMessage) {
    for (const auto& p : dht_messages()) {
        const Finding f = one_datagram(p.datagram);
        EXPECT_TRUE(proves(f)) << p.name;
        EXPECT_TRUE(has(f, p.evidence)) << p.name;
        EXPECT_TRUE(f.host_evidence) << p.name;
    }
}

TEST(Dht, NothingCutOrLonger) {
    for (const auto& p : dht_messages()) {
        SCOPED_TRACE(p.name);
        check_truncations(p.datagram, p.datagram.size(), one_datagram);
        EXPECT_FALSE(proves(one_datagram(p.datagram + "x")));
    }
}

TEST(Dht, FlippedStructureProvesNothing) {
    // d1:ad2:id20:<20>e1:q4:ping1:t2:aa1:y1:qe: all but the id, and the two bytes of the transaction.
    const std::string& s = dht_ping;
    const std::size_t t = s.find("2:aa") + 2;
    check_bit_flips(s, one_datagram, [&](std::size_t i) {
        // A flip in "q" of the name's key or in "y" may spell another known key only by more than one bit.
        return !(i >= 12 && i < 32) && i != t && i != t + 1;
    });
    for (const auto& p : dht_messages())
        check_bit_flips(p.datagram, one_datagram, [](std::size_t) { return false; });
}

TEST(Dht, RefusesWrongParts) {
    const std::string id = "2:id20:" + hash(1);
    const std::vector<std::pair<const char*, std::string>> wrong{
        {"id of 19", "d1:ad2:id19:" + hash(1).substr(1) + "e1:q4:ping1:t2:aa1:y1:qe"},
        {"no id", "d1:ad1:x1:ye1:q4:ping1:t2:aa1:y1:qe"},
        {"no t", "d1:ad" + id + "e1:q4:ping1:y1:qe"},
        {"empty t", "d1:ad" + id + "e1:q4:ping1:t0:1:y1:qe"},
        {"t too long", "d1:ad" + id + "e1:q4:ping1:t21:" + std::string(21, 't') + "1:y1:qe"},
        {"unknown y", "d1:ad" + id + "e1:q4:ping1:t2:aa1:y1:xe"},
        {"get_peers without hash", "d1:ad" + id + "e1:q9:get_peers1:t2:aa1:y1:qe"},
        {"nodes not 26n", "d1:rd" + id + "5:nodes25:" + hash(1) + "12345e1:t2:aa1:y1:re"},
        {"values of 7 bytes", "d1:rd" + id + "6:valuesl7:1234567ee1:t2:aa1:y1:re"},
        {"reply without r", "d1:t2:aa1:y1:re"},
        {"error without list", "d1:ei201e1:t2:aa1:y1:ee"},
        {"error without code", "d1:el3:abc3:defe1:t2:aa1:y1:ee"},
        {"just d and e", "d" + std::string(60, 'a') + "e"},
        {"another dictionary", "d3:bar4:spam3:fooi42e7:padding20:aaaaaaaaaaaaaaaaaaaae"},
    };
    for (const auto& [name, datagram] : wrong)
        EXPECT_EQ(one_datagram(datagram).judgement, Judgement::none) << name;
    const Finding unknown = one_datagram("d1:ad" + id + "e1:q6:future1:t2:aa1:y1:qe");
    EXPECT_EQ(unknown.judgement, Judgement::weighs);
}

TEST(Dht, NamesPeersOnlyToWhoAsked) {
    Talk asked(IPPROTO_UDP);
    asked.client(dht_get_peers());
    EXPECT_TRUE(asked.inspector.named_peers().empty());
    ASSERT_TRUE(proves(asked.server(dht_reply())));
    const auto named = asked.inspector.named_peers();
    ASSERT_EQ(named.size(), 4u);
    EXPECT_EQ(named[0].port, 7000);
    EXPECT_EQ(named[0].proto, IPPROTO_TCP);
    EXPECT_EQ(named[0].addr.b[15], 8);
    EXPECT_EQ(named[2].port, 6881);
    EXPECT_EQ(named[2].proto, IPPROTO_UDP);
    EXPECT_EQ(named[2].addr.b[15], 4);

    Talk unasked(IPPROTO_UDP);
    EXPECT_TRUE(proves(unasked.server(dht_reply())));
    EXPECT_TRUE(unasked.inspector.named_peers().empty());
    EXPECT_EQ(unasked.inspector.claimed_peers().size(), 4u);
    EXPECT_TRUE(proves(unasked.server(dht_reply())));
    EXPECT_TRUE(unasked.inspector.named_peers().empty()) << "a second unasked reply earns no trust either";
}

TEST(Tracker, ConnectProves) {
    const std::string c = udp_connect(0x12345678);
    const Finding f = one_datagram(c);
    EXPECT_TRUE(proves(f) && has(f, BT_EV_TRACKER_UDP_CONNECT) && f.host_evidence);
    EXPECT_TRUE(proves(one_datagram(c + std::string(16, '\0')))) << "padding is allowed";
    check_truncations(c, 16, one_datagram);
    check_bit_flips(c, one_datagram, [](std::size_t i) { return i < 12; });
}

TEST(Tracker, AnnounceWithoutItsConnectNeedsEveryField) {
    const std::string a = udp_announce(77);
    ASSERT_EQ(a.size(), 98u);
    EXPECT_TRUE(has(one_datagram(a), BT_EV_TRACKER_UDP_ANNOUNCE));
    EXPECT_TRUE(proves(one_datagram(a + "\x02\x0b/announce?a" + std::string(1, '\0'))));
    check_truncations(a, 98, one_datagram);
    // action 8..12, the dashes and letters of the peer id's prefix, the upper bytes of the counters, event.
    check_bit_flips(a, one_datagram,
                    [](std::size_t i) { return (i >= 8 && i < 12) || i == 36 || (i >= 80 && i < 83); });
    std::string other = udp_announce(77, std::string(20, '\x80'));
    EXPECT_FALSE(proves(one_datagram(other))) << "no known peer id";
    other = a;
    other[96] = other[97] = 0;
    EXPECT_FALSE(proves(one_datagram(other))) << "port 0";
    other = a;
    other[83] = 4;
    EXPECT_FALSE(proves(one_datagram(other))) << "event 4";
    other = a;
    other[56] = 0x40;
    EXPECT_FALSE(proves(one_datagram(other))) << "4 EiB downloaded";
}

TEST(Tracker, PeerIds) {
    for (const char* id :
         {"-TR4050-abcdefghijkl", "-lt0D80-abcdefghijkl", "A2-1-36-0-abcdefghij", "M7-10-5--abcdefghijk",
          "T03I-----abcdefghijk", "S58B-----abcdefghijk", "-WW0200-abcdefghijkl", "-DE203s-abcdefghijkl"})
        EXPECT_TRUE(is_known_peer_id(bytes(id).data())) << id;
    for (const char* id :
         {"01234567890123456789", "--------------------", "HTTP/1.1 200 OK.....", "aaaaaaaaaaaaaaaaaaaa"})
        EXPECT_FALSE(is_known_peer_id(bytes(id).data())) << id;
}

TEST(Tracker, FollowsAConversation) {
    Talk t(IPPROTO_UDP);
    t.client(udp_connect(100));
    EXPECT_TRUE(has(t.server(u32(0) + u32(100) + u64(0xabcdef)), BT_EV_TRACKER_UDP_CONNECT));
    Finding f = t.client(udp_announce(101, std::string(20, '\x80'))); // any peer id will do now
    EXPECT_TRUE(has(f, BT_EV_TRACKER_UDP_ANNOUNCE));
    f = t.server(u32(1) + u32(101) + u32(1800) + u32(1) + u32(2) + compact(203, 0, 113, 1, 6881) +
                 compact(203, 0, 113, 2, 80));
    EXPECT_TRUE(has(f, BT_EV_TRACKER_UDP_ANNOUNCE));
    ASSERT_EQ(t.inspector.named_peers().size(), 2u);
    EXPECT_EQ(t.inspector.named_peers()[1].port, 80);
    f = t.client(u64(0xabcdef) + u32(2) + u32(102) + hash(1) + hash(2));
    EXPECT_TRUE(has(f, BT_EV_TRACKER_UDP_SCRAPE));
    f = t.server(u32(2) + u32(102) + u32(1) + u32(2) + u32(3) + u32(4) + u32(5) + u32(6));
    EXPECT_TRUE(has(f, BT_EV_TRACKER_UDP_SCRAPE));
}

TEST(Tracker, ResponsesNeedTheTransaction) {
    for (const std::string& s :
         {u32(0) + u32(100) + u64(1), u32(1) + u32(100) + u32(1800) + u32(0) + u32(0),
          u32(2) + u32(100) + u32(1) + u32(2) + u32(3), u32(3) + u32(100) + std::string("go away")}) {
        Talk none(IPPROTO_UDP);
        EXPECT_FALSE(proves(none.server(s)));
        Talk other(IPPROTO_UDP);
        other.client(udp_connect(99));
        EXPECT_FALSE(proves(other.server(s)));
    }
    Talk right(IPPROTO_UDP);
    right.client(udp_connect(100));
    EXPECT_TRUE(proves(right.server(u32(3) + u32(100) + std::string("go away"))));
}

TEST(Tracker, ScrapeAloneProvesNothing) {
    EXPECT_FALSE(proves(one_datagram(u64(0xabcdef) + u32(2) + u32(102) + hash(1))));
}

TEST(SocksUdp, UnwrapsEveryAddressForm) {
    const std::string v4h = std::string("\0\0\0\x01", 4) + "\xc6\x33\x64\x07" + u16(6881);
    const std::string v6h = std::string("\0\0\0\x04", 4) + std::string(16, '\x20') + u16(6881);
    const std::string name = std::string("\0\0\0\x03", 4) + u8(15) + "tracker.example" + u16(6969);
    for (const std::string& header : {v4h, v6h, name}) {
        for (const std::string& inner : {udp_connect(5), dht_ping, dht_reply(), udp_announce(9)}) {
            const Finding f = one_datagram(header + inner);
            EXPECT_TRUE(proves(f));
            EXPECT_TRUE(has(f, BT_EV_SOCKS_CONNECT));
            EXPECT_FALSE(f.host_evidence) << "the address is the proxy's";
        }
        check_truncations(header + dht_ping, header.size() + dht_ping.size(), one_datagram);
    }
    std::string fragment = v4h + dht_ping;
    fragment[2] = 1;
    EXPECT_FALSE(proves(one_datagram(fragment)));
    const std::string syn = std::string("\x41\0", 2) + u16(1234) + u32(99) + u32(0) + u32(1 << 20) + u16(1) + u16(0);
    const Finding f = one_datagram(v4h + syn);
    EXPECT_EQ(f.judgement, Judgement::weighs);
    EXPECT_TRUE(has(f, BT_EV_UTP_SYN));
}

TEST(SocksUdp, TrackerResponsesAreReadPlainlyFirst) {
    Talk t(IPPROTO_UDP);
    t.client(udp_connect(100));
    const Finding f = t.server(u32(1) + u32(100) + u32(1800) + u32(0) + u32(0));
    EXPECT_TRUE(has(f, BT_EV_TRACKER_UDP_CONNECT) || !proves(f)) << "a connect is not answered by an announce";
    t.client(udp_announce(101));
    const Finding g = t.server(u32(1) + u32(101) + u32(1800) + u32(0) + u32(1) + compact(203, 0, 113, 2, 80));
    EXPECT_TRUE(proves(g));
    EXPECT_FALSE(has(g, BT_EV_SOCKS_CONNECT));
    EXPECT_EQ(t.inspector.named_peers().size(), 1u);
}

TEST(Utp, HandshakeInADataPacketProves) {
    const std::string header = std::string("\x01\0", 2) + u16(7) + u32(1) + u32(2) + u32(1 << 20) + u16(2) + u16(1);
    const Finding f = one_datagram(header + handshake());
    EXPECT_TRUE(proves(f));
    EXPECT_TRUE(has(f, BT_EV_UTP_DATA));
    EXPECT_FALSE(proves(one_datagram("x" + header + handshake())));
}

TEST(Utp, AnExtendedMessageInADataPacketProves) {
    const std::string header = std::string("\x01\0", 2) + u16(7) + u32(1) + u32(2) + u32(1 << 20) + u16(2) + u16(1);
    for (const std::string& m : {extended(0, extension_dict), extended(1, pex())}) {
        const Finding f = one_datagram(header + m);
        EXPECT_TRUE(proves(f));
        EXPECT_TRUE(has(f, BT_EV_UTP_DATA) && has(f, BT_EV_TCP_EXTENSION));
        for (std::size_t cut = 0; cut < m.size(); ++cut)
            EXPECT_FALSE(proves(one_datagram(header + m.substr(0, cut)))) << cut;
    }
    EXPECT_FALSE(proves(one_datagram(header + message(4, u32(1))))) << "a message without structure";
}

TEST(Inspector, UdpFlowsIdleOut) {
    Talk t(IPPROTO_UDP);
    t.client(udp_connect(1));
    t.now += BT_UDP_IDLE_NS;
    EXPECT_TRUE(proves(t.client("anything"))) << "the rest of a proved flow";
    t.now += BT_UDP_IDLE_NS + 1;
    EXPECT_FALSE(proves(t.client("anything")));
    EXPECT_FALSE(proves(t.server(u32(0) + u32(1) + u64(5)))) << "the request is forgotten";
}

} // namespace
