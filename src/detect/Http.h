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

// What the beginning of a request line said whose bytes are no longer there.
struct RequestLine {
    static constexpr std::uint32_t longest = 32768; // that is followed

    std::uint32_t taken = 0; // bytes of the target; 0: nothing yet
    std::uint32_t words = 0; // of trackers' parameters, among the first bytes: query_word()
    bool query : 1 = false;  // past the '?'
    bool inside : 1 = false; // the bytes that follow belong to a parameter that was read
    // The path:
    bool scrape : 1 = false;    // contains the word
    bool data : 1 = false;      // ends so
    bool torrent : 1 = false;   // names a torrent file
    bool path_word : 1 = false; // ends as a tracker's
    // Parameters that trackers and web seeds use:
    bool hash : 1 = false, several_hashes : 1 = false; // info_hash of exactly 20 bytes
    bool wrong_hash : 1 = false;                       // and of any other length
    bool binary_hash : 1 = false;
    bool port : 1 = false, peer_id : 1 = false, piece : 1 = false;
    bool fid : 1 = false, size : 1 = false;
};

struct HttpRequest {
    HttpState state = HttpState::not_http;
    Finding finding; // of what is there; host_evidence is always false
    bool connect = false;
    std::size_t head_length = 0;   // head: bytes up to and including the empty line
    std::uint64_t body_length = 0; // head: Content-Length, 0 without one
    // incomplete: so many bytes may go when `line` is handed in with those that follow them.
    std::size_t taken = 0;
    RequestLine line;
};

// The request that starts at the first byte, or whose line goes on there after what `before` has of it. `all`: no more
// bytes of it can be had, judge what is there.
HttpRequest read_http_request(Bytes stream, bool all, const RequestLine& before = {}) noexcept;

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
