// SPDX-License-Identifier: MIT
#include "detect/Http.h"
#include "target.h"

#include <array>

using namespace btblock::detect;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Bytes all(data, size);
    for (const bool last : {false, true}) {
        const HttpRequest r = read_http_request(all, last);
        FUZZ_REQUIRE(!r.finding.host_evidence);
        FUZZ_REQUIRE(r.state != HttpState::not_http || r.finding.judgement == Judgement::none);
        FUZZ_REQUIRE(r.head_length <= size && (r.state == HttpState::head) == (r.head_length > 0));
        FUZZ_REQUIRE(r.taken <= size && (r.taken == 0 || r.state == HttpState::incomplete));
        FUZZ_REQUIRE((r.taken == 0) == (r.line.taken == 0));
        // A long line without what was taken of it says the same, and makes room.
        if (r.taken != 0) {
            const HttpRequest rest = read_http_request(all.subspan(r.taken), last, r.line);
            FUZZ_REQUIRE(rest.state == HttpState::incomplete && rest.finding.judgement == r.finding.judgement);
            FUZZ_REQUIRE(rest.finding.evidence == r.finding.evidence);
            FUZZ_REQUIRE(size - r.taken < 512);
        }
    }
    const HttpResponse response = read_http_response(all);
    FUZZ_REQUIRE(response.head_length <= size && (response.state == HttpState::head) == (response.head_length > 0));
    for (const bool chunked : {false, true})
        for (const bool last : {false, true}) {
            std::array<bt_endpoint, 64> room{};
            EndpointSink sink(room);
            const TrackerReply reply = read_tracker_reply(all, chunked, last, sink);
            FUZZ_REQUIRE(!(last && reply.need_more));
        }
    (void)is_client_agent(as_text(all));
    return 0;
}
