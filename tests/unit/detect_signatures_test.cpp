// SPDX-License-Identifier: MIT
// The table of words and clients, and what a hit changes: it weighs, where the protocol places it, and nowhere else.
#include "detect/Http.h"
#include "detect/Signatures.h"
#include "detect/Tracker.h"
#include "detect_build.h"

#include <set>

namespace btblock::detect {
namespace {

using namespace build;

constexpr std::uint32_t signature = BT_EV_BIT(BT_EV_SIGNATURE);

TEST(Signatures, AreManyEachWithASourceAndFound) {
    EXPECT_GE(signatures().size(), 95u);
    std::set<std::pair<Place, std::string_view>> all;
    for (const Signature& s : signatures()) {
        SCOPED_TRACE(s.text);
        EXPECT_FALSE(s.text.empty());
        EXPECT_FALSE(s.source.empty());
        EXPECT_TRUE(all.emplace(s.place, s.text).second) << "twice";
        EXPECT_TRUE(is_signature(s.place, s.text));
        EXPECT_FALSE(is_signature(s.place, std::string(s.text) + "x"));
        EXPECT_FALSE(is_signature(s.place, s.text.substr(0, s.text.size() - 1)) &&
                     !all.contains({s.place, s.text.substr(0, s.text.size() - 1)}));
    }
    EXPECT_FALSE(is_signature(Place::agent, "ut_pex")) << "another place";
    EXPECT_FALSE(is_signature(Place::reply_key, ""));
}

TEST(Signatures, ClientIds) {
    EXPECT_GE(client_ids().size(), 60u);
    std::set<std::pair<IdStyle, std::string_view>> all;
    for (const ClientId& id : client_ids()) {
        SCOPED_TRACE(id.code);
        EXPECT_FALSE(id.client.empty());
        EXPECT_FALSE(id.source.empty());
        EXPECT_TRUE(all.emplace(id.style, id.code).second) << "twice";
        std::string peer(id.code);
        switch (id.style) {
        case IdStyle::azureus: peer = "-" + peer + "1234-"; break;
        case IdStyle::mainline: peer += "7-2-1--"; break;
        case IdStyle::shadow: peer += "58B-----"; break;
        case IdStyle::custom: EXPECT_GE(id.code.size(), 4u) << "anything begins so"; break;
        }
        peer.resize(20, 'x');
        EXPECT_EQ(client_of(bytes(peer).data()), id.client);
        EXPECT_TRUE(is_known_peer_id(bytes(peer).data()));
    }
    for (const char* other : {"-??1234-xxxxxxxxxxxx", "Message of the day: ", "GET /announce HTTP/1",
                              "--------------------", "M7 is a motorway....", "AZ1234-xxxxxxxxxxxxx"})
        EXPECT_EQ(client_of(bytes(other).data()), "") << other;
    EXPECT_EQ(client_of(bytes(peer_id).data()), "qBittorrent");
}

TEST(Signatures, NoClientIsNamedByChance) {
    std::mt19937_64 rng(1);
    unsigned named = 0;
    for (unsigned i = 0; i < 1'000'000; ++i)
        named += !client_of(bytes(random_bytes(rng, 20)).data()).empty();
    EXPECT_LE(named, 10u);
}

// ---------------------------------------------------------------- requests

Finding request_for(const std::string& target, const std::string& fields = "") {
    const std::string text = "GET " + target + " HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n";
    return read_http_request(bytes(text), true).finding;
}

TEST(Signatures, WhatWeighsInARequest) {
    for (const Finding& f :
         {request_for("/files/debian-12.iso.torrent"),
          request_for("/dl?id=7", "Accept: Application/X-BitTorrent;q=1\r\n"),
          request_for("/dl?id=7", "Accept: text/html, application/x-bittorrent\r\n"),
          request_for("/a/announce?peer_id=x&numwant=50"), request_for("/t?uploaded=1&downloaded=2&numwant=3"),
          request_for("/announce.php?info_hash=short&peer_id=y")}) {
        EXPECT_EQ(f.judgement, Judgement::weighs);
        EXPECT_EQ(f.evidence, signature);
        EXPECT_FALSE(f.host_evidence);
    }
}

TEST(Signatures, ATextAboutBitTorrentIsNone) {
    for (const std::string target :
         {"/wiki/BitTorrent", "/search?q=debian.torrent", "/search?q=info_hash+peer_id+uploaded+left", "/announce?id=4",
          "/blog/announce?event=party&left=2", "/t?left=1&left=2&left=3&event=4", "/torrent", "/x.torrents",
          "/torrent.html", "/info_hash/peer_id/uploaded", "/?", "/a?info_hash&peer_id&numwant"})
        EXPECT_EQ(request_for(target, "Accept: text/html\r\nReferer: http://t/application/x-bittorrent\r\n").judgement,
                  Judgement::none)
            << target;
    EXPECT_EQ(request_for("/", "X-Note: application/x-bittorrent\r\n").judgement, Judgement::none);
    EXPECT_EQ(request_for("/", "Accept: application/x-bittorrent-client\r\n").judgement, Judgement::none);
    // beyond the first 512 bytes
    EXPECT_EQ(request_for("/t?a=" + std::string(600, 'a') + "&uploaded=1&downloaded=2&numwant=3").judgement,
              Judgement::none);
}

// Not even by a client that names itself: fetching a torrent file is no transfer.
TEST(Signatures, NeverProve) {
    const Finding f = request_for("/files/a.torrent", "User-Agent: qBittorrent/4.5.2\r\n");
    EXPECT_EQ(f.judgement, Judgement::weighs);
    EXPECT_EQ(f.evidence, signature | BT_EV_BIT(BT_EV_CLIENT_AGENT));
    // And what proves without them is no more than it was.
    const Finding announce =
        request_for("/announce?info_hash=" + escape(hash(1)) + "&port=1&uploaded=0&left=0&compact=1");
    EXPECT_EQ(announce.judgement, Judgement::proves);
    EXPECT_EQ(announce.evidence, BT_EV_BIT(BT_EV_TRACKER_HTTP));
}

TEST(Signatures, Agents) {
    for (const char* yes : {"qBittorrent/4.5.2", "QBITTORRENT", "anacrolix-torrent/1.5", "Enhanced-CTorrent/dnh3.3",
                            "\xc2\xb5Torrent/1", "FDM 3.x", "Transmission-gtk", "uTorrentMac/1870(42417)"})
        EXPECT_TRUE(is_client_agent(yes)) << yes;
    for (const char* no :
         {"anacrolix", "Enhanced", "Mozilla/5.0 qBittorrent/4", "Opera/9", "/qBittorrent", "qBittorrent4"})
        EXPECT_FALSE(is_client_agent(no)) << no;
}

// ---------------------------------------------------------------- answers

TEST(Signatures, ATorrentFileAsAnAnswer) {
    EndpointSink nowhere;
    const auto judged = [&](const std::string& body) {
        return read_tracker_reply(bytes(body), false, true, nowhere).finding;
    };
    Finding f =
        judged("d8:announce30:http://tracker.example/announc7:comment2:hi10:created by3:abc4:infod6:lengthi5eee");
    EXPECT_EQ(f.judgement, Judgement::weighs);
    EXPECT_EQ(f.evidence, signature);
    f = judged("d14:failure reason3:bad8:retry in5:nevere");
    EXPECT_EQ(f.judgement, Judgement::weighs);
    EXPECT_EQ(f.evidence, signature | BT_EV_BIT(BT_EV_TRACKER_HTTP));
    EXPECT_EQ(judged("d4:infod6:lengthi5eee").judgement, Judgement::none) << "one key is a word";
    EXPECT_EQ(judged("d3:bar4:spam3:fooi42ee").judgement, Judgement::none);
}

TEST(Signatures, AnAnswerSaysWhatItIs) {
    const std::string head = "HTTP/1.1 200 OK\r\nContent-Type: ";
    EXPECT_TRUE(read_http_response(bytes(head + "application/x-bittorrent; name=a\r\n\r\n")).torrent);
    EXPECT_FALSE(read_http_response(bytes(head + "text/html\r\n\r\n")).torrent);
}

} // namespace
} // namespace btblock::detect
