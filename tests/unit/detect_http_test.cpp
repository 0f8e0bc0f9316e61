// SPDX-License-Identifier: MIT
#include "detect/Http.h"
#include "detect_build.h"

#include <algorithm>

using namespace btblock::detect;
using namespace btblock::detect::build;

namespace {

std::string get(const std::string& target, const std::string& fields = "Host: example.org\r\n") {
    return "GET " + target + " HTTP/1.1\r\n" + fields + "\r\n";
}

const std::string ih = escape(hash(9));

TEST(Http, TrackerRequestsProve) {
    const std::string pid = escape(peer_id);
    const std::vector<std::pair<const char*, std::string>> requests{
        {"announce", announce_request()},
        {"lower-case escapes", announce_request(false)},
        {"any path", get("/x/passkey123/a.php?peer_id=" + pid + "&info_hash=" + ih + "&port=1")},
        {"without peer_id", get("/announce?info_hash=" + ih + "&port=6881&left=0")},
        {"without port", get("/announce?info_hash=" + ih + "&peer_id=" + pid)},
        {"absolute URI", get("http://tracker.example.org:6969/announce?info_hash=" + ih + "&port=6881")},
        {"BEP 7", get("/announce?info_hash=" + ih + "&port=6881&ipv6=%5B2001%3Adb8%3A%3A1%5D%3A6881")},
        {"raw bytes",
         get("/announce?info_hash=\x80\x91 \xff" +
             std::string("\x01\x02\x03\x04\x05\x06\x07\x08\x90\xa1\xb2\xc3\xd4\xe5\xf6\x7f") + "&port=6881")},
        {"HTTP/1.0", "GET /announce?info_hash=" + ih + "&port=6881 HTTP/1.0\r\n\r\n"},
        {"scrape", get("/scrape?info_hash=" + ih)},
        {"scrape of several", get("/scrape.php?info_hash=" + ih + "&info_hash=" + escape(hash(10)))},
        {"scrape under another name", get("/q?info_hash=" + ih)},
        {"letters only", get("/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=-TR3000-abcdefghijkl&port=51413")},
    };
    for (const auto& [name, r] : requests) {
        const Finding f = one_segment(r);
        EXPECT_TRUE(proves(f) && has(f, BT_EV_TRACKER_HTTP)) << name;
        EXPECT_FALSE(f.host_evidence) << name;
    }
}

TEST(Http, OtherRequestsDoNot) {
    const std::vector<std::pair<const char*, std::string>> requests{
        {"no query", get("/announce")},
        {"hex hash", get("/search?info_hash=0123456789abcdef0123456789abcdef01234567&port=1")},
        {"19 bytes", get("/announce?info_hash=" + escape(hash(9).substr(1)) + "&port=6881")},
        {"21 bytes", get("/announce?info_hash=" + escape(hash(9) + "x") + "&port=6881")},
        {"broken escape", get("/announce?info_hash=%4g1234567890123456789&port=6881")},
        {"another name", get("/announce?xinfo_hash=" + ih + "&port=6881")},
        {"in the referrer", get("/", "Host: a\r\nReferer: http://t/announce?info_hash=" + ih + "&port=6881\r\n")},
        {"in a body", "POST /paste HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n" + announce_request()},
        {"torrent file", get("/files/debian.iso.torrent")},
        {"no version", "GET /announce?info_hash=" + ih + "&port=6881\r\n\r\n"},
        {"mail", "MAIL FROM:<a@b>\r\nBitTorrent protocol GET /announce?info_hash=" + ih + "&port=6881 HTTP/1.1\r\n"},
        {"Gnutella", "GNUTELLA CONNECT/0.6\r\nUser-Agent: Shareaza 2.7\r\n\r\n"},
    };
    for (const auto& [name, r] : requests)
        EXPECT_FALSE(proves(one_segment(r))) << name;
    EXPECT_EQ(one_segment("GNUTELLA CONNECT/0.6\r\nUser-Agent: Shareaza 2.7\r\n\r\n").judgement, Judgement::clean);
    EXPECT_EQ(one_segment(get("/api?info_hash=abcdefghijklmnopqrst")).judgement, Judgement::weighs);
}

TEST(Http, EverySplitOfARequest) {
    const std::string r = announce_request();
    ASSERT_LT(r.size(), Assembly::room);
    const std::size_t needed = r.find("&port=51413&"); // the parameter counts when it has ended; peer_id comes before
    for (const bool numbered : {true, false})
        for (std::size_t cut = 1; cut < r.size(); ++cut) {
            Talk t(IPPROTO_TCP);
            t.numbered = numbered;
            const Finding first = t.client(r.substr(0, cut));
            EXPECT_FALSE(cut < needed && first.judgement != Judgement::none) << cut;
            EXPECT_TRUE(has(t.client(r.substr(cut)), BT_EV_TRACKER_HTTP)) << cut;
        }
    Talk bytewise(IPPROTO_TCP);
    Finding f;
    for (const char c : r)
        f = bytewise.client(std::string(1, c));
    EXPECT_TRUE(proves(f));
    check_truncations(r, needed, one_segment);
    check_bit_flips(r, one_segment, [](std::size_t i) { return i < 4; });
}

TEST(Http, LongRequests) {
    const std::string cookie = "Cookie: " + std::string(3000, 'c') + "\r\n";
    EXPECT_TRUE(
        proves(one_segment(get("/announce?key=" + std::string(800, 'k') + "&info_hash=" + ih + "&port=1", cookie))));
    Talk t(IPPROTO_TCP);
    const std::string r = get("/announce?info_hash=" + ih + "&port=1&x=" + std::string(600, 'x'), cookie);
    t.client(r.substr(0, 30));
    EXPECT_TRUE(proves(t.client(r.substr(30))));
}

// What came of a request whose segments end at `cuts`.
Finding in_segments(const std::string& r, const std::vector<std::size_t>& cuts, bool numbered = true) {
    Talk t(IPPROTO_TCP);
    t.numbered = numbered;
    Finding f;
    std::size_t from = 0;
    for (const std::size_t cut : cuts) {
        f = t.client(std::string_view(r).substr(from, cut - from));
        from = cut;
    }
    return t.client(std::string_view(r).substr(from));
}

void expect_same_in_segments(const std::string& r, const char* name, unsigned seed) {
    const Finding whole = one_segment(r);
    const auto same = [&](const std::vector<std::size_t>& cuts, bool numbered = true) {
        const Finding f = in_segments(r, cuts, numbered);
        EXPECT_EQ(f.judgement, whole.judgement) << name << ", cut at " << testing::PrintToString(cuts);
        EXPECT_EQ(f.evidence, whole.evidence) << name << ", cut at " << testing::PrintToString(cuts);
    };
    for (std::size_t cut = 1; cut < r.size(); ++cut)
        same({cut}, cut % 2);
    std::mt19937_64 rng(seed);
    for (int round = 0; round < 300; ++round) {
        std::vector<std::size_t> cuts(2 + rng() % 4);
        for (std::size_t& cut : cuts)
            cut = 1 + rng() % (r.size() - 1);
        std::sort(cuts.begin(), cuts.end());
        cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
        same(cuts, round % 2);
    }
    for (const std::size_t length : {1, 7, 100, 511, 512, 513}) {
        std::vector<std::size_t> cuts;
        for (std::size_t cut = length; cut < r.size(); cut += length)
            cuts.push_back(cut);
        same(cuts);
    }
}

// Other parameters of `bytes` bytes in all, some of them longer than what is kept of a stream.
std::string others(std::mt19937_64& rng, std::size_t bytes) {
    std::string s;
    while (s.size() < bytes) {
        const std::size_t value = rng() % 4 == 0 ? rng() % 900 : rng() % 30;
        s += "x" + std::to_string(rng() % 1000) + (rng() % 8 ? "=" : "") + std::string(value, 'a') + "&";
    }
    return s;
}

TEST(Http, LongRequestsInSegments) {
    std::mt19937_64 rng(11);
    for (unsigned round = 0; round < 12; ++round) {
        std::vector<std::string> own{"info_hash=" + ih, "peer_id=" + escape(peer_id), "port=6881"};
        std::shuffle(own.begin(), own.end(), rng);
        std::string target = round % 2 ? "/announce?" : "/" + std::string(rng() % 1200, 'p') + "/a?";
        for (const std::string& parameter : own)
            target += others(rng, (700 + rng() % 2300) / 4) + parameter + "&";
        target += others(rng, rng() % 700);
        target.pop_back();
        const std::string r = get(target);
        ASSERT_TRUE(proves(one_segment(r)));
        expect_same_in_segments(r, "announce", round);
        std::string wrong = r;
        wrong.replace(wrong.find(ih), ih.size(), "0123456789abcdef0123456789abcdef01234567");
        ASSERT_FALSE(proves(one_segment(wrong)));
        expect_same_in_segments(wrong, "look-alike", round);
    }
}

TEST(Http, LongRequestsOfOtherKindsInSegments) {
    const std::string x = "x=" + std::string(300, 'a'), xx = "x=" + std::string(1500, 'a');
    const std::string path = "/" + std::string(700, 'p');
    const std::vector<std::pair<const char*, std::string>> requests{
        {"scrape", get(path + "/scrape" + path + "?" + xx + "&info_hash=" + ih + "&" + x + "&" + x)},
        {"scrape, hash last", get("/scrape?" + xx + "&" + x + "&info_hash=" + ih)},
        {"hash that is no word", get("/q?" + xx + "&info_hash=" + ih + "&" + xx)},
        {"hash that may be a word", get("/q?" + xx + "&info_hash=abcdefghijklmnopqrst&" + xx)},
        {"BEP 17", get("/s?" + x + "&" + x + "&info_hash=" + ih + "&" + x + "&piece=12&ranges=0-16383&" + x)},
        {"two hashes and a piece", get("/s?info_hash=aaaaaaaaaaaaaaaaaaaa&" + xx + "&info_hash=aaaaaaaaaaaaaaaaaaaa&" +
                                       x + "&" + x + "&piece=12")},
        {"a wrong hash first", get("/s?info_hash=abc&" + xx + "&info_hash=" + ih + "&port=1&" + x)},
        {"an over-long hash", get("/s?info_hash=" + ih + std::string(700, 'a') + "&port=1&" + x)},
        {"BitComet", get(path + "/data?" + xx + "&fid=5b56&" + x + "&size=1048576&" + x)},
        {"torrent file", get(path + "/debian.iso.torrent?" + xx)},
        {"torrent file without query", get(path + path + "/debian.iso.torrent")},
        {"no torrent file", get(path + ".torrent" + path)},
        {"words", get("/announce.php?uploaded=1&" + x + "&downloaded=1&" + xx + "&numwant=1")},
        {"words too far apart", get("/announce.php?uploaded=1&" + xx + "&downloaded=1&numwant=1")},
        {"spaces", get("/a b?x=c d HTTP/1.1 e&" + xx + " HTTP/1.1 f&" + x + "&info_hash=" + ih + "&port=1")},
        {"a long value last", get("/a?info_hash=" + ih + "&peer_id=" + xx)},
        {"a long fid last", get("/data?size=1&" + xx + "&fid=" + std::string(600, 'a'))},
        {"the same names as values", get("/a?x=" + std::string(700, 'a') + "info_hash=" + ih + "&y=&port=1")},
        {"in the referrer",
         get("/?" + xx, "Host: a\r\nReferer: http://t/announce?info_hash=" + ih + "&port=6881&x=1\r\n")},
        {"pages", get("/search?" + xx + "&" + xx)},
    };
    for (const auto& [name, r] : requests)
        expect_same_in_segments(r, name, 1);
    EXPECT_TRUE(proves(one_segment(requests[0].second)));
    EXPECT_EQ(one_segment(requests[10].second).judgement, Judgement::weighs);
}

TEST(Http, LongRequestsAreLeftInTheEnd) {
    const std::string own = "info_hash=" + ih + "&port=1&", other = "x=" + std::string(98, 'a') + "&";
    for (const auto& [before, proved] : {std::pair{300u, true}, {340u, false}}) {
        Talk t(IPPROTO_TCP);
        t.client("GET /announce?");
        for (unsigned i = 0; i < before; ++i)
            EXPECT_EQ(t.client(other).judgement, Judgement::none);
        t.client(own);
        EXPECT_EQ(proves(t.client("y=1 HTTP/1.1\r\n\r\n")), proved) << before;
        EXPECT_TRUE(proves(t.client(announce_request()))) << "the next one is a request like any other";
    }
}

TEST(Http, NothingFollowsAGapInALongRequest) {
    const std::string x = "x=" + std::string(700, 'a') + "&";
    Talk t(IPPROTO_TCP);
    t.client("GET /announce?" + x);
    t.client_at(5000, "Referer: http://t/announce?info_hash=" + ih + "&port=1&" + x);
    EXPECT_FALSE(proves(t.client_at(7000, "info_hash=" + ih + "&port=1& HTTP/1.1\r\n\r\n")));
    EXPECT_TRUE(proves(t.client_at(9000, announce_request())));
    Talk again(IPPROTO_TCP);
    const std::string first = "GET /announce?" + x, second = "info_hash=" + ih + "&peer_i",
                      third = "d=1&port=1 HTTP/1.1\r\n\r\n";
    const auto at = [&](std::size_t n) { return static_cast<std::uint32_t>(n); };
    again.client_at(0, first);
    again.client_at(0, first); // sent again
    again.client_at(at(first.size() + second.size()), third);
    EXPECT_TRUE(proves(again.client_at(at(first.size()), second))) << "a segment that was overtaken";
}

TEST(Http, KeepAliveJudgesEveryRequest) {
    for (const bool numbered : {true, false}) {
        Talk t(IPPROTO_TCP);
        t.numbered = numbered;
        EXPECT_EQ(t.client(get("/index.html")).judgement, Judgement::none);
        EXPECT_EQ(t.client(get("/a?b=c")).judgement, Judgement::none);
        EXPECT_EQ(t.client("POST /x HTTP/1.1\r\nContent-Length: 10\r\n\r\n0123456789").judgement, Judgement::none);
        EXPECT_TRUE(proves(t.client(announce_request()))) << numbered;
    }
    Talk unfinished(IPPROTO_TCP);
    unfinished.client("GET /long HTTP/1.1\r\nCookie: " + std::string(100, 'c')); // its end never comes past
    EXPECT_TRUE(proves(unfinished.client_at(5000, announce_request())));
    Talk pipelined(IPPROTO_TCP);
    EXPECT_TRUE(proves(pipelined.client(get("/1") + get("/2") + announce_request())));
    Talk split(IPPROTO_TCP);
    split.client(get("/1"));
    split.client("GET /announce?info_ha");
    EXPECT_TRUE(proves(split.client(announce_request().substr(21))));
    Talk body(IPPROTO_TCP);
    body.client("POST /x HTTP/1.1\r\nContent-Length: 100000\r\n\r\n");
    EXPECT_FALSE(proves(body.client(announce_request()))) << "part of what is posted";
}

TEST(Http, WebSeedsAndAgents) {
    Finding f = one_segment(get("/seed?info_hash=" + ih + "&piece=12&ranges=0-16383"));
    EXPECT_TRUE(proves(f) && has(f, BT_EV_WEBSEED_HTTP) && !f.host_evidence);
    const std::string agent = "Host: a\r\nUser-Agent: qBittorrent/4.5.2\r\n";
    f = one_segment(get("/debian.iso", agent + "Range: bytes=0-16383\r\n"));
    EXPECT_TRUE(proves(f) && !f.host_evidence);
    EXPECT_TRUE(has(f, BT_EV_WEBSEED_HTTP) && has(f, BT_EV_CLIENT_AGENT));
    for (const std::string range : {"bytes=500-", "bytes=-500", "bytes=9-3", "lines=1-2", ""})
        EXPECT_EQ(one_segment(get("/debian.iso", agent + "Range: " + range + "\r\n")).judgement, Judgement::weighs)
            << range;
    for (const char* other : {"curl/7.88.1", "aria2/1.36.0", "Mozilla/5.0", "TransmissionRemote/1", "BitComet/2.0"})
        EXPECT_FALSE(proves(
            one_segment(get("/debian.iso", std::string("User-Agent: ") + other + "\r\nRange: bytes=0-16383\r\n"))))
            << other;
    f = one_segment(get("/rss.xml", agent));
    EXPECT_EQ(f.judgement, Judgement::weighs);
    EXPECT_FALSE(has(f, BT_EV_WEBSEED_HTTP));
    EXPECT_EQ(one_segment(get("/data?fid=5b56&size=1048576")).judgement, Judgement::weighs);
    EXPECT_TRUE(proves(one_segment(get("/data?fid=5b56&size=1048576", "User-Agent: BitComet/1.95\r\n"))));
    EXPECT_EQ(one_segment(get("/a.iso", "User-Agent: Wget/1.21\r\nRange: bytes=0-\r\n")).judgement, Judgement::none);
    for (const char* yes :
         {"Transmission/3.00", "uTorrent/355(111)", "libtorrent/2.0.8.0", "Azureus 5.7.6", "rtorrent/0.9.8"})
        EXPECT_TRUE(is_client_agent(yes)) << yes;
    for (const char* no : {"TransmissionRemote", "aria2/1.36.0", "Mozilla/5.0 (BitTorrent)", "curl/8", "", "Delugea/1"})
        EXPECT_FALSE(is_client_agent(no)) << no;
}

const std::string reply = "d8:completei5e10:incompletei3e8:intervali1800e5:peers12:" + compact(203, 0, 113, 1, 6881) +
                          compact(203, 0, 113, 2, 6882) + "6:peers60:e";

std::string ok(const std::string& body, const std::string& fields = "Content-Type: text/plain\r\n") {
    return "HTTP/1.1 200 OK\r\n" + fields + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

TEST(Http, TrackerRepliesProve) {
    Talk t(IPPROTO_TCP);
    const Finding f = t.server(ok(reply));
    EXPECT_TRUE(proves(f) && has(f, BT_EV_TRACKER_HTTP) && !f.host_evidence);
    EXPECT_TRUE(t.inspector.named_peers().empty()) << "nobody asked";
    EXPECT_EQ(t.inspector.claimed_peers().size(), 2u);
    Talk asked(IPPROTO_TCP);
    asked.client(announce_request());
    asked.server(ok(reply));
    ASSERT_EQ(asked.inspector.named_peers().size(), 2u);
    EXPECT_EQ(asked.inspector.named_peers()[0].port, 6881);

    const std::string dicts = "d8:intervali900e5:peersld2:ip12:198.51.100.97:peer id20:" + hash(1) +
                              "4:porti6999eed2:ip11:2001:db8::14:porti7000eeee";
    Talk listed(IPPROTO_TCP);
    listed.client(announce_request());
    EXPECT_TRUE(proves(listed.server(ok(dicts))));
    ASSERT_EQ(listed.inspector.named_peers().size(), 2u);
    EXPECT_EQ(listed.inspector.named_peers()[0].port, 6999);

    const std::string scrape = "d5:filesd20:" + hash(2) + "d8:completei1e10:downloadedi2e10:incompletei3eeee";
    EXPECT_TRUE(proves(Talk(IPPROTO_TCP).server(ok(scrape))));
    EXPECT_TRUE(
        proves(Talk(IPPROTO_TCP)
                   .server("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n55\r\n" + reply + "\r\n0\r\n\r\n")));
    EXPECT_TRUE(proves(Talk(IPPROTO_TCP).server("HTTP/1.0 200 OK\r\n\r\n" + reply))) << "no header fields at all";
    const std::string failure = "d14:failure reason20:unregistered torrente";
    EXPECT_EQ(Talk(IPPROTO_TCP).server(ok(failure)).judgement, Judgement::weighs);
}

TEST(Http, EverySplitOfAReply) {
    const std::string r = ok(reply);
    for (std::size_t cut = 1; cut < r.size(); ++cut) {
        Talk t(IPPROTO_TCP);
        t.client(announce_request());
        t.server(r.substr(0, cut));
        EXPECT_TRUE(proves(t.server(r.substr(cut)))) << cut;
    }
    for (std::size_t n = 0; n < r.size(); ++n)
        Talk(IPPROTO_TCP).server(r.substr(0, n));
}

TEST(Http, LongPeerListsAreJudgedByTheirStart) {
    std::string peers;
    for (unsigned i = 0; i < 300; ++i)
        peers += compact(203, 0, 113, i % 250 + 1, 1000 + i);
    const std::string r = ok("d8:intervali1800e5:peers" + str(peers) + "e");
    Talk t(IPPROTO_TCP);
    t.client(announce_request());
    EXPECT_TRUE(proves(t.server(r.substr(0, 1000))));
    EXPECT_GT(t.inspector.named_peers().size(), 100u);
    Talk all(IPPROTO_TCP);
    all.client(announce_request());
    EXPECT_TRUE(proves(all.server(r)));
    EXPECT_EQ(all.inspector.named_peers().size(), 256u) << "as many as there is room for";
}

TEST(Http, OtherRepliesDoNot) {
    const std::string torrent =
        "d8:announce30:http://tracker.example.org/ann4:infod6:lengthi1e4:name1:a12:piece lengthi16384e6:pieces20:" +
        hash(1) + "ee";
    for (const std::string& body :
         {torrent, std::string("d8:intervali1800ee"), std::string("d8:intervali1800e5:peers5:12345e"),
          std::string("<html>BitTorrent protocol d8:intervali1800e5:peers0:e</html>"), handshake(), announce_request(),
          std::string("de")})
        EXPECT_FALSE(proves(Talk(IPPROTO_TCP).server(ok(body))));
    Talk page(IPPROTO_TCP);
    page.server(ok(std::string(100, ' ')));
    EXPECT_FALSE(proves(page.server(handshake()))) << "a page about it";
    EXPECT_FALSE(proves(page.server(announce_request())));
}

TEST(Http, ConnectOpensAnInnerStream) {
    const std::string connect = "CONNECT 198.51.100.7:6881 HTTP/1.1\r\nHost: 198.51.100.7:6881\r\n\r\n";
    Talk t(IPPROTO_TCP, 3128);
    EXPECT_EQ(t.client(connect).judgement, Judgement::none);
    const Finding f = t.client(handshake());
    EXPECT_TRUE(proves(f) && has(f, BT_EV_TCP_HANDSHAKE));
    EXPECT_FALSE(f.host_evidence) << "the proxy serves others too";
    const std::string both = connect + handshake();
    for (std::size_t cut = 1; cut < both.size(); ++cut) {
        Talk s(IPPROTO_TCP, 3128);
        s.client(both.substr(0, cut));
        EXPECT_TRUE(proves(s.client(both.substr(cut)))) << cut;
    }
    Talk answer(IPPROTO_TCP, 3128);
    answer.server("HTTP/1.1 200 Connection established\r\n\r\n");
    EXPECT_TRUE(proves(answer.server(handshake())));
    Talk tls(IPPROTO_TCP, 3128);
    tls.client(connect);
    const std::string hello("\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 11);
    EXPECT_EQ(tls.client(hello).judgement, Judgement::none) << "its name is to come";
    EXPECT_EQ(tls.client(std::string(505, '\0')).judgement, Judgement::clean);
    Talk again(IPPROTO_TCP, 3128);
    again.client(connect); // 407
    again.client("CONNECT 198.51.100.7:6881 HTTP/1.1\r\nProxy-Authorization: Basic YTpi\r\n\r\n");
    EXPECT_TRUE(proves(again.client(handshake())));
}

} // namespace
