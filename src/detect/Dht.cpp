// SPDX-License-Identifier: MIT
#include "detect/Dht.h"

#include "detect/Bencode.h"

#include <netinet/in.h>

namespace btblock::detect {
namespace {

using bencode::Reader;

// What the dictionary "a" (arguments) or "r" (return values) holds.
struct Part {
    bool seen = false;
    bool id = false;
    bool target = false;
    bool info_hash = false;
    bool token = false;
    bool value = false;
    bool wrong = false; // a known key with an impossible value
    Bytes nodes, nodes6;
};

struct Message {
    Bytes type, transaction, query;
    Part arguments, reply;
    bool error_seen = false;
    bool error_good = false;
};

// A 20-byte key; 32 bytes occur nowhere in the DHT.
bool read_hash(Reader& r, bool& good, bool& wrong) noexcept {
    Bytes s;
    if (!r.read_string(s))
        return false;
    (s.size() == 20 ? good : wrong) = true;
    return true;
}

// BEP 5: a list of compact peers; BEP 32 allows 6- and 18-byte ones side by side. The peers go to the sink only
// after the whole message was judged, so they are read twice: once here for their sizes.
bool read_values(Reader& r, bool& wrong, EndpointSink* sink) noexcept {
    if (r.peek() != 'l') {
        wrong = true;
        return r.skip();
    }
    if (!r.enter_list())
        return false;
    while (r.next_item()) {
        Bytes s;
        if (!r.read_string(s))
            return false;
        if (s.size() == 6) {
            if (sink)
                sink->add_v4(s.data(), IPPROTO_TCP);
        } else if (s.size() == 18) {
            if (sink)
                sink->add_v6(s.data(), IPPROTO_TCP);
        } else {
            wrong = true;
        }
    }
    return r.status() == bencode::Status::ok;
}

bool read_part(Reader& r, Part& part, EndpointSink* sink) noexcept {
    if (r.peek() != 'd') {
        part.wrong = true;
        return r.skip();
    }
    if (!r.enter_dict())
        return false;
    part.seen = true;
    Bytes key;
    while (r.next_key(key)) {
        const auto name = as_text(key);
        bool ok = true;
        if (name == "id")
            ok = read_hash(r, part.id, part.wrong);
        else if (name == "target")
            ok = read_hash(r, part.target, part.wrong);
        else if (name == "info_hash")
            ok = read_hash(r, part.info_hash, part.wrong);
        else if (name == "nodes" && is_digit(r.peek())) {
            ok = r.read_string(part.nodes);
            part.wrong |= part.nodes.size() % 26 != 0;
        } else if (name == "nodes6" && is_digit(r.peek())) {
            ok = r.read_string(part.nodes6);
            part.wrong |= part.nodes6.size() % 38 != 0;
        } else if (name == "values")
            ok = read_values(r, part.wrong, sink);
        else {
            part.token |= name == "token" && is_digit(r.peek());
            part.value |= name == "v";
            ok = r.skip();
        }
        if (!ok)
            return false;
    }
    return r.status() == bencode::Status::ok;
}

// BEP 5: a list of a number and a text.
bool read_error(Reader& r, Message& m) noexcept {
    m.error_seen = true;
    if (r.peek() != 'l')
        return r.skip();
    std::int64_t code = 0;
    Bytes text;
    unsigned items = 0;
    bool good = true;
    if (!r.enter_list())
        return false;
    while (r.next_item()) {
        if (items == 0 && r.peek() == 'i') {
            if (!r.read_integer(code))
                return false;
        } else if (items == 1 && is_digit(r.peek())) {
            if (!r.read_string(text))
                return false;
        } else {
            good = false;
            if (!r.skip())
                return false;
        }
        ++items;
    }
    // 201..204 (BEP 5), 205..207, 301, 302 (BEP 44); implementations invent more beside them.
    m.error_good = good && items == 2 && code >= 200 && code < 400;
    return r.status() == bencode::Status::ok;
}

bool read_message(Bytes datagram, Message& m, EndpointSink* sink) noexcept {
    Reader r(datagram);
    if (!r.enter_dict())
        return false;
    Bytes key;
    while (r.next_key(key)) {
        bool ok = true;
        const bool text = is_digit(r.peek());
        if (equals(key, "y") && text)
            ok = r.read_string(m.type);
        else if (equals(key, "t") && text)
            ok = r.read_string(m.transaction);
        else if (equals(key, "q") && text)
            ok = r.read_string(m.query);
        else if (equals(key, "a"))
            ok = read_part(r, m.arguments, nullptr);
        else if (equals(key, "r"))
            ok = read_part(r, m.reply, sink);
        else if (equals(key, "e"))
            ok = read_error(r, m);
        else
            ok = r.skip();
        if (!ok)
            return false;
    }
    return r.finished();
}

Finding judge_query(const Message& m) noexcept {
    const Part& a = m.arguments;
    if (!a.seen || !a.id || a.wrong || m.query.empty() || m.query.size() > 32)
        return {};
    const auto name = as_text(m.query);
    bool complete = false, known = true;
    if (name == "ping")
        complete = true;
    else if (name == "find_node" || name == "get" || name == "sample_infohashes")
        complete = a.target;
    else if (name == "get_peers")
        complete = a.info_hash;
    else if (name == "announce_peer")
        complete = a.info_hash && a.token;
    else if (name == "put")
        complete = a.value && a.token;
    else
        known = false;
    if (!known) {
        for (const std::uint8_t c : m.query)
            if (!is_alnum(c) && c != '_' && c != '-')
                return {};
        return {Judgement::weighs, BT_EV_BIT(BT_EV_DHT_QUERY), true};
    }
    if (!complete)
        return {};
    return {Judgement::proves, BT_EV_BIT(BT_EV_DHT_QUERY), true};
}

} // namespace

Finding inspect_dht(Bytes datagram, EndpointSink& named) noexcept {
    // The smallest message is an error with an empty text; a query or reply carries at least an id.
    if (datagram.size() < 20 || datagram[0] != 'd' || !is_digit(datagram[1]))
        return {};
    Message m;
    if (!read_message(datagram, m, nullptr) || m.type.size() != 1)
        return {};
    if (m.transaction.empty() || m.transaction.size() > 20)
        return {};
    switch (m.type[0]) {
    case 'q': return judge_query(m);
    case 'r': {
        if (!m.reply.seen || !m.reply.id || m.reply.wrong)
            return {};
        Message again;
        read_message(datagram, again, &named);
        for (std::size_t at = 0; at + 26 <= m.reply.nodes.size(); at += 26)
            named.add_v4(m.reply.nodes.data() + at + 20, IPPROTO_UDP);
        for (std::size_t at = 0; at + 38 <= m.reply.nodes6.size(); at += 38)
            named.add_v6(m.reply.nodes6.data() + at + 20, IPPROTO_UDP);
        return {Judgement::proves, BT_EV_BIT(BT_EV_DHT_RESPONSE), true};
    }
    case 'e':
        if (!m.error_good)
            return {};
        return {Judgement::proves, BT_EV_BIT(BT_EV_DHT_ERROR), true};
    default: return {};
    }
}

} // namespace btblock::detect
