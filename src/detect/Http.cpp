// SPDX-License-Identifier: MIT
#include "detect/Http.h"

#include "detect/Bencode.h"
#include "detect/Signatures.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <bit>
#include <cstring>
#include <optional>

namespace btblock::detect {
namespace {

constexpr std::array<std::string_view, 9> methods{"GET ",    "HEAD ",    "POST ",  "CONNECT ", "PUT ",
                                                  "DELETE ", "OPTIONS ", "PATCH ", "TRACE "};

char lower(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool starts_without_case(std::string_view text, std::string_view with) noexcept {
    return text.size() >= with.size() &&
           std::equal(with.begin(), with.end(), text.begin(), [](char a, char b) { return lower(a) == lower(b); });
}

int hex(std::uint8_t c) noexcept {
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

struct Decoded {
    std::size_t length = 0; // bytes after decoding
    bool binary = false;    // holds what no identifier or word would
    bool valid = true;      // no broken %XX
};

Decoded decode(std::string_view value) noexcept {
    Decoded d;
    for (std::size_t i = 0; i < value.size(); ++i, ++d.length) {
        auto c = static_cast<std::uint8_t>(value[i]);
        if (c == '%') {
            const bool there = i + 2 < value.size();
            const int high = there ? hex(static_cast<std::uint8_t>(value[i + 1])) : -1;
            const int low = there ? hex(static_cast<std::uint8_t>(value[i + 2])) : -1;
            if (high < 0 || low < 0) {
                d.valid = false;
                return d;
            }
            c = static_cast<std::uint8_t>(high << 4 | low);
            i += 2;
        }
        d.binary |= !is_alnum(c) && c != '-' && c != '_' && c != '.' && c != '~';
    }
    return d;
}

bool is_number(std::string_view s, std::size_t most_digits, std::uint64_t& value) noexcept {
    if (s.empty() || s.size() > most_digits)
        return false;
    value = 0;
    for (const char c : s) {
        if (c < '0' || c > '9')
            return false;
        value = value * 10 + static_cast<std::uint64_t>(c - '0');
    }
    return true;
}

// Every name that says something is shorter, and every value of these: a longer parameter is known by its beginning.
constexpr std::size_t longest_parameter = 128;
// Left of a part that is passed over, since it may be the end of the path, and then the version.
constexpr std::size_t kept_end = 48;
constexpr std::size_t words_within = 512; // bytes of a target that are searched for words

// at: where it starts in the target.
void read_parameter(std::string_view text, std::size_t at, RequestLine& l) noexcept {
    const auto equal = text.find('=');
    if (equal == std::string_view::npos)
        return;
    const auto name = text.substr(0, equal), value = text.substr(equal + 1);
    if (at + equal < words_within)
        l.words |= query_word(name);
    std::uint64_t number = 0;
    if (name == "info_hash") {
        const Decoded d = decode(value);
        if (d.valid && d.length == 20) {
            l.several_hashes = l.hash;
            l.hash = true;
            l.binary_hash |= d.binary;
        } else {
            l.wrong_hash = true;
        }
    } else if (name == "peer_id") {
        const Decoded d = decode(value);
        l.peer_id |= d.valid && d.length == 20;
    } else if (name == "port")
        l.port |= is_number(value, 5, number) && number >= 1 && number <= 65535;
    else if (name == "piece")
        l.piece |= is_number(value, 7, number);
    else if (name == "fid")
        l.fid |= !value.empty();
    else if (name == "size")
        l.size |= is_number(value, 19, number);
}

// A path that ends here, before a query or not.
void read_path(std::string_view end, std::size_t at, bool query, RequestLine& l) noexcept {
    const auto dot = end.rfind('.'), slash = end.rfind('/');
    l.data = end.ends_with("/data");
    l.torrent = dot != std::string_view::npos && is_signature(Place::path_end, end.substr(dot));
    l.path_word = query && at + end.size() < words_within && slash != std::string_view::npos &&
                  is_signature(Place::path_end, end.substr(slash));
}

// The target, or what follows what `l` has of it. whole: it ends with `text`; else the last part counts only when it is
// over-long. How much of `text` need not be seen again: `l` has it now.
std::size_t read_target(std::string_view text, bool whole, RequestLine& l) noexcept {
    std::size_t at = 0;
    if (!l.query) {
        const auto mark = text.find('?');
        const auto path = text.substr(0, mark);
        l.query = mark != std::string_view::npos;
        l.scrape |= path.find("scrape") != std::string_view::npos;
        if (l.query || whole)
            read_path(path, l.taken, l.query, l);
        else
            at = path.size() - std::min(path.size(), kept_end);
        if (l.query)
            at = mark + 1;
    }
    if (l.query) {
        for (;;) {
            const auto end = text.find('&', at);
            const bool ended = end != std::string_view::npos;
            const auto part = text.substr(at, ended ? end - at : end);
            const bool known = ended || whole || part.size() >= longest_parameter;
            if (known && !l.inside)
                read_parameter(part, l.taken + at, l);
            l.inside = !ended && (l.inside || known);
            if (!ended) {
                if (l.inside)
                    at += part.size() - std::min(part.size(), kept_end);
                break;
            }
            at = end + 1;
        }
    }
    l.taken += static_cast<std::uint32_t>(at);
    return at;
}

constexpr std::uint32_t tracker = BT_EV_BIT(BT_EV_TRACKER_HTTP);
constexpr std::uint32_t webseed = BT_EV_BIT(BT_EV_WEBSEED_HTTP);
constexpr std::uint32_t agent = BT_EV_BIT(BT_EV_CLIENT_AGENT);

void add_signature(Finding& finding) noexcept {
    if (finding.judgement == Judgement::proves)
        return;
    finding.evidence |= BT_EV_BIT(BT_EV_SIGNATURE);
    finding.judgement = Judgement::weighs;
}

// whole: the target's end is known, so what is missing now will not come.
Finding judge_query(const RequestLine& l, bool whole) noexcept {
    if (l.hash && !l.wrong_hash) {
        if (l.port || l.peer_id)
            return {Judgement::proves, tracker, false};
        if (!l.several_hashes && l.piece)
            return {Judgement::proves, webseed, false};
        // BEP 48 has nothing but hashes. Under another path name one that is no word makes the difference: a SHA-1
        // of 20 letters and digits occurs once in 10^12.
        if (whole && (l.scrape || l.binary_hash))
            return {Judgement::proves, tracker, false};
        return whole ? Finding{Judgement::weighs, tracker, false} : Finding{};
    }
    // BitComet's web seeds; the names are too plain to prove without the client's own User-Agent.
    if (whole && l.fid && l.size && l.data)
        return {Judgement::weighs, webseed, false};
    return {};
}

Finding judge_target(const RequestLine& l, bool whole) noexcept {
    constexpr int enough = 3; // words of a tracker request, though it is none
    Finding finding = judge_query(l, whole);
    if (whole && (l.torrent || std::popcount(l.words) + l.path_word >= enough))
        add_signature(finding);
    return finding;
}

struct Fields {
    bool complete = false; // the empty line is there
    std::size_t length = 0;
    bool agent = false;      // names a BitTorrent client
    bool downloader = false; // which fetches other things, too
    bool torrent = false;    // is, or asks for, a torrent file
    bool range = false, chunked = false, framed = false;
    std::uint64_t body_length = 0;
};

std::string_view trimmed(std::string_view s) noexcept {
    while (!s.empty() && (s.front() == ' ' || s.front() == '\t'))
        s.remove_prefix(1);
    while (!s.empty() && (s.back() == ' ' || s.back() == '\t' || s.back() == '\r'))
        s.remove_suffix(1);
    return s;
}

// "Transmission/3.00", "Azureus 5.7", "libtorrent 1.2", but no longer word ("TransmissionRemote").
bool names_product(std::string_view value, Place place) noexcept {
    constexpr std::string_view ends = "/ (-;";
    std::array<char, 24> product; // no longer one is known
    for (std::size_t i = 0;; ++i) {
        const bool over = i == value.size();
        if ((over || ends.find(value[i]) != std::string_view::npos) && is_signature(place, {product.data(), i}))
            return true;
        if (over || i == product.size())
            return false;
        product[i] = lower(value[i]);
    }
}

// A list of media types with parameters.
bool names_torrent(std::string_view value) noexcept {
    while (!value.empty()) {
        const auto part = value.substr(0, value.find(','));
        value.remove_prefix(std::min(value.size(), part.size() + 1));
        const auto type = trimmed(part.substr(0, part.find(';')));
        std::array<char, 32> name;
        if (type.size() > name.size())
            continue;
        std::transform(type.begin(), type.end(), name.begin(), lower);
        if (is_signature(Place::media_type, {name.data(), type.size()}))
            return true;
    }
    return false;
}

// "bytes=0-16383": both ends are given, as by one who knows the file's size from elsewhere.
bool is_closed_range(std::string_view value) noexcept {
    constexpr std::string_view unit = "bytes=";
    if (!starts_without_case(value, unit))
        return false;
    const auto range = value.substr(unit.size());
    const auto dash = range.find('-');
    std::uint64_t first = 0, last = 0;
    return dash != std::string_view::npos && is_number(range.substr(0, dash), 15, first) &&
           is_number(range.substr(dash + 1), 15, last) && first <= last;
}

// Header fields; only whole lines count.
Fields read_fields(std::string_view text) noexcept {
    Fields f;
    std::size_t at = 0;
    while (at < text.size()) {
        const auto end = text.find('\n', at);
        if (end == std::string_view::npos)
            break;
        const auto line = trimmed(text.substr(at, end - at));
        at = end + 1;
        if (line.empty()) {
            f.complete = true;
            break;
        }
        const auto colon = line.find(':');
        if (colon == std::string_view::npos)
            continue;
        const auto name = line.substr(0, colon), value = trimmed(line.substr(colon + 1));
        const auto is = [&](std::string_view want) {
            return name.size() == want.size() && starts_without_case(name, want);
        };
        if (is("user-agent")) {
            f.downloader |= names_product(value, Place::downloader);
            f.agent |= f.downloader || names_product(value, Place::agent);
        } else if (is("range"))
            f.range |= is_closed_range(value);
        else if (is("transfer-encoding")) {
            f.framed = true;
            f.chunked |= starts_without_case(value, "chunked");
        } else if (is("content-length")) {
            std::uint64_t n = 0;
            f.framed = true;
            f.body_length = is_number(value, 15, n) ? n : 0;
        } else if (is("content-type")) {
            f.framed = true;
            f.torrent |= names_torrent(value);
        } else if (is("accept"))
            f.torrent |= names_torrent(value);
    }
    f.length = at;
    return f;
}

void add_agent(Finding& finding, const Fields& f) noexcept {
    if (!f.agent)
        return;
    const bool nearly = finding.judgement == Judgement::weighs && finding.evidence & (tracker | webseed);
    finding.evidence |= agent;
    // BEP 19 is a plain range request: only the client's name tells it from any other download.
    if (f.range && finding.judgement != Judgement::proves)
        finding.evidence |= webseed;
    // A request that only just failed to prove (BitComet's web seed form) is settled by the client naming itself.
    if (nearly || (f.range && !f.downloader))
        finding.judgement = Judgement::proves;
    else if (finding.judgement == Judgement::none)
        finding.judgement = Judgement::weighs;
}

} // namespace

bool is_client_agent(std::string_view value) noexcept {
    return names_product(value, Place::agent) || names_product(value, Place::downloader);
}

Match match_http_request(Bytes stream) noexcept {
    Match best = Match::no;
    for (const auto method : methods) {
        const Match m = match(stream, method);
        if (m == Match::full)
            return m;
        if (m == Match::partial)
            best = m;
    }
    return best;
}

HttpRequest read_http_request(Bytes stream, bool all, const RequestLine& before) noexcept {
    HttpRequest r;
    const bool begins = before.taken == 0;
    const Match start = begins ? match_http_request(stream) : Match::full;
    if (start == Match::no)
        return r;
    r.state = HttpState::incomplete;
    if (start == Match::partial)
        return r;
    const auto text = as_text(stream);
    const auto line_end = text.find('\n');
    const bool open = line_end == std::string_view::npos;
    const auto line = text.substr(0, line_end);
    const bool connect = begins && line.starts_with("CONNECT ");
    const auto target_at = begins ? line.find(' ') + 1 : 0;
    // The last one: clients that do not escape put spaces into the query. Nothing but the line's end follows it.
    constexpr std::size_t version_length = 10;
    const auto version = line.rfind(" HTTP/1.");
    const bool whole = version != std::string_view::npos && version + 1 >= target_at &&
                       (!open || line.size() - version <= version_length);
    if (!whole && !open) {
        r.state = HttpState::not_http; // a line without a version: some other text protocol
        return r;
    }
    const auto target = line.substr(target_at, whole ? version + 1 - target_at : std::string_view::npos);
    const auto trimmed_target = whole && target.ends_with(' ') ? target.substr(0, target.size() - 1) : target;
    if (begins && !trimmed_target.empty() && !connect) {
        const char c = trimmed_target[0];
        const auto scheme = std::string_view("http");
        const auto n = std::min(scheme.size(), trimmed_target.size());
        if (c != '/' && c != '*' && !starts_without_case(trimmed_target.substr(0, n), scheme.substr(0, n))) {
            r.state = HttpState::not_http;
            return r;
        }
    }
    if (!connect) {
        if (open) {
            r.line = before;
            const std::size_t n = read_target(target, false, r.line);
            r.taken = n ? target_at + n : 0;
        }
        RequestLine there = before;
        read_target(trimmed_target, whole || all, there);
        r.finding = judge_target(there, whole || all);
    }
    if (open)
        return r;
    r.state = HttpState::line;
    const Fields f = read_fields(text.substr(line_end + 1));
    if (!connect) {
        add_agent(r.finding, f);
        if (f.torrent)
            add_signature(r.finding);
    }
    if (f.complete) {
        r.state = HttpState::head;
        r.head_length = line_end + 1 + f.length;
        r.connect = connect;
        r.body_length = f.body_length;
    }
    return r;
}

HttpResponse read_http_response(Bytes stream) noexcept {
    HttpResponse r;
    const Match start = match(stream, "HTTP/1.");
    if (start == Match::no)
        return r;
    r.state = HttpState::incomplete;
    const auto text = as_text(stream);
    const auto line_end = text.find('\n');
    if (start == Match::partial || line_end == std::string_view::npos)
        return r;
    std::uint64_t status = 0;
    if (line_end < 12 || !is_number(text.substr(9, 3), 3, status)) {
        r.state = HttpState::not_http;
        return r;
    }
    r.status = static_cast<unsigned>(status);
    r.state = HttpState::line;
    const Fields f = read_fields(text.substr(line_end + 1));
    if (f.complete) {
        r.state = HttpState::head;
        r.head_length = line_end + 1 + f.length;
        r.chunked = f.chunked;
        r.framed = f.framed;
        r.torrent = f.torrent;
    }
    return r;
}

namespace {

using bencode::Reader;
using bencode::Status;

// BEP 3's own form of a peer: a dictionary with ip (text) and port.
bool read_peer_dict(Reader& r, bool& good, EndpointSink& named) noexcept {
    Bytes key, ip;
    std::int64_t port = 0;
    if (!r.enter_dict())
        return false;
    while (r.next_key(key)) {
        bool ok = true;
        if (equals(key, "ip") && is_digit(r.peek()))
            ok = r.read_string(ip);
        else if (equals(key, "port") && r.peek() == 'i')
            ok = r.read_integer(port);
        else
            ok = r.skip();
        if (!ok)
            return false;
    }
    if (r.status() != Status::ok)
        return false;
    if (ip.empty() || ip.size() > 45 || port < 1 || port > 65535)
        return true; // a name instead of an address, or nonsense: no peer to learn
    good = true;
    char text[46] = {};
    std::memcpy(text, ip.data(), ip.size());
    std::uint8_t raw[18];
    const auto p = static_cast<std::uint16_t>(port);
    if (inet_pton(AF_INET, text, raw) == 1) {
        raw[4] = static_cast<std::uint8_t>(p >> 8);
        raw[5] = static_cast<std::uint8_t>(p);
        named.add_v4(raw, IPPROTO_TCP);
    } else if (inet_pton(AF_INET6, text, raw) == 1) {
        raw[16] = static_cast<std::uint8_t>(p >> 8);
        raw[17] = static_cast<std::uint8_t>(p);
        named.add_v6(raw, IPPROTO_TCP);
    }
    return true;
}

struct Reply {
    unsigned reply_keys = 0, metainfo_keys = 0;
    bool interval = false, peers = false, failure = false, files = false, wrong = false;
};

bool read_peers(Reader& r, bool v6, Reply& reply, EndpointSink& named) noexcept {
    if (is_digit(r.peek())) {
        Bytes list;
        std::size_t declared = 0;
        if (!r.read_cut_string(list, declared))
            return false;
        if (declared % (v6 ? 18 : 6) != 0) {
            reply.wrong = true;
        } else {
            reply.peers = true;
            named.add_list(list, v6, IPPROTO_TCP);
        }
        return r.status() == Status::ok;
    }
    if (!r.enter_list())
        return false;
    bool any = false;
    while (r.next_item()) {
        any = true;
        if (!read_peer_dict(r, reply.peers, named))
            return false;
    }
    reply.peers |= !any && r.status() == Status::ok; // nobody there
    return r.status() == Status::ok;
}

// BEP 48: files maps hashes to counts.
bool read_files(Reader& r, Reply& reply) noexcept {
    Bytes hash, key;
    if (!r.enter_dict())
        return false;
    while (r.next_key(hash)) {
        if (hash.size() != 20)
            reply.wrong = true;
        bool complete = false, incomplete = false;
        if (!r.enter_dict())
            return false;
        while (r.next_key(key)) {
            complete |= equals(key, "complete") && r.peek() == 'i';
            incomplete |= equals(key, "incomplete") && r.peek() == 'i';
            if (!r.skip())
                return false;
        }
        if (r.status() != Status::ok)
            return false;
        reply.files |= complete && incomplete;
    }
    return r.status() == Status::ok;
}

void read_reply(Reader& r, Reply& reply, EndpointSink& named) noexcept {
    Bytes key;
    if (!r.enter_dict())
        return;
    while (r.next_key(key)) {
        const auto name = as_text(key);
        bool ok = true;
        reply.reply_keys += is_signature(Place::reply_key, name);
        reply.metainfo_keys += is_signature(Place::metainfo_key, name);
        if ((name == "interval" || name == "min interval") && r.peek() == 'i') {
            std::int64_t seconds = -1;
            ok = r.read_integer(seconds);
            reply.interval |= ok && seconds >= 0 && seconds <= 7 * 86400;
        } else if (name == "peers" && (is_digit(r.peek()) || r.peek() == 'l'))
            ok = read_peers(r, false, reply, named);
        else if (name == "peers6" && is_digit(r.peek()))
            ok = read_peers(r, true, reply, named);
        else if (name == "files" && r.peek() == 'd')
            ok = read_files(r, reply);
        else {
            reply.failure |= name == "failure reason" && is_digit(r.peek());
            ok = r.skip();
        }
        if (!ok)
            return;
    }
}

// RFC 9112: hex length, optional extension, CRLF. nothing: no chunk starts here.
std::optional<Bytes> inside_first_chunk(Bytes body, bool& cut) noexcept {
    std::size_t at = 0;
    while (at < body.size() && at < 8 && hex(body[at]) >= 0)
        ++at;
    if (at == 0 && !body.empty())
        return {};
    while (at < body.size() && at < 64 && body[at] != '\n')
        ++at;
    cut = at == body.size();
    if (cut)
        return Bytes{};
    if (body[at] != '\n')
        return {};
    return body.subspan(at + 1);
}

} // namespace

TrackerReply read_tracker_reply(Bytes body, bool chunked, bool all, EndpointSink& named) noexcept {
    TrackerReply result;
    if (chunked) {
        bool cut = false;
        const auto inside = inside_first_chunk(body, cut);
        if (!inside)
            return result;
        body = *inside;
        result.need_more = cut && !all;
    }
    if (body.empty()) {
        result.need_more = !all;
        return result;
    }
    if (body[0] != 'd' || (body.size() > 1 && !is_digit(body[1])))
        return result;
    Reader r(body);
    Reply reply;
    read_reply(r, reply, named);
    if (!reply.wrong && ((reply.interval && reply.peers) || reply.files)) {
        result.finding = {Judgement::proves, tracker, false};
        result.need_more = false;
        return result;
    }
    if (r.status() == Status::malformed)
        return result;
    if (reply.failure)
        result.finding = {Judgement::weighs, tracker, false};
    constexpr unsigned enough = 2;
    if (reply.reply_keys >= enough || reply.metainfo_keys >= enough)
        add_signature(result.finding);
    result.need_more = r.status() == Status::truncated && !all;
    return result;
}

} // namespace btblock::detect
