// SPDX-License-Identifier: MIT
#include "detect/WebSocket.h"
#include "detect_build.h"

using namespace btblock::detect;
using namespace btblock::detect::build;

namespace {

const std::string upgrade =
    "GET / HTTP/1.1\r\nHost: t.example.org:8000\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

std::string frame(const std::string& text, unsigned first = 0x81, std::uint32_t mask = 0x9a3c7e51) {
    std::string f = u8(first);
    if (text.size() < 126)
        f += u8(0x80 | static_cast<unsigned>(text.size()));
    else if (text.size() < 65536)
        f += u8(0xfe) + u16(static_cast<unsigned>(text.size()));
    else
        f += u8(0xff) + u64(text.size());
    const std::string key = u32(mask);
    f += key;
    for (std::size_t i = 0; i < text.size(); ++i)
        f += static_cast<char>(text[i] ^ key[i % 4]);
    return f;
}

// 20 bytes as 20 characters of a JSON string, the way JavaScript writes them.
std::string json_binary(std::string_view bytes20) {
    std::string s;
    for (const char c : bytes20) {
        const auto b = static_cast<std::uint8_t>(c);
        if (b == '"' || b == '\\')
            s += '\\';
        if (b < 0x20) {
            char escaped[8];
            std::snprintf(escaped, sizeof escaped, "\\u%04x", b);
            s += escaped;
        } else if (b < 0x80) {
            s += c;
        } else {
            s += static_cast<char>(0xc0 | b >> 6);
            s += static_cast<char>(0x80 | (b & 0x3f));
        }
    }
    return s;
}

const std::string ih = R"("info_hash":")" + json_binary(hash(9)) + '"';
const std::string pid = R"("peer_id":"-WW0102-aBcD3fgHijkl")";
const std::string offers = R"("numwant":5,"offers":[{"offer":{"type":"offer","sdp":")" + std::string(3000, 's') +
                           R"("},"offer_id":"abcdefghij0123456789"}])";
const std::string announce = R"({"uploaded":0,"downloaded":0,"left":null,"event":"started","action":"announce",)" + ih +
                             "," + pid + "," + offers + "}";

Finding judged(std::string_view f) {
    return read_client_frame(bytes(f), true).finding;
}

TEST(WebSocket, TrackerRequestsProve) {
    const std::vector<std::pair<const char*, std::string>> requests{
        {"announce", frame(announce)},
        {"as binary", frame(announce, 0x82)},
        {"first of several frames", frame(announce, 0x01)},
        {"hash first", frame("{" + ih + R"(,"action":"announce"})")},
        {"stop", frame(R"({"event":"stopped","action":"announce",)" + ih + "," + pid + "}")},
        {"answer to an offer",
         frame(R"({"action":"announce",)" + ih + "," + pid +
               R"(,"to_peer_id":"-WW0102-aBcD3fgHijkm","answer":{"type":"answer","sdp":"v=0"}})")},
        {"two hashes without an action", frame("{" + ih + "," + pid + "," + offers + R"(,"action":"announce"})")},
        {"scrape", frame(R"({"action":"scrape",)" + ih + "}")},
        {"scrape of several", frame(R"({"action":"scrape","info_hash":[")" + json_binary(hash(1)) + "\",\"" +
                                    json_binary(hash(2)) + "\"]}")},
        {"escaped", frame(R"({"action":"announce","info_hash":")" + std::string(R"(\u00ff\u0000)") +
                          std::string(18, 'a') + "\"}")},
        {"white space", frame("{ \"action\" : \"announce\",\n" + ih + "}")},
        {"more than 64 KiB", frame(R"({"action":"announce",)" + ih + ",\"x\":\"" + std::string(70000, 'x') + "\"}")},
    };
    for (const auto& [name, f] : requests) {
        EXPECT_TRUE(proves(judged(f)) && has(judged(f), BT_EV_TRACKER_HTTP)) << name;
        EXPECT_EQ(read_client_frame(bytes(f), true).length, f.size()) << name;
    }
}

TEST(WebSocket, OtherMessagesDoNot) {
    const std::vector<std::pair<const char*, std::string>> messages{
        {"chat", frame(R"({"type":"message","text":"info_hash"})")},
        {"a torrent program's own page",
         frame(R"({"action":"announce","info_hash":"aabbccddeeff00112233445566778899aabbccdd"})")},
        {"a hash of wide characters",
         frame(R"({"action":"announce","info_hash":")" + std::string(R"(\u0416)") + std::string(19, 'a') + "\"}")},
        {"another action", frame(R"({"action":"publish",)" + ih + "}")},
        {"inside another object", frame(R"({"data":{"action":"announce",)" + ih + "," + pid + "}}")},
        {"an array", frame("[" + announce + "]")},
        {"no object", frame("info_hash")},
        {"broken", frame(R"({"action":announce,)" + ih + "}")},
        {"a control frame", frame(announce, 0x89)},
        {"compressed", frame(announce, 0xc1)},
        {"a server's frame", "\x81\x7e" + u16(static_cast<unsigned>(announce.size())) + announce},
        {"absurd length", u8(0x81) + u8(0xff) + u64(1ull << 40) + std::string(100, 'x')},
    };
    for (const auto& [name, f] : messages)
        EXPECT_EQ(judged(f).judgement, Judgement::none) << name;
}

TEST(WebSocket, AfterItsUpgrade) {
    for (const bool numbered : {true, false}) {
        Talk t(IPPROTO_TCP);
        t.numbered = numbered;
        EXPECT_EQ(t.client(upgrade).judgement, Judgement::none);
        t.server("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
        EXPECT_EQ(t.client(frame(R"({"type":"hello"})")).judgement, Judgement::none);
        const std::string f = frame(announce);
        EXPECT_TRUE(proves(t.client(f.substr(0, 1400)))) << "the first of several segments";
    }
    Talk together(IPPROTO_TCP);
    EXPECT_TRUE(proves(together.client(upgrade + frame("{}") + frame(announce))));
    Talk proxied(IPPROTO_TCP);
    proxied.client("CONNECT t.example.org:8000 HTTP/1.1\r\n\r\n");
    proxied.client(upgrade);
    EXPECT_TRUE(proves(proxied.client(frame(announce))));
    Talk middle(IPPROTO_TCP);
    EXPECT_TRUE(proves(middle.client(frame(announce)))) << "its request was not seen";
}

TEST(WebSocket, EverySplit) {
    const std::string f = frame(R"({"action":"announce",)" + ih + "," + pid + "}");
    ASSERT_LT(f.size(), Assembly::room);
    for (std::size_t cut = 1; cut < f.size(); ++cut) {
        Talk t(IPPROTO_TCP);
        t.client(upgrade);
        t.client(f.substr(0, cut));
        EXPECT_TRUE(has(t.client(f.substr(cut)), BT_EV_TRACKER_HTTP) || cut < 2) << cut;
    }
    const std::size_t needed = f.size() - pid.size() - 2;
    check_truncations(f, needed, judged);
}

} // namespace
