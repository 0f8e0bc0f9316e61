// SPDX-License-Identifier: MIT
#include "event/CommunityId.h"

#include <array>
#include <cstring>
#include <utility>

#include <netinet/in.h>
#include <openssl/evp.h>

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

    std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
    unsigned digest_size = 0;
    if (EVP_Digest(tuple.data(), tuple.size(), digest.data(), &digest_size, EVP_sha1(), nullptr) != 1)
        return {};
    std::array<unsigned char, (EVP_MAX_MD_SIZE + 2) / 3 * 4 + 1> base64;
    const int length = EVP_EncodeBlock(base64.data(), digest.data(), static_cast<int>(digest_size));
    return "1:" + std::string(reinterpret_cast<const char*>(base64.data()), static_cast<std::size_t>(length));
}

} // namespace btblock::event
