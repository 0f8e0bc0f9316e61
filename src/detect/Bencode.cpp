// SPDX-License-Identifier: MIT
#include "detect/Bencode.h"

#include <limits>

namespace btblock::detect::bencode {

bool Reader::enter(std::uint8_t kind) noexcept {
    if (status_ != Status::ok)
        return false;
    if (at_ == bytes_.size())
        return fail(Status::truncated);
    if (bytes_[at_] != kind || depth_ == max_depth)
        return fail(Status::malformed);
    ++at_;
    last_key_[++depth_] = {};
    return true;
}

// At the 'e' of a container: steps over it. False also when there is nothing left to look at.
bool Reader::leave_at_end() noexcept {
    if (status_ != Status::ok)
        return true;
    if (depth_ == 0) {
        fail(Status::malformed);
        return true;
    }
    if (at_ == bytes_.size()) {
        fail(Status::truncated);
        return true;
    }
    if (bytes_[at_] != 'e')
        return false;
    ++at_;
    --depth_;
    return true;
}

bool Reader::next_key(Bytes& key) noexcept {
    if (leave_at_end() || !read_string(key))
        return false;
    const Bytes last = last_key_[depth_];
    if (last.data() != nullptr && as_text(key) <= as_text(last))
        sorted_ = false;
    last_key_[depth_] = key;
    return true;
}

bool Reader::next_item() noexcept {
    return !leave_at_end();
}

bool Reader::read_integer(std::int64_t& value) noexcept {
    if (status_ != Status::ok)
        return false;
    std::size_t i = at_;
    const auto end = bytes_.size();
    if (i == end)
        return fail(Status::truncated);
    if (bytes_[i++] != 'i')
        return fail(Status::malformed);
    bool negative = false;
    if (i < end && bytes_[i] == '-') {
        negative = true;
        ++i;
    }
    std::uint64_t magnitude = 0;
    const std::size_t first = i;
    for (; i < end && is_digit(bytes_[i]); ++i) {
        const std::uint64_t digit = bytes_[i] - '0';
        if (i > first && bytes_[first] == '0')
            return fail(Status::malformed);
        if (magnitude > (std::numeric_limits<std::uint64_t>::max() - digit) / 10)
            return fail(Status::malformed);
        magnitude = magnitude * 10 + digit;
    }
    if (i == end)
        return fail(Status::truncated);
    if (i == first || bytes_[i] != 'e' || (negative && magnitude == 0))
        return fail(Status::malformed);
    constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    const auto small = static_cast<std::int64_t>(magnitude < most ? magnitude : most);
    value = negative ? -small : small;
    at_ = i + 1;
    return true;
}

bool Reader::read_length(std::size_t& length) noexcept {
    if (status_ != Status::ok)
        return false;
    std::size_t i = at_;
    const auto end = bytes_.size();
    if (i == end)
        return fail(Status::truncated);
    if (!is_digit(bytes_[i]))
        return fail(Status::malformed);
    std::size_t n = 0;
    const std::size_t first = i;
    for (; i < end && is_digit(bytes_[i]); ++i) {
        // Eight digits are far beyond any packet and cannot overflow.
        if (i - first == 8 || (i > first && bytes_[first] == '0'))
            return fail(Status::malformed);
        n = n * 10 + static_cast<std::size_t>(bytes_[i] - '0');
    }
    if (i == end)
        return fail(Status::truncated);
    if (bytes_[i] != ':')
        return fail(Status::malformed);
    at_ = i + 1;
    length = n;
    return true;
}

bool Reader::read_string(Bytes& value) noexcept {
    std::size_t declared = 0;
    return read_cut_string(value, declared) && status_ == Status::ok;
}

bool Reader::read_cut_string(Bytes& available, std::size_t& declared) noexcept {
    if (!read_length(declared))
        return false;
    const std::size_t left = bytes_.size() - at_;
    const std::size_t n = declared < left ? declared : left;
    available = bytes_.subspan(at_, n);
    at_ += n;
    if (n < declared)
        status_ = Status::truncated;
    return true;
}

// Recursion is bounded by max_depth: enter() refuses to go deeper.
bool Reader::skip() noexcept {
    if (status_ != Status::ok)
        return false;
    Bytes ignored;
    switch (peek()) {
    case 'i': {
        std::int64_t number = 0;
        return read_integer(number);
    }
    case 'd':
        if (!enter_dict())
            return false;
        while (next_key(ignored))
            if (!skip())
                return false;
        return status_ == Status::ok;
    case 'l':
        if (!enter_list())
            return false;
        while (next_item())
            if (!skip())
                return false;
        return status_ == Status::ok;
    default: return read_string(ignored);
    }
}

bool is_complete_value(Bytes bytes) noexcept {
    Reader reader(bytes);
    return reader.skip() && reader.finished();
}

} // namespace btblock::detect::bencode
