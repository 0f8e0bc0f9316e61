// SPDX-License-Identifier: MIT
// Message Stream Encryption as its specification has it: Diffie-Hellman with the 768 bit prime and generator 2, SHA-1,
// RC4 whose first 1024 bytes are dropped, paddings of 0 to 512 bytes. Both ends of one connection, turn by turn.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <sha1.h>
#include <string>
#include <utility>

namespace btblock::test::mse {

// Numbers modulo the prime, the least significant word first, in Montgomery's form while they are multiplied.
class Prime {
public:
    using Number = std::array<std::uint32_t, 24>;

    Prime() {
        std::uint64_t carry = 1;
        for (std::size_t i = 0; i < one_.size(); ++i) { // 2^768 - p, which is below p
            carry += ~p_[i];
            one_[i] = static_cast<std::uint32_t>(carry);
            carry >>= 32;
        }
        square_ = one_;
        for (int i = 0; i < 768; ++i)
            square_ = twice(square_);
        while (inverse_ * p_[0] != 1)
            inverse_ *= 2 - inverse_ * p_[0];
    }
    // base^exponent, big-endian as on the wire
    [[nodiscard]] std::string power(const Number& base, const std::array<std::uint32_t, 5>& exponent) const {
        Number result = one_, factor = times(base, square_);
        for (unsigned bit = 0; bit < 160; ++bit, factor = times(factor, factor))
            if (exponent[bit / 32] >> bit % 32 & 1)
                result = times(result, factor);
        result = times(result, Number{1});
        std::string bytes;
        for (std::size_t i = result.size(); i-- > 0;)
            for (int shift = 24; shift >= 0; shift -= 8)
                bytes += static_cast<char>(result[i] >> shift & 0xff);
        return bytes;
    }
    static Number read(const std::string& bytes) {
        Number n{};
        for (std::size_t i = 0; i < 96; ++i)
            n[(95 - i) / 4] |= std::uint32_t{static_cast<std::uint8_t>(bytes[i])} << (95 - i) % 4 * 8;
        return n;
    }

private:
    static bool less(const Number& a, const Number& b) {
        for (std::size_t i = a.size(); i-- > 0;)
            if (a[i] != b[i])
                return a[i] < b[i];
        return false;
    }
    [[nodiscard]] Number reduced(Number n, std::uint32_t carry) const {
        if (!carry && less(n, p_))
            return n;
        std::uint64_t borrow = 0;
        for (std::size_t i = 0; i < n.size(); ++i) {
            const std::uint64_t d = std::uint64_t{n[i]} - p_[i] - borrow;
            n[i] = static_cast<std::uint32_t>(d);
            borrow = d >> 63;
        }
        return n;
    }
    [[nodiscard]] Number twice(const Number& n) const {
        Number sum{};
        std::uint32_t carry = 0;
        for (std::size_t i = 0; i < n.size(); ++i) {
            sum[i] = n[i] << 1 | carry;
            carry = n[i] >> 31;
        }
        return reduced(sum, carry);
    }
    [[nodiscard]] Number times(const Number& a, const Number& b) const {
        std::array<std::uint32_t, 26> t{};
        for (const std::uint32_t word : a) {
            std::uint64_t c = 0;
            for (std::size_t i = 0; i < 24; ++i) {
                c += std::uint64_t{word} * b[i] + t[i];
                t[i] = static_cast<std::uint32_t>(c);
                c >>= 32;
            }
            c += t[24];
            t[24] = static_cast<std::uint32_t>(c);
            t[25] = static_cast<std::uint32_t>(c >> 32);
            const std::uint32_t m = t[0] * (0 - inverse_);
            c = (std::uint64_t{m} * p_[0] + t[0]) >> 32;
            for (std::size_t i = 1; i < 24; ++i) {
                c += std::uint64_t{m} * p_[i] + t[i];
                t[i - 1] = static_cast<std::uint32_t>(c);
                c >>= 32;
            }
            c += t[24];
            t[23] = static_cast<std::uint32_t>(c);
            t[24] = t[25] + static_cast<std::uint32_t>(c >> 32);
        }
        Number result;
        std::copy_n(t.begin(), result.size(), result.begin());
        return reduced(result, t[24]);
    }

    static constexpr Number p_{0x00090563, 0x00000000, 0xa63a3621, 0xf44c42e9, 0x625e7ec6, 0xe485b576,
                               0x6d51c245, 0x4fe1356d, 0xf25f1437, 0x302b0a6d, 0xcd3a431b, 0xef9519b3,
                               0x8e3404dd, 0x514a0879, 0x3b139b22, 0x020bbea6, 0x8a67cc74, 0x29024e08,
                               0x80dc1cd1, 0xc4c6628b, 0x2168c234, 0xc90fdaa2, 0xffffffff, 0xffffffff};
    Number one_{}, square_{};
    std::uint32_t inverse_ = 1; // of p modulo 2^32
};

inline std::string sha1(const std::string& text) {
    SHA1_CTX context;
    std::array<std::uint8_t, 20> digest{};
    SHA1Init(&context);
    SHA1Update(&context, reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    SHA1Final(digest.data(), &context);
    return {digest.begin(), digest.end()};
}

class Rc4 {
public:
    explicit Rc4(const std::string& key) {
        for (unsigned i = 0; i < 256; ++i)
            s_[i] = static_cast<std::uint8_t>(i);
        for (unsigned i = 0, j = 0; i < 256; ++i) {
            j = (j + s_[i] + static_cast<std::uint8_t>(key[i % key.size()])) & 255;
            std::swap(s_[i], s_[j]);
        }
        operator()(std::string(1024, 0));
    }
    std::string operator()(std::string text) {
        for (char& c : text) {
            i_ = (i_ + 1) & 255;
            j_ = (j_ + s_[i_]) & 255;
            std::swap(s_[i_], s_[j_]);
            c = static_cast<char>(c ^ s_[(s_[i_] + s_[j_]) & 255]);
        }
        return text;
    }

private:
    std::array<std::uint8_t, 256> s_{};
    unsigned i_ = 0, j_ = 0;
};

// What both sides send, the dialler first, until the peer handshakes have been exchanged. Some clients send theirs with
// the third turn, as the initial payload, others after the fourth.
inline std::array<std::string, 5> handshake(std::mt19937_64& rng, bool initial_payload) {
    static const Prime prime;
    const auto random = [&](std::size_t n) {
        std::string bytes(n, 0);
        for (char& c : bytes)
            c = static_cast<char>(rng() >> 40);
        return bytes;
    };
    const auto padding = [&] { return rng() % 513; };
    const auto exponent = [&] {
        std::array<std::uint32_t, 5> x{};
        for (std::uint32_t& word : x)
            word = static_cast<std::uint32_t>(rng() >> 32);
        return x;
    };
    const auto u16 = [](std::size_t n) { return std::string{static_cast<char>(n >> 8), static_cast<char>(n)}; };
    const auto a = exponent(), b = exponent();
    const std::string ya = prime.power({2}, a), yb = prime.power({2}, b);
    const std::string secret = prime.power(Prime::read(yb), a), hash = random(20);
    std::string peer = "\x13"
                       "BitTorrent protocol" +
                       std::string(8, 0) + hash + "-XX0001-" + random(12);

    Rc4 out(sha1("keyA" + secret + hash)), back(sha1("keyB" + secret + hash));
    std::string torrent = sha1("req2" + hash);
    const std::string mask = sha1("req3" + secret);
    for (std::size_t i = 0; i < torrent.size(); ++i)
        torrent[i] = static_cast<char>(torrent[i] ^ mask[i]);
    const std::string pad_c(padding(), 0), pad_d(padding(), 0), methods{0, 0, 0, 3}, rc4{0, 0, 0, 2};
    const std::string initial = initial_payload ? peer : "";

    std::array<std::string, 5> turns;
    turns[0] = ya + random(padding());
    turns[1] = yb + random(padding());
    turns[2] = sha1("req1" + secret) + torrent +
               out(std::string(8, 0) + methods + u16(pad_c.size()) + pad_c + u16(initial.size()) + initial);
    turns[3] = back(std::string(8, 0) + rc4 + u16(pad_d.size()) + pad_d + (initial_payload ? peer : ""));
    turns[4] = out(initial_payload ? std::string(5, 0) : peer);
    return turns;
}

// Both ends come to the same secret, or the arithmetic above is wrong.
inline bool agrees(std::mt19937_64& rng) {
    const Prime prime;
    std::array<std::uint32_t, 5> a{}, b{};
    for (std::size_t i = 0; i < a.size(); ++i) {
        a[i] = static_cast<std::uint32_t>(rng() >> 32);
        b[i] = static_cast<std::uint32_t>(rng() >> 32);
    }
    const auto ya = Prime::read(prime.power({2}, a)), yb = Prime::read(prime.power({2}, b));
    return prime.power(yb, a) == prime.power(ya, b) && ya != yb;
}

} // namespace btblock::test::mse
