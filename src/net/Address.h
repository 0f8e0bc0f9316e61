// SPDX-License-Identifier: MIT
// Addresses, prefixes and endpoints as text and as the 16 bytes the kernel programs use.
#pragma once

#include "btblock/abi.h"
#include "core/Result.h"

#include <compare>
#include <cstring>
#include <string>
#include <string_view>

namespace btblock::net {

// An IPv4 or IPv6 address; IPv4 is held as ::ffff:a.b.c.d.
class Address {
public:
    Address() = default;
    explicit Address(const bt_addr& raw) noexcept : raw_(raw) {}

    // "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1" (the same as the first).
    static Result<Address> parse(std::string_view text);
    static Address from_v4(const void* four_bytes) noexcept;
    static Address from_v6(const void* sixteen_bytes) noexcept;

    [[nodiscard]] bool is_v4() const noexcept;
    [[nodiscard]] const bt_addr& raw() const noexcept { return raw_; }
    // IPv4 in dotted form, IPv6 in RFC 5952 form.
    [[nodiscard]] std::string to_string() const;

    friend bool operator==(const Address& a, const Address& b) noexcept {
        return std::memcmp(a.raw_.b, b.raw_.b, sizeof a.raw_.b) == 0;
    }
    friend std::strong_ordering operator<=>(const Address& a, const Address& b) noexcept {
        return std::memcmp(a.raw_.b, b.raw_.b, sizeof a.raw_.b) <=> 0;
    }

private:
    bt_addr raw_{};
};

// A prefix with its host bits cleared. The length counts within the family (0..32 or 0..128).
class Prefix {
public:
    Prefix() = default;
    Prefix(const Address& address, unsigned length) noexcept; // length is clamped to the family

    // "192.0.2.0/24", "2001:db8::/32", or a bare address (its full length).
    static Result<Prefix> parse(std::string_view text);
    static Prefix from_lpm(const bt_lpm_key& key) noexcept;

    [[nodiscard]] const Address& address() const noexcept { return address_; }
    [[nodiscard]] unsigned length() const noexcept { return length_; }
    [[nodiscard]] bool contains(const Address& address) const noexcept;
    [[nodiscard]] bt_lpm_key lpm() const noexcept; // IPv4 lengths + 96
    // A full-length prefix prints as the bare address.
    [[nodiscard]] std::string to_string() const;

    friend bool operator==(const Prefix&, const Prefix&) noexcept = default;

private:
    Address address_;
    unsigned length_ = 0;
};

// "192.0.2.1:80" or "[2001:db8::1]:80"
std::string endpoint_string(const Address& address, unsigned port);

} // namespace btblock::net
