// SPDX-License-Identifier: MIT
// HTTP/1.x as trackers (BEP 3, 7, 23, 48), web seeds (BEP 17, 19) and clients use it.
#pragma once

#include "detect/EndpointSink.h"
#include "detect/Finding.h"

namespace btblock::detect {

enum class HttpState : std::uint8_t {
    not_http,
    incomplete, // the request or status line is still to be completed
    line,       // the line is whole and judged, header fields still come
    head,       // all header fields are there
};

struct HttpRequest {
    HttpState state = HttpState::not_http;
    Finding finding; // of what is there; host_evidence is always false
    bool connect = false;
    std::size_t head_length = 0;   // head: bytes up to and including the empty line
    std::uint64_t body_length = 0; // head: Content-Length, 0 without one
};

// The request that starts at the first byte. `all`: no more bytes of it can be had, judge what is there.
HttpRequest read_http_request(Bytes stream, bool all) noexcept;

// Does a request start here? partial: the bytes end inside the method.
Match match_http_request(Bytes stream) noexcept;

struct HttpResponse {
    HttpState state = HttpState::not_http;
    unsigned status = 0;
    bool chunked = false;
    bool framed = false;  // says something about a body: so it is no answer to CONNECT (RFC 9110, 9.3.6)
    bool torrent = false; // the body is a torrent file
    std::size_t head_length = 0;
};

HttpResponse read_http_response(Bytes stream) noexcept;

struct TrackerReply {
    Finding finding;
    bool need_more = false;
};

// The body of a response: a tracker's answer proves (interval and peers, or scrape's files). A refusal only weighs, and
// so do the keys of a torrent file. The body may be cut; peers that are there go to `named`.
TrackerReply read_tracker_reply(Bytes body, bool chunked, bool all, EndpointSink& named) noexcept;

// A User-Agent value of a BitTorrent client.
bool is_client_agent(std::string_view value) noexcept;

} // namespace btblock::detect
