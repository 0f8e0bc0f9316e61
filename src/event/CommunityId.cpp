// SPDX-License-Identifier: MIT
#include "event/CommunityId.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <netinet/in.h>
#include <sha1.h>

namespace btblock::event {
namespace {

class Writer {
public:
    void put(const void* data, std::size_t size) noexcept {
        std::memcpy(bytes_.data() + size_, data, size);
        size_ += size;
    }
    void put16(std::uint16_t value) noexcept {
        const std::uint8_t big_endian[2] = {static_cast<std::uint8_t>(value >> 8), static_cast<std::uint8_t>(value)};
        put(big_endian, sizeof big_endian);
    }
    [[nodiscard]] const std::uint8_t* data() const noexcept { return bytes_.data(); }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

private:
    std::array<std::uint8_t, 2 + 16 + 16 + 2 + 2 + 2> bytes_{}; // seed, addresses, protocol and padding, ports
    std::size_t size_ = 0;
};

// RFC 4648, with padding.
std::string base64(const std::array<std::uint8_t, SHA1_DIGEST_LENGTH>& bytes) {
    static constexpr char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        const std::size_t have = std::min<std::size_t>(3, bytes.size() - i);
        std::uint32_t group = 0;
        for (std::size_t k = 0; k < 3; ++k)
            group = group << 8 | (k < have ? bytes[i + k] : 0u);
        for (std::size_t k = 0; k < 4; ++k)
            text += k <= have ? alphabet[group >> (18 - 6 * k) & 63] : '=';
    }
    return text;
}

} // namespace

std::string community_id(const net::Address& src, std::uint16_t src_port, const net::Address& dst,
                         std::uint16_t dst_port, std::uint8_t proto, std::uint16_t seed) {
    if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
        return {};
    const net::Address* low = &src;
    const net::Address* high = &dst;
    if (*high < *low || (*high == *low && dst_port < src_port)) {
        std::swap(low, high);
        std::swap(src_port, dst_port);
    }
    const bool v4 = low->is_v4() && high->is_v4();
    const std::size_t skip = v4 ? 12 : 0;
    Writer tuple;
    tuple.put16(seed);
    tuple.put(low->raw().b + skip, 16 - skip);
    tuple.put(high->raw().b + skip, 16 - skip);
    tuple.put16(static_cast<std::uint16_t>(proto << 8)); // protocol, padding
    tuple.put16(src_port);
    tuple.put16(dst_port);

    SHA1_CTX sha1;
    std::array<std::uint8_t, SHA1_DIGEST_LENGTH> digest;
    SHA1Init(&sha1);
    SHA1Update(&sha1, tuple.data(), tuple.size());
    SHA1Final(digest.data(), &sha1);
    return "1:" + base64(digest);
}

} // namespace btblock::event
