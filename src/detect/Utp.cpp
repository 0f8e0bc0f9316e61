// SPDX-License-Identifier: MIT
#include "detect/Utp.h"

namespace btblock::detect {

UtpShape read_utp(Bytes d) noexcept {
    constexpr std::size_t header = 20;
    constexpr unsigned type_data = 0, type_syn = 4, most_extensions = 4;
    UtpShape shape;
    if (d.size() < header || (d[0] & 0x0f) != 1 || d[0] >> 4 > type_syn)
        return shape;
    std::size_t at = header;
    std::uint8_t next = d[1];
    for (unsigned i = 0; next != 0; ++i) {
        if (i == most_extensions || at + 2 > d.size())
            return shape;
        next = d[at];
        const std::size_t length = d[at + 1];
        if (length == 0 || length % 4 != 0) {
            // Selective acks come in fours; libutp's extension bits are eight bytes.
            return shape;
        }
        at += 2 + length;
    }
    if (at > d.size())
        return shape;
    shape.valid = true;
    const unsigned type = d[0] >> 4;
    if (type == type_data)
        shape.data = d.subspan(at);
    shape.strict_syn = type == type_syn && at == d.size() && be32(d.data() + 8) == 0 && be16(d.data() + 18) == 0;
    return shape;
}

} // namespace btblock::detect
