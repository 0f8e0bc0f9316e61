// SPDX-License-Identifier: MIT
#include "detect/WebSocket.h"
#include "target.h"

using namespace btblock::detect;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Bytes all(data, size);
    Inflater inflater;
    for (const bool last : {false, true}) {
        const WebSocketFrame frame = read_client_frame(all, last, inflater);
        FUZZ_REQUIRE(!(last && frame.need_more));
        FUZZ_REQUIRE(!frame.finding.host_evidence);
        FUZZ_REQUIRE(is_client_frame(all) || (frame.length == 0 && frame.finding.judgement == Judgement::none));
        FUZZ_REQUIRE(frame.finding.judgement != Judgement::proves || (frame.length > 0 && !frame.need_more));
    }
    return 0;
}
