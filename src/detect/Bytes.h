// SPDX-License-Identifier: MIT
// Reading bytes off the wire: big-endian integers and comparisons that never leave the span.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace btblock::detect {

using Bytes = std::span<const std::uint8_t>;

// The caller has checked that the bytes are there.
inline std::uint16_t be16(const std::uint8_t* p) noexcept {
    return static_cast<std::uint16_t>(p[0] << 8 | p[1]);
}
inline std::uint32_t be32(const std::uint8_t* p) noexcept {
    return static_cast<std::uint32_t>(p[0]) << 24 | static_cast<std::uint32_t>(p[1]) << 16 |
           static_cast<std::uint32_t>(p[2]) << 8 | p[3];
}
inline std::uint64_t be64(const std::uint8_t* p) noexcept {
    return static_cast<std::uint64_t>(be32(p)) << 32 | be32(p + 4);
}

// How far a payload agrees with a signature at its first byte. partial: it ended before the signature did.
enum class Match : std::uint8_t { no, partial, full };

inline Match match(Bytes bytes, std::string_view signature) noexcept {
    const std::size_t n = bytes.size() < signature.size() ? bytes.size() : signature.size();
    for (std::size_t i = 0; i < n; ++i)
        if (bytes[i] != static_cast<std::uint8_t>(signature[i]))
            return Match::no;
    return n == signature.size() ? Match::full : Match::partial;
}

inline bool starts_with(Bytes bytes, std::string_view text) noexcept {
    return match(bytes, text) == Match::full;
}
inline bool equals(Bytes bytes, std::string_view text) noexcept {
    return bytes.size() == text.size() && starts_with(bytes, text);
}

inline std::string_view as_text(Bytes bytes) noexcept {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline bool is_digit(std::uint8_t c) noexcept {
    return c >= '0' && c <= '9';
}
inline bool is_alnum(std::uint8_t c) noexcept {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
inline bool is_printable(std::uint8_t c) noexcept {
    return c >= 0x20 && c <= 0x7e;
}

} // namespace btblock::detect
