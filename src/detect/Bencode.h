// SPDX-License-Identifier: MIT
// A pull parser for bencode (BEP 3) over bytes that may end too early. Strict, without allocations.
#pragma once

#include "detect/Bytes.h"

#include <array>

namespace btblock::detect::bencode {

enum class Status : std::uint8_t {
    ok,
    truncated, // correct as far as the bytes go
    malformed,
};

// The caller pulls what it expects: `while (r.next_key(key)) ... r.read_string(value) ... r.skip()`.
// Once something fails every later call fails too and status() says why. A container's end is consumed by the
// next_key() or next_item() that returns false with status() still ok.
class Reader {
public:
    static constexpr unsigned max_depth = 16;

    explicit Reader(Bytes bytes) noexcept : bytes_(bytes) {}

    bool enter_dict() noexcept { return enter('d'); }
    bool enter_list() noexcept { return enter('l'); }
    bool next_key(Bytes& key) noexcept;
    bool next_item() noexcept;

    // Canonical only: no leading zeros, no "-0", within 64 bits. Magnitudes from 2^63 to 2^64-1 are accepted (some
    // clients print unsigned counters) and saturate.
    bool read_integer(std::int64_t& value) noexcept;
    bool read_string(Bytes& value) noexcept;
    // A string whose tail may be missing: true as soon as its length is known. A cut one leaves status() truncated.
    bool read_cut_string(Bytes& available, std::size_t& declared) noexcept;
    // Any one value.
    bool skip() noexcept;

    // First byte of the next value ('i', 'l', 'd', a digit) or 0 at the end of the bytes.
    [[nodiscard]] std::uint8_t peek() const noexcept { return at_ < bytes_.size() ? bytes_[at_] : std::uint8_t{0}; }
    [[nodiscard]] Status status() const noexcept { return status_; }
    [[nodiscard]] std::size_t offset() const noexcept { return at_; }
    // All bytes used, every container closed, nothing wrong.
    [[nodiscard]] bool finished() const noexcept {
        return status_ == Status::ok && depth_ == 0 && at_ == bytes_.size();
    }
    // No dictionary so far had its keys out of order or twice. BEP 3 demands it; real clients do not always obey.
    [[nodiscard]] bool sorted() const noexcept { return sorted_; }

private:
    bool enter(std::uint8_t kind) noexcept;
    bool leave_at_end() noexcept;
    bool read_length(std::size_t& length) noexcept;
    bool fail(Status why) noexcept {
        status_ = why;
        return false;
    }

    Bytes bytes_;
    std::size_t at_ = 0;
    unsigned depth_ = 0;
    Status status_ = Status::ok;
    bool sorted_ = true;
    std::array<Bytes, max_depth + 1> last_key_{};
};

// Exactly one value and nothing after it.
bool is_complete_value(Bytes bytes) noexcept;

} // namespace btblock::detect::bencode
