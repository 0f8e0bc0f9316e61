// SPDX-License-Identifier: MIT
#include "detect/Messages.h"

#include <bit>

namespace btblock::detect {
namespace {

enum Id : std::uint8_t {
    choke,
    unchoke,
    interested,
    not_interested,
    have,
    bitfield,
    request,
    piece,
    cancel,
    port,
    suggest = 13,
    have_all,
    have_none,
    reject,
    allowed_fast,
    extended = 20,
    hash_request,
    hashes,
    hash_reject,
    keep_alive = 0xff,
};

constexpr std::uint32_t block = 1u << 14;       // what every client requests
constexpr std::uint32_t most_block = 1u << 17;  // what old clients accepted
constexpr std::uint32_t most_pieces = 1u << 22; // far above the largest torrents
constexpr std::uint32_t most_piece = 1u << 29;  // bytes in a piece

bool is_aligned(std::uint32_t begin) noexcept {
    return begin % block == 0 && begin < most_piece;
}

Shape request_shape(const std::uint8_t* body) noexcept {
    const std::uint32_t index = be32(body), begin = be32(body + 4), length = be32(body + 8);
    if (index >= most_pieces || begin >= most_piece || length == 0 || length > most_block)
        return Shape::invalid;
    if (!is_aligned(begin))
        return Shape::weak;
    return length % block == 0 ? Shape::strong : Shape::plausible; // the last block of a torrent is shorter
}

Shape piece_shape(std::uint32_t length, const std::uint8_t* body) noexcept {
    const std::uint32_t index = be32(body), begin = be32(body + 4);
    if (index >= most_pieces || begin >= most_piece)
        return Shape::invalid;
    if (!is_aligned(begin))
        return Shape::weak;
    return (length - 9) % block == 0 ? Shape::strong : Shape::plausible;
}

// pieces_root 32, base_layer, index, length, proof_layers: BEP 52 wants a power of two that divides the index.
Shape hash_shape(std::uint8_t id, std::uint32_t body_length, const std::uint8_t* body) noexcept {
    const std::uint32_t base = be32(body + 32), index = be32(body + 36), count = be32(body + 40),
                        proof = be32(body + 44);
    if (base > 40 || proof > 40 || count < 2 || count > 8192 || !std::has_single_bit(count) || index % count != 0)
        return Shape::invalid;
    const std::uint32_t given = (body_length - 48) / 32;
    if (id == hashes && (given < count || given > count + proof))
        return Shape::invalid;
    return Shape::strong;
}

Message extended_message(Bytes stream, std::uint32_t length, bool all, EndpointSink& named) noexcept {
    Message m{Shape::invalid, 4 + length, extended, Extended::none};
    if (length < 3 || length > (1u << 20))
        return m;
    if (stream.size() < 7) {
        m.shape = all ? Shape::invalid : Shape::need_more;
        return m;
    }
    const std::uint8_t sub = stream[5];
    const std::size_t payload = length - 2;
    const bool whole = stream.size() >= m.total;
    const Bytes there = stream.subspan(6, whole ? payload : stream.size() - 6);
    // Holepunch is the only extension without a dictionary at the front.
    if (there[0] != 'd' && payload != 12 && payload != 24) {
        m.shape = Shape::weak;
        return m;
    }
    if (!whole && !all) {
        m.shape = Shape::need_more;
        return m;
    }
    m.extended = sub == 0 ? read_extension_handshake(there) : read_extension_message(there, named);
    if (!whole && m.extended != Extended::cut)
        m.extended = Extended::none;
    switch (m.extended) {
    case Extended::handshake:
    case Extended::pex:
    case Extended::metadata: m.shape = Shape::strong; break;
    case Extended::holepunch:
    case Extended::cut:
    case Extended::other: m.shape = Shape::plausible; break;
    case Extended::none: m.shape = sub == 0 ? Shape::invalid : Shape::weak; break;
    }
    return m;
}

} // namespace

Message read_message(Bytes s, bool all, EndpointSink& named) noexcept {
    Message m;
    const auto with = [&m](Shape shape) {
        m.shape = shape;
        return m;
    };
    if (s.empty())
        return with(all ? Shape::invalid : Shape::need_more);
    if (s[0] != 0) // nothing is 16 MiB long
        return m;
    if (s.size() < 4)
        return with(all ? Shape::invalid : Shape::need_more);
    const std::uint32_t length = be32(s.data());
    m.total = 4 + length;
    if (length == 0)
        return with(Shape::weak);
    if (s.size() < 5)
        return with(all ? Shape::invalid : Shape::need_more);
    m.id = s[4];
    const std::uint8_t* body = s.data() + 5;
    const std::size_t there = s.size() - 5;
    const auto lacks = [&](std::size_t n) { return there < n; };
    const Shape more = all ? Shape::invalid : Shape::need_more;
    switch (m.id) {
    case choke:
    case unchoke:
    case interested:
    case not_interested:
    case have_all:
    case have_none: return with(length == 1 ? Shape::weak : Shape::invalid);
    case have:
    case suggest:
    case allowed_fast:
        if (length != 5)
            return m;
        if (lacks(4))
            return with(more);
        return with(be32(body) < most_pieces ? Shape::plausible : Shape::invalid);
    case bitfield: return with(length >= 2 && length <= 1 + most_pieces / 8 ? Shape::weak : Shape::invalid);
    case request:
    case cancel:
    case reject:
        if (length != 13)
            return m;
        return with(lacks(12) ? more : request_shape(body));
    case piece:
        if (length < 10 || length > 9 + most_block)
            return m;
        return with(lacks(8) ? more : piece_shape(length, body));
    case port:
        if (length != 3)
            return m;
        if (lacks(2))
            return with(more);
        return with(be16(body) != 0 ? Shape::plausible : Shape::invalid);
    case extended: return extended_message(s, length, all, named);
    case hash_request:
    case hash_reject:
        if (length != 49)
            return m;
        return with(lacks(48) ? more : hash_shape(m.id, 48, body));
    case hashes:
        if (length < 49 + 64 || length > 49 + 32 * (8192 + 40) || (length - 49) % 32 != 0)
            return m;
        return with(lacks(48) ? more : hash_shape(m.id, length - 1, body));
    default: return m;
    }
}

bool MessageChain::add(const Message& m) noexcept {
    if (m.shape == Shape::invalid || m.shape == Shape::need_more)
        return false;
    if (m.id == keep_alive)
        return true;
    // What a peer has is told once: as a bitfield or as one of its two short forms.
    constexpr std::uint32_t once = 1u << bitfield | 1u << have_all | 1u << have_none;
    if ((once >> m.id & 1) && (seen_ids_ & once))
        return false;
    seen_ids_ |= 1u << m.id;
    if (messages_ < 0xffff)
        ++messages_;
    if (m.shape == Shape::plausible && plausible_ < 0xffff)
        ++plausible_;
    if (m.shape == Shape::strong && strong_ < 0xffff)
        ++strong_;
    extension_ |= m.extended == Extended::handshake || m.extended == Extended::pex || m.extended == Extended::metadata;
    return true;
}

std::uint32_t MessageChain::evidence() const noexcept {
    constexpr std::uint32_t fast = 1u << suggest | 1u << have_all | 1u << have_none | 1u << reject | 1u << allowed_fast;
    std::uint32_t mask = 0;
    if (seen_ids_ & ~(fast | 1u << extended))
        mask |= BT_EV_BIT(BT_EV_TCP_MESSAGE);
    if (seen_ids_ & fast)
        mask |= BT_EV_BIT(BT_EV_TCP_FAST);
    if (extension_)
        mask |= BT_EV_BIT(BT_EV_TCP_EXTENSION);
    return mask;
}

unsigned MessageChain::kinds() const noexcept {
    return static_cast<unsigned>(std::popcount(seen_ids_));
}

} // namespace btblock::detect
