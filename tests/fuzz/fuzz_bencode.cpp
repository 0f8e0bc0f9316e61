// SPDX-License-Identifier: MIT
#include "detect/Bencode.h"
#include "target.h"

using namespace btblock::detect;
using bencode::Reader;
using bencode::Status;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Bytes all(data, size);
    Reader r(all);
    const bool ok = r.skip();
    FUZZ_REQUIRE(r.offset() <= size);
    FUZZ_REQUIRE(ok == (r.status() == Status::ok));
    if (ok) {
        // A value cut anywhere is truncated, never malformed and never whole; one cut is enough a run.
        const std::size_t length = r.offset();
        const std::size_t cut = length == 0 ? 0 : data[length / 2] % length;
        Reader again(all.first(cut));
        FUZZ_REQUIRE(!again.skip() && again.status() == Status::truncated);
    }
    Reader pull(all);
    Bytes key, value;
    std::size_t declared = 0;
    std::int64_t number = 0;
    if (!pull.enter_dict())
        return 0;
    while (pull.next_key(key)) {
        if (pull.peek() == 'i') {
            pull.read_integer(number);
        } else if (pull.peek() == 'l' || pull.peek() == 'd') {
            pull.skip();
        } else if (pull.read_cut_string(value, declared)) {
            FUZZ_REQUIRE(value.size() <= declared && value.data() >= data &&
                         value.data() + value.size() <= data + size);
        }
    }
    return 0;
}
