// SPDX-License-Identifier: MIT
#include "detect/WebSocket.h"
#include "detect_build.h"

#include <array>
#include <zlib.h>

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

WebSocketFrame read_frame(std::string_view f, bool all = true) {
    static Inflater inflater; // one for all, as in the inspector
    return read_client_frame(bytes(f), all, inflater);
}

Finding judged(std::string_view f) {
    return read_frame(f).finding;
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
        EXPECT_EQ(read_frame(f).length, f.size()) << name;
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
        {"said to be compressed", frame(announce, 0xc1)},
        {"a reserved bit", frame(announce, 0xa1)},
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

// What one side of permessage-deflate makes of its messages (RFC 7692, 7.2.1).
class Deflater {
public:
    explicit Deflater(int level = Z_DEFAULT_COMPRESSION, int strategy = Z_DEFAULT_STRATEGY, int bits = 15) {
        EXPECT_EQ(deflateInit2(&stream_, level, Z_DEFLATED, -bits, 8, strategy), Z_OK);
    }
    ~Deflater() { deflateEnd(&stream_); }
    Deflater(const Deflater&) = delete;
    Deflater& operator=(const Deflater&) = delete;

    std::string message(std::string text) {
        std::string out(text.size() + 200, '\0');
        stream_.next_in = reinterpret_cast<Bytef*>(text.data());
        stream_.avail_in = static_cast<uInt>(text.size());
        stream_.next_out = reinterpret_cast<Bytef*>(out.data());
        stream_.avail_out = static_cast<uInt>(out.size());
        EXPECT_EQ(deflate(&stream_, Z_SYNC_FLUSH), Z_OK);
        out.resize(out.size() - stream_.avail_out);
        EXPECT_TRUE(out.ends_with(std::string_view("\0\0\xff\xff", 4)));
        out.resize(out.size() - 4);
        return out;
    }

private:
    z_stream stream_{};
};

const std::string short_announce = R"({"action":"announce",)" + ih + "," + pid + R"(,"left":0,"event":"started"})";
const std::string chat = R"({"type":"message","text":"which info_hash and peer_id does its announce have?"})";

struct Coding {
    const char* name;
    int level, strategy, bits;
};
const Coding codings[]{{"stored", 0, Z_DEFAULT_STRATEGY, 15},
                       {"fixed", 6, Z_FIXED, 15},
                       {"as it comes", 6, Z_DEFAULT_STRATEGY, 15},
                       {"literals in a dynamic code", 9, Z_HUFFMAN_ONLY, 15},
                       {"a small window", 9, Z_DEFAULT_STRATEGY, 9}};

TEST(WebSocket, CompressedTrackerRequestsProve) {
    for (const Coding& c : codings)
        for (const std::string& text : {short_announce, announce}) {
            const std::string f = frame(Deflater(c.level, c.strategy, c.bits).message(text), 0xc1);
            EXPECT_TRUE(proves(judged(f)) && has(judged(f), BT_EV_TRACKER_HTTP)) << c.name;
            EXPECT_EQ(read_frame(f).length, f.size()) << c.name;
            std::string other = f;
            for (const unsigned first : {0x41u, 0xc2u}) {
                other[0] = static_cast<char>(first);
                EXPECT_TRUE(proves(judged(other))) << c.name;
            }
            other[0] = '\x81';
            EXPECT_FALSE(proves(judged(other)) && c.level) << "it does not say that it is compressed";
        }
}

TEST(WebSocket, OtherCompressedMessagesDoNot) {
    for (const Coding& c : codings)
        for (const std::string& text :
             {chat, chat + std::string(4000, 'x'), "[" + announce + "]", std::string(5000, '{'), std::string(5000, 'x'),
              R"({"data":)" + announce + "}", std::string()})
            EXPECT_EQ(judged(frame(Deflater(c.level, c.strategy, c.bits).message(text), 0xc1)).judgement,
                      Judgement::none)
                << c.name << ": " << text.substr(0, 40);
}

TEST(WebSocket, CompressedAfterItsUpgrade) {
    for (const bool numbered : {true, false}) {
        Talk t(IPPROTO_TCP);
        t.numbered = numbered;
        t.client(upgrade);
        t.server("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
        const std::string f = frame(Deflater(9, Z_HUFFMAN_ONLY).message(announce), 0xc1);
        EXPECT_TRUE(proves(t.client(f.substr(0, 1400)))) << "the first of several segments";
    }
    Talk each(IPPROTO_TCP); // client_no_context_takeover
    each.client(upgrade);
    for (int i = 0; i < 20; ++i)
        EXPECT_EQ(each.client(frame(Deflater().message(chat), 0xc1)).judgement, Judgement::none);
    EXPECT_TRUE(proves(each.client(frame(Deflater().message(short_announce), 0xc1))));
    Talk together(IPPROTO_TCP);
    EXPECT_TRUE(proves(together.client(upgrade + frame(Deflater().message(chat), 0xc1) + frame("{}") +
                                       frame(Deflater().message(short_announce), 0xc1))));
    Talk middle(IPPROTO_TCP);
    EXPECT_TRUE(proves(middle.client(frame(Deflater().message(announce), 0xc1)))) << "its request was not seen";
    Deflater same;
    same.message(short_announce);
    const std::string second = frame(same.message(short_announce), 0xc1);
    EXPECT_EQ(judged(second).judgement, Judgement::none) << "refers to the first";
    EXPECT_TRUE(proves(judged(frame(Deflater().message(short_announce), 0xc1)))) << "and the next is read as ever";
    Talk later(IPPROTO_TCP);
    later.client(upgrade);
    EXPECT_EQ(later.client(second).judgement, Judgement::none);
    EXPECT_TRUE(proves(later.client(frame(short_announce)))) << "the frame after it";
}

TEST(WebSocket, EverySplitOfACompressedFrame) {
    for (const Coding& c : codings) {
        const std::string f = frame(Deflater(c.level, c.strategy, c.bits).message(short_announce), 0xc1);
        ASSERT_LT(f.size(), Assembly::room);
        for (std::size_t cut = 2; cut < f.size(); ++cut) {
            Talk t(IPPROTO_TCP);
            t.client(upgrade);
            t.client(f.substr(0, cut));
            EXPECT_TRUE(has(t.client(f.substr(cut)), BT_EV_TRACKER_HTTP)) << c.name << ' ' << cut;
        }
        check_truncations(f, 30, judged);
        check_bit_flips(f, judged, [](std::size_t) { return false; });
        check_bit_flips(
            f,
            [](const std::string& flipped) {
                Talk t(IPPROTO_TCP);
                t.client(upgrade);
                return t.client(flipped);
            },
            [](std::size_t) { return false; });
    }
}

TEST(WebSocket, CompressedMessagesAreInflatedWithinBounds) {
    const std::string bomb = Deflater(9).message(R"({"x":")" + std::string(100'000'000, 'a'));
    EXPECT_LT(bomb.size(), 110'000u);
    EXPECT_EQ(judged(frame(bomb, 0xc1)).judgement, Judgement::none);
    EXPECT_FALSE(read_frame(frame(bomb, 0xc1).substr(0, 100), false).need_more) << "2 KiB came out of it";
    Inflater inflater;
    std::array<char, 64> room;
    room.fill('?');
    const auto text = inflater.inflate(bytes(bomb), std::span(room).first(48));
    ASSERT_TRUE(text);
    EXPECT_EQ(*text, R"({"x":")" + std::string(42, 'a'));
    EXPECT_EQ(std::string_view(room.data() + 48, 16), std::string(16, '?'));
    std::string nothing; // blocks without content
    for (int i = 0; i < 10000; ++i)
        nothing += std::string_view("\0\0\0\xff\xff", 5);
    EXPECT_EQ(inflater.inflate(bytes(nothing), room), std::string_view{});
    EXPECT_EQ(judged(frame(nothing, 0xc1)).judgement, Judgement::none);
    EXPECT_EQ(inflater.inflate({}, room), std::string_view{});
    EXPECT_FALSE(inflater.inflate(bytes("\x07"), room)) << "a block of no kind";
    std::mt19937_64 rng(5);
    for (int i = 0; i < 20000; ++i)
        EXPECT_EQ(judged(frame(random_bytes(rng, rng() % 300), 0xc1)).judgement, Judgement::none);
}

} // namespace
