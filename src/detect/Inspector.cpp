// SPDX-License-Identifier: MIT
#include "detect/Inspector.h"

#include "detect/Dht.h"
#include "detect/Entropy.h"
#include "detect/Handshake.h"
#include "detect/Http.h"
#include "detect/Socks.h"
#include "detect/Utp.h"
#include "detect/WebSocket.h"

#include <algorithm>
#include <netinet/in.h>

namespace btblock::detect {
namespace {

// Microsoft's Delivery Optimization speaks a relative of the peer protocol with the same messages. Its opening tells
// them apart; in a connection that began earlier only its port does.
constexpr std::string_view swarm_signature{"\x0e"
                                           "Swarm protocol",
                                           15};
constexpr std::uint16_t swarm_port = 7680;

// Openings of protocols that are nothing else for the rest of the connection. SMTP, IMAP, POP and FTP servers speak
// first; their texts are kept out of every later check.
constexpr std::array<std::string_view, 11> other_openings{
    swarm_signature, "SSH-", "RFB 00", "GNUTELLA", "PRI * HTTP/2.0", "220 ", "220-", "* OK ", "+OK ", "EHLO ", "HELO ",
};

bt_tuple mirror_of(const bt_tuple& t) noexcept {
    bt_tuple m = t;
    m.src = t.dst;
    m.dst = t.src;
    m.sport = t.dport;
    m.dport = t.sport;
    return m;
}

bool is_v4(const bt_addr& a) noexcept {
    static constexpr std::uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return std::memcmp(a.b, mapped, sizeof mapped) == 0;
}

bool is_swarm_port(const bt_tuple& t) noexcept {
    return t.sport == swarm_port || t.dport == swarm_port;
}

void note(FlowContext& flow, const Finding& finding) noexcept {
    if (finding.judgement != Judgement::weighs && finding.judgement != Judgement::proves)
        return;
    flow.evidence |= finding.evidence;
    if (finding.judgement == Judgement::proves) {
        flow.proved = true;
        // Behind a proxy the address on the wire is the proxy's, which serves others too.
        flow.host_evidence |= finding.host_evidence && !flow.proxied;
    }
}

Finding finding_of(const FlowContext& flow) noexcept {
    if (flow.proved)
        return {Judgement::proves, flow.evidence, flow.host_evidence};
    if (flow.clean)
        return {Judgement::clean, flow.evidence, false};
    return {flow.evidence ? Judgement::weighs : Judgement::none, flow.evidence, false};
}

constexpr Finding weighing(bt_evidence code) noexcept {
    return {Judgement::weighs, BT_EV_BIT(code), false};
}

void note_host(FlowContext& flow, std::string_view host) noexcept {
    if (is_known_host(host))
        note(flow, weighing(BT_EV_TRACKER_SNI));
}

bool is_info_hash(std::string_view name) noexcept {
    return name.size() == 40 && std::ranges::all_of(name, [](char c) {
               return is_digit(static_cast<std::uint8_t>(c)) || (c >= 'a' && c <= 'f');
           });
}

constexpr std::uint16_t dns_port = 53;
constexpr std::uint64_t most_passed = 8u << 20; // bytes passed over: the assembly tells connections apart up to 16 MiB

// TLS: handshake record of version 3.0 to 3.4 with a client or server hello in it.
Match match_tls(Bytes s) noexcept {
    if (s[0] != 0x16)
        return Match::no;
    if (s.size() < 6)
        return s.size() < 2 || s[1] == 3 ? Match::partial : Match::no;
    return s[1] == 3 && s[2] <= 4 && (s[5] == 1 || s[5] == 2) ? Match::full : Match::no;
}

} // namespace

Inspector::Inspector(std::size_t flow_capacity) : flows_(flow_capacity) {}

Finding Inspector::inspect(const Payload& payload, std::uint64_t now_ns) noexcept {
    sink_.clear();
    solicited_ = false;
    host_.clear();
    bt_tuple& tuple = tuple_ = payload.tuple;
    std::fill(std::begin(tuple.pad), std::end(tuple.pad), std::uint8_t{0}); // keys are compared as bytes
    FlowContext& flow = flows_.touch(tuple, now_ns);
    const FlowContext* mirror = flows_.find(mirror_of(tuple), now_ns);
    if (mirror == &flow)
        mirror = nullptr;
    if (tuple.proto == IPPROTO_UDP)
        inspect_udp(payload, flow, mirror);
    else if (tuple.proto == IPPROTO_TCP)
        inspect_tcp(payload, flow, mirror);
    // Names out of something that merely resembles a reply.
    if (!flow.proved)
        sink_.clear();
    Finding finding = finding_of(flow);
    finding.fresh = flow.evidence & ~flow.told;
    flow.told = flow.evidence;
    return finding;
}

// ---------------------------------------------------------------- UDP: every datagram for itself

bool Inspector::inspect_udp(const Payload& payload, FlowContext& flow, const FlowContext* mirror) noexcept {
    if (payload.tuple.dport == dns_port && !flow.proved && read_dns_query(payload.bytes, host_)) {
        note_host(flow, host_.text());
        flow.clean = true;
        return false;
    }
    // Plain first: tracker responses begin like a SOCKS header.
    if (judge_datagram(payload.bytes, payload.tuple, flow, mirror))
        return true;
    const auto inside = unwrap_socks_udp(payload.bytes);
    if (!inside)
        return false;
    const bool was_proxied = flow.proxied;
    flow.proxied = true;
    if (judge_datagram(*inside, payload.tuple, flow, mirror)) {
        flow.evidence |= BT_EV_BIT(BT_EV_SOCKS_CONNECT);
        return true;
    }
    flow.proxied = was_proxied;
    if (read_utp(*inside).strict_syn) {
        note(flow, weighing(BT_EV_UTP_SYN));
        note(flow, weighing(BT_EV_SOCKS_CONNECT));
    }
    return false;
}

// The peer protocol in a uTP packet whose conversation was not followed.
Finding Inspector::judge_utp_data(Bytes data) noexcept {
    if (match_handshake(data) == Match::full)
        return {Judgement::proves, BT_EV_BIT(BT_EV_TCP_HANDSHAKE) | BT_EV_BIT(BT_EV_UTP_DATA), true};
    MessageChain chain;
    const Message m = read_message(data, true, sink_);
    if (m.total <= data.size() && chain.add(m) && chain.proves())
        return {Judgement::proves, chain.evidence() | BT_EV_BIT(BT_EV_UTP_DATA), true};
    return {};
}

// True: proved by this datagram.
bool Inspector::judge_datagram(Bytes datagram, const bt_tuple& tuple, FlowContext& flow,
                               const FlowContext* mirror) noexcept {
    Finding found = inspect_dht(datagram, sink_);
    if (found.judgement == Judgement::proves) {
        flow.asked_dht |= (found.evidence & BT_EV_BIT(BT_EV_DHT_QUERY)) != 0;
        solicited_ = mirror && mirror->asked_dht;
    }
    if (found.judgement == Judgement::none)
        found = inspect_tracker_request(datagram, flow.tracker);
    if (found.judgement == Judgement::none && mirror) {
        // Behind a SOCKS relay the family of the packet says nothing about the tracker's; a list of both is rare.
        found = inspect_tracker_response(datagram, mirror->tracker, !is_v4(tuple.src), sink_);
        solicited_ = found.judgement == Judgement::proves;
    }
    if (found.judgement == Judgement::none)
        found = judge_utp_data(read_utp(datagram).data);
    note(flow, found);
    return found.judgement == Judgement::proves;
}

// ---------------------------------------------------------------- TCP: a stream of units

void Inspector::inspect_tcp(const Payload& p, FlowContext& flow, const FlowContext* mirror) noexcept {
    if (flow.stream.is_foreign(p.seq, p.has_seq))
        flows_.renew(flow);
    if (flow.clean || p.bytes.empty())
        return;
    place(p, flow);
    if (!flow.stream.offer(p.bytes, p.seq, p.has_seq))
        return;
    // Every round uses up bytes or moves to another stage; the bound only guards against a mistake in that.
    for (std::size_t round = 0; round < 2 * p.bytes.size() + 2 * Assembly::room; ++round) {
        if (flow.stream.view().empty() || flow.clean)
            break;
        const Step next = step(flow, mirror);
        if (next == Step::settle || (next == Step::keep && flow.stream.full())) {
            flow.stream.settle();
            break;
        }
        if (next == Step::keep)
            break;
    }
    if (flow.clean)
        flow.stream.drop();
    else
        flow.stream.keep();
    if (flow.chain.proves()) {
        const bool relative = is_swarm_port(p.tuple) && !(flow.evidence & BT_EV_BIT(BT_EV_TCP_HANDSHAKE));
        note(flow, {relative ? Judgement::weighs : Judgement::proves, flow.chain.evidence(), true});
    } else if (flow.chain.weighs()) {
        note(flow, {Judgement::weighs, flow.chain.evidence(), false});
    }
    solicited_ |= flow.proved && flow.stage == Stage::messages;
}

// Where a packet starts something new although the unit before is not done.
void Inspector::place(const Payload& p, FlowContext& flow) noexcept {
    Assembly& s = flow.stream;
    // A handshake overtaken by its own tail, which may have been taken for messages (the reserved bytes are zeros).
    if (s.precedes_all(p.seq, p.has_seq, p.bytes.size()) && match_handshake(p.bytes) == Match::full) {
        flow.chain.reset();
        flow.stage = Stage::opening;
        s.reset();
        return;
    }
    if (s.passes_over(p.seq, p.has_seq, p.bytes.size())) {
        // Only a wrong length would make us pass over a message that is beyond doubt.
        EndpointSink nowhere;
        if (flow.stage != Stage::messages || flow.chain.strong() ||
            read_message(p.bytes, true, nowhere).shape != Shape::strong)
            return;
        flow.chain.reset();
        s.restart();
        return;
    }
    // Keep-alive: a request where one can start. While a request line is open the packet that continues it is its
    // rest, whatever it looks like.
    if (flow.http_client && match_http_request(p.bytes) == Match::full &&
        !(flow.stage == Stage::request && flow.line_open && s.continues(p.seq, p.has_seq))) {
        s.restart();
        flow.stage = Stage::request;
    } else if (flow.http_server && starts_with(p.bytes, "HTTP/1.")) {
        s.restart();
        flow.stage = Stage::response;
    }
}

Inspector::Step Inspector::step(FlowContext& flow, const FlowContext* mirror) noexcept {
    switch (flow.stage) {
    case Stage::opening: return step_opening(flow, mirror);
    case Stage::handshake:
        if (flow.stream.view().size() < handshake_length)
            return Step::keep;
        flow.stream.consume(handshake_length);
        flow.stage = Stage::messages;
        return Step::again;
    case Stage::messages: return step_messages(flow);
    case Stage::hello: return step_hello(flow);
    case Stage::request: return step_request(flow);
    case Stage::frames: return step_frames(flow);
    case Stage::response: return step_response(flow, mirror);
    case Stage::body: return step_body(flow, mirror);
    }
    return Step::settle;
}

Inspector::Step Inspector::step_opening(FlowContext& flow, const FlowContext* mirror) noexcept {
    const Bytes view = flow.stream.view();
    const bool origin = flow.stream.at_origin();
    bool partial = false;
    if (origin) {
        const Match handshake = match_handshake(view);
        if (handshake == Match::full) {
            note(flow, {Judgement::proves, BT_EV_BIT(BT_EV_TCP_HANDSHAKE), true});
            flow.stage = Stage::handshake;
            return Step::again;
        }
        partial |= handshake == Match::partial;
        Match other = match_tls(view);
        for (const auto opening : other_openings) {
            const Match m = match(view, opening);
            other = other == Match::full || m == Match::no ? other : m;
        }
        if (other == Match::full) {
            if (view[0] == 0x16 && view[5] == 1) {
                ClientHello hello{};
                const Step next = take_hello(flow, hello);
                if (!flow.clean) {
                    hellos_[tuple_] = hello;
                    flow.stage = Stage::hello;
                }
                return next;
            }
            flow.clean = true;
            return Step::settle;
        }
        partial |= other == Match::partial;
        if (view[0] == 4 || view[0] == 5 || (view[0] == 0 && view.size() > 1 && view[1] >= 0x5a && view[1] <= 0x5d))
            return step_socks(flow, mirror);
        const Match request = match_http_request(view), response = match(view, "HTTP/1.");
        if (request == Match::full || response == Match::full) {
            flow.stage = request == Match::full ? Stage::request : Stage::response;
            return Step::again;
        }
        partial |= request == Match::partial || response == Match::partial;
    }
    if (view[0] == 0) {
        if (origin && view.size() == 1)
            return Step::keep;
        flow.chain.reset();
        flow.stage = Stage::messages;
        return Step::again;
    }
    // A WebSocket whose beginning was not seen: its next announce.
    if (const Finding request = read_client_frame(view, true, inflater_).finding;
        request.judgement == Judgement::proves) {
        note(flow, request);
        flow.http_client = true;
        flow.stage = Stage::frames;
        return Step::again;
    }
    if (partial)
        return Step::keep;
    // Inside a proxy the shared MSE grammar does not see the turns; a first flight of the right size still weighs.
    if (origin && flow.proxied && view.size() >= 96 && view.size() <= 608 && looks_random(view))
        note(flow, weighing(BT_EV_ENTROPY));
    return Step::settle;
}

Inspector::Step Inspector::step_hello(FlowContext& flow) noexcept {
    if (ClientHello* hello = hellos_.find(tuple_))
        return take_hello(flow, *hello);
    flow.clean = true; // it gave way to others
    return Step::settle;
}

// Its bytes are taken as they come: a hello with a post-quantum key fills two segments, and its extensions stand in any
// order.
Inspector::Step Inspector::take_hello(FlowContext& flow, ClientHello& hello) noexcept {
    const Bytes view = flow.stream.view();
    hello.feed(view);
    if (!hello.done()) {
        flow.stream.consume(view.size());
        return Step::again;
    }
    for (const char c : hello.host())
        host_.append(static_cast<std::uint8_t>(c));
    note_host(flow, host_.text());
    // The connections of libtorrent's SSL torrents name their info-hash; a host name has a dot or is short.
    if (is_info_hash(host_.text()))
        note(flow, {Judgement::proves, BT_EV_BIT(BT_EV_SIGNATURE), false});
    flow.clean = !flow.proved;
    return Step::settle;
}

Inspector::Step Inspector::step_socks(FlowContext& flow, const FlowContext* mirror) noexcept {
    const Bytes view = flow.stream.view();
    const SocksTurns client = read_socks_client(view), server = read_socks_server(view);
    for (const SocksTurns& turns : {client, server}) {
        if (turns.match != Match::full)
            continue;
        // SOCKS 4 is 8 bytes with hardly a fixed one (DRDA replies and TDS begin alike): it counts when the turn ends
        // with its packet, as it must while the other side has to answer, and a reply only after a request.
        const bool asked = mirror && (mirror->evidence & BT_EV_BIT(BT_EV_SOCKS_CONNECT));
        const bool ends = turns.length == view.size();
        if (!turns.version4 || (view[0] == 0 ? asked : ends))
            note(flow, weighing(BT_EV_SOCKS_CONNECT));
        flow.stream.consume(turns.length);
        if (!turns.stream)
            return Step::settle;
        flow.proxied = true;
        flow.stream.declare_origin();
        return Step::again;
    }
    return client.match == Match::partial || server.match == Match::partial ? Step::keep : Step::settle;
}

Inspector::Step Inspector::step_messages(FlowContext& flow) noexcept {
    const Message m = read_message(flow.stream.view(), flow.stream.full(), sink_);
    if (m.shape == Shape::need_more)
        return Step::keep;
    if (m.shape == Shape::invalid || !flow.chain.add(m)) {
        flow.chain.reset();
        flow.stage = Stage::opening;
        return Step::settle;
    }
    flow.stream.consume(m.total);
    return Step::again;
}

Inspector::Step Inspector::step_request(FlowContext& flow) noexcept {
    if (flow.line.taken != 0 && flow.stream.position() != flow.line_at)
        flow.line = {}; // bytes are missing, or this is another one
    if (flow.http_client && flow.line.taken == 0 && is_client_frame(flow.stream.view())) {
        flow.stage = Stage::frames;
        return Step::again;
    }
    const bool full = flow.stream.full(), overlong = flow.line.taken >= RequestLine::longest;
    const HttpRequest r = read_http_request(flow.stream.view(), full && overlong, flow.line);
    flow.line_open = r.state == HttpState::incomplete;
    if (r.state == HttpState::not_http) {
        flow.line = {};
        flow.stage = Stage::opening;
        return Step::settle;
    }
    flow.http_client |= !flow.line_open || r.finding.judgement == Judgement::proves;
    note(flow, r.finding);
    flow.asked_tracker |= r.finding.judgement == Judgement::proves;
    // What was read of a long line makes room for the rest of it.
    if (flow.line_open && full && !overlong && r.taken != 0) {
        flow.http_client = true;
        flow.stream.consume(r.taken);
        flow.line = r.line;
        flow.line_at = flow.stream.position();
        return Step::again;
    }
    if (r.state != HttpState::head)
        return Step::keep;
    flow.line = {};
    if (r.connect) {
        flow.asked_connect = flow.proxied = true;
        flow.stage = Stage::opening;
        flow.stream.consume(r.head_length);
        flow.stream.declare_origin();
        return Step::again;
    }
    flow.stream.consume(r.head_length + (r.body_length <= most_passed ? static_cast<std::size_t>(r.body_length) : 0));
    return Step::again;
}

// The frames of a connection that a request made a WebSocket.
Inspector::Step Inspector::step_frames(FlowContext& flow) {
    const Bytes view = flow.stream.view();
    const WebSocketFrame frame = read_client_frame(view, flow.stream.full(), inflater_);
    note(flow, frame.finding);
    if (frame.need_more)
        return Step::keep;
    if (frame.length == 0 || frame.length > most_passed) {
        flow.stage = Stage::request;
        return Step::settle;
    }
    flow.stream.consume(static_cast<std::size_t>(frame.length));
    return Step::again;
}

Inspector::Step Inspector::step_response(FlowContext& flow, const FlowContext* mirror) noexcept {
    const HttpResponse r = read_http_response(flow.stream.view());
    if (r.state == HttpState::not_http) {
        flow.stage = Stage::opening;
        return Step::settle;
    }
    flow.http_server |= r.state == HttpState::head;
    if (r.state != HttpState::head)
        return Step::keep;
    flow.stream.consume(r.head_length);
    flow.chunked = r.chunked;
    flow.framed = r.framed;
    if (r.torrent)
        note(flow, weighing(BT_EV_SIGNATURE));
    if (r.status / 100 == 1)
        return Step::again;
    if (r.status / 100 == 2 && mirror && mirror->asked_connect) {
        flow.proxied = true;
        flow.stage = Stage::opening;
        flow.stream.declare_origin();
    } else if (r.status == 200) {
        flow.stage = Stage::body;
    } else {
        return Step::settle; // the next response is found by its first bytes
    }
    return Step::again;
}

Inspector::Step Inspector::step_body(FlowContext& flow, const FlowContext* mirror) noexcept {
    const Bytes view = flow.stream.view();
    if (!flow.framed && view[0] != 'd') { // nothing announced a body: this may be the answer to CONNECT
        flow.proxied = true;
        flow.stage = Stage::opening;
        flow.stream.declare_origin();
        return Step::again;
    }
    const TrackerReply reply = read_tracker_reply(view, flow.chunked, flow.stream.full(), sink_);
    if (reply.need_more) {
        sink_.clear();
        return Step::keep;
    }
    note(flow, reply.finding);
    solicited_ = reply.finding.judgement == Judgement::proves && mirror && mirror->asked_tracker;
    flow.stage = Stage::response;
    return Step::settle;
}

} // namespace btblock::detect
