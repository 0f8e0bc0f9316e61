// SPDX-License-Identifier: MIT
#include "detect/Bencode.h"
#include "detect/Dht.h"
#include "detect/Extension.h"
#include "target.h"

#include <array>

using namespace btblock::detect;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Bytes all(data, size);
    std::array<bt_endpoint, 64> room{};
    EndpointSink sink(room);
    const Finding f = inspect_dht(all, sink);
    FUZZ_REQUIRE(sink.size() <= room.size());
    if (f.judgement != Judgement::none) {
        FUZZ_REQUIRE(bencode::is_complete_value(all) && data[0] == 'd');
        FUZZ_REQUIRE(f.evidence != 0);
    } else {
        FUZZ_REQUIRE(sink.size() == 0);
    }
    sink.clear();
    (void)read_extension_handshake(all);
    (void)read_extension_message(all, sink);
    return 0;
}
