// SPDX-License-Identifier: MIT
#include "net/Address.h"

#include <algorithm>
#include <arpa/inet.h>
#include <charconv>
#include <iterator>

namespace btblock::net {

namespace {

constexpr unsigned char v4_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

// Bits of the 16-byte form that precede an IPv4 address.
constexpr unsigned v4_offset = 96;

} // namespace

Address Address::from_v4(const void* four_bytes) noexcept {
    Address a;
    std::memcpy(a.raw_.b, v4_mapped, sizeof v4_mapped);
    std::memcpy(a.raw_.b + sizeof v4_mapped, four_bytes, 4);
    return a;
}

Address Address::from_v6(const void* sixteen_bytes) noexcept {
    Address a;
    std::memcpy(a.raw_.b, sixteen_bytes, sizeof a.raw_.b);
    return a;
}

Result<Address> Address::parse(std::string_view text) {
    const std::string s(text);
    unsigned char bytes[16];
    if (s.find('\0') == std::string::npos) { // inet_pton would stop there and accept the rest
        if (inet_pton(AF_INET, s.c_str(), bytes) == 1)
            return from_v4(bytes);
        if (inet_pton(AF_INET6, s.c_str(), bytes) == 1)
            return from_v6(bytes);
    }
    return error("'" + s + "' is not an IPv4 or IPv6 address", ExitCode::usage);
}

bool Address::is_v4() const noexcept {
    return std::memcmp(raw_.b, v4_mapped, sizeof v4_mapped) == 0;
}

std::string Address::to_string() const {
    char text[INET6_ADDRSTRLEN];
    if (!is_v4()) {
        inet_ntop(AF_INET6, raw_.b, text, sizeof text);
        return text;
    }
    char* end = text; // inet_ntop goes through printf: most of the time of a long list
    for (std::size_t i = sizeof v4_mapped; i < sizeof raw_.b; ++i) {
        if (end != text)
            *end++ = '.';
        end = std::to_chars(end, std::end(text), raw_.b[i]).ptr;
    }
    return {text, end};
}

Prefix::Prefix(const Address& address, unsigned length) noexcept
    : length_(std::min(length, address.is_v4() ? 32u : 128u)) {
    bt_addr raw = address.raw();
    const unsigned bits = length_ + (address.is_v4() ? v4_offset : 0);
    for (unsigned i = 0; i < 16; ++i) {
        const unsigned kept = bits > 8 * i ? std::min(bits - 8 * i, 8u) : 0;
        raw.b[i] &= static_cast<unsigned char>(0xff00u >> kept);
    }
    address_ = Address(raw);
}

Result<Prefix> Prefix::parse(std::string_view text) {
    const auto slash = text.find('/');
    auto address = Address::parse(text.substr(0, slash));
    if (!address)
        return error("'" + std::string(text) + "' is not an address or prefix", ExitCode::usage);
    const unsigned longest = address->is_v4() ? 32 : 128;
    if (slash == std::string_view::npos)
        return Prefix(*address, longest);
    const std::string_view digits = text.substr(slash + 1);
    unsigned length = 0;
    const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
    if (failed != std::errc{} || end != digits.data() + digits.size() || length > longest)
        return error("'" + std::string(text) + "': the prefix length must be 0 to " + std::to_string(longest),
                     ExitCode::usage);
    return Prefix(*address, length);
}

Prefix Prefix::from_lpm(const bt_lpm_key& key) noexcept {
    const Address address(key.addr);
    return {address, address.is_v4() && key.prefixlen >= v4_offset ? key.prefixlen - v4_offset : key.prefixlen};
}

bool Prefix::contains(const Address& address) const noexcept {
    return address.is_v4() == address_.is_v4() && Prefix(address, length_).address() == address_;
}

bt_lpm_key Prefix::lpm() const noexcept {
    return {length_ + (address_.is_v4() ? v4_offset : 0), address_.raw()};
}

std::string Prefix::to_string() const {
    std::string text = address_.to_string();
    if (length_ != (address_.is_v4() ? 32u : 128u))
        text += "/" + std::to_string(length_);
    return text;
}

std::string endpoint_string(const Address& address, unsigned port) {
    const std::string text = address.to_string();
    return (address.is_v4() ? text : "[" + text + "]") + ":" + std::to_string(port);
}

} // namespace btblock::net
