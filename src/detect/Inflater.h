// SPDX-License-Identifier: MIT
// Raw DEFLATE (RFC 1951), as compressed WebSocket messages carry it (RFC 7692).
#pragma once

#include "detect/Bytes.h"

#include <memory>
#include <optional>
#include <span>

struct z_stream_s;

namespace btblock::detect {

// Takes its memory (some 40 KiB) when it is used for the first time. Not for several threads.
class Inflater {
public:
    // The beginning of what `compressed`, which may be cut, stands for, as far as it fits into `room`. Nothing: it is
    // no DEFLATE, or refers to what came before it.
    std::optional<std::string_view> inflate(Bytes compressed, std::span<char> room) noexcept;

private:
    struct End {
        void operator()(z_stream_s* stream) const noexcept;
    };

    std::unique_ptr<z_stream_s, End> stream_;
};

} // namespace btblock::detect
