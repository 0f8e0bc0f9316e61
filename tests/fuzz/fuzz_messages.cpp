// SPDX-License-Identifier: MIT
#include "detect/Messages.h"
#include "target.h"

#include <array>

using namespace btblock::detect;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    for (const bool all : {false, true}) {
        std::array<bt_endpoint, 64> room{};
        EndpointSink sink(room);
        MessageChain chain;
        Bytes rest(data, size);
        while (!rest.empty()) {
            const Message m = read_message(rest, all, sink);
            FUZZ_REQUIRE(!(all && m.shape == Shape::need_more));
            if (!chain.add(m))
                break;
            FUZZ_REQUIRE(m.total >= 4);
            if (m.total >= rest.size())
                break;
            rest = rest.subspan(m.total);
        }
        FUZZ_REQUIRE(!chain.proves() || chain.evidence() != 0);
    }
    return 0;
}
