// SPDX-License-Identifier: MIT
#include "detect/Socks.h"
#include "detect/Utp.h"
#include "target.h"

using namespace btblock::detect;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Bytes all(data, size);
    for (auto* read : {&read_socks_client, &read_socks_server}) {
        const SocksTurns turns = (*read)(all);
        FUZZ_REQUIRE(turns.length <= size && (turns.match == Match::full) == (turns.length > 0));
        if (turns.match == Match::full && size > 0) {
            // More bytes change nothing, fewer leave it open.
            FUZZ_REQUIRE((*read)(all.first(turns.length)).length == turns.length);
            FUZZ_REQUIRE((*read)(all.first(data[size - 1] % turns.length)).match == Match::partial);
        }
    }
    if (const auto inside = unwrap_socks_udp(all))
        FUZZ_REQUIRE(!inside->empty() && inside->data() + inside->size() == data + size);
    const UtpShape shape = read_utp(all);
    FUZZ_REQUIRE(shape.data.empty() || shape.data.data() + shape.data.size() == data + size);
    return 0;
}
