// SPDX-License-Identifier: MIT
#include "detect/Assembly.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace btblock::detect {
namespace {

constexpr std::int32_t window = 1 << 24;

std::int32_t distance(std::uint32_t from, std::uint32_t to) noexcept {
    return static_cast<std::int32_t>(to - from);
}

} // namespace

bool Assembly::is_foreign(std::uint32_t seq, bool has_seq) const noexcept {
    if (!has_seq || !anchored_ || !numbered_)
        return false;
    const std::int32_t d = distance(seq_, seq);
    return d > window || d < -window;
}

bool Assembly::passes_over(std::uint32_t seq, bool has_seq, std::size_t length) const noexcept {
    if (!anchored_ || settled_)
        return false;
    if (!has_seq || !numbered_)
        return pass_ > 0;
    const std::int32_t at = distance(seq_, seq);
    return at < 0 && static_cast<std::size_t>(-static_cast<std::int64_t>(at)) >= length;
}

bool Assembly::precedes_all(std::uint32_t seq, bool has_seq, std::size_t length) const noexcept {
    if (!has_seq || !numbered_)
        return false;
    const std::int32_t before = distance(seq, lowest_);
    return before > 0 && static_cast<std::size_t>(before) >= length && static_cast<std::size_t>(before) - length < room;
}

bool Assembly::continues(std::uint32_t seq, bool has_seq) const noexcept {
    return anchored_ && !settled_ && (!has_seq || seq == seq_ + have_);
}

void Assembly::forget() noexcept {
    if (buffer_ != 0)
        buffers_->give_back(std::exchange(buffer_, 0u));
    have_ = 0;
    gaps_ = false;
}

void Assembly::restart() noexcept {
    forget();
    anchored_ = false;
    settled_ = false;
    first_ = false;
    origin_ = false;
    pass_ = 0;
}

void Assembly::anchor(Bytes packet, std::uint32_t seq) noexcept {
    forget();
    seq_ = seq;
    anchored_ = true;
    settled_ = false;
    origin_ = first_;
    view_ = packet_ = packet;
    packet_at_ = 0;
    direct_ = true;
}

void Assembly::store(std::size_t at, Bytes bytes) noexcept {
    if (at >= room)
        return;
    const std::size_t n = std::min(bytes.size(), room - at);
    if (buffer_ == 0 && n != 0) {
        buffer_ = buffers_->take();
        if (at == 0) { // nearly always
            std::memcpy(buffer().bytes.data(), bytes.data(), n);
            mark(n);
            return;
        }
    }
    for (std::size_t i = 0; i < n; ++i) {
        const std::size_t to = at + i;
        const std::uint64_t bit = 1ull << (to % 64);
        // The first copy of a byte counts: a retransmission cannot rewrite what was looked at.
        if (!(buffer().there[to / 64] & bit)) {
            buffer().there[to / 64] |= bit;
            buffer().bytes[to] = bytes[i];
        }
    }
}

// The first n bytes are there, and no others.
void Assembly::mark(std::size_t n) noexcept {
    for (std::size_t at = 0; std::uint64_t & word : buffer().there) {
        const std::size_t here = std::min<std::size_t>(n - at, 64);
        word = here == 64 ? ~0ull : (1ull << here) - 1;
        at += here;
    }
}

std::size_t Assembly::prefix() const noexcept {
    if (buffer_ == 0)
        return 0;
    std::size_t n = 0;
    for (const std::uint64_t word : buffer().there) {
        const auto ones = static_cast<std::size_t>(std::countr_one(word));
        n += ones;
        if (ones < 64)
            break;
    }
    return n;
}

bool Assembly::offer(Bytes packet, std::uint32_t seq, bool has_seq) noexcept {
    view_ = packet_ = {};
    packet_at_ = 0;
    direct_ = false;
    if (packet.empty())
        return false;
    if (!anchored_) {
        if (first_)
            lowest_ = seq;
        numbered_ = has_seq;
        anchor(packet, seq);
        return true;
    }
    if (!has_seq || !numbered_) { // as if everything came in order
        if (pass_ >= packet.size()) {
            pass_ -= static_cast<std::uint32_t>(packet.size());
            return false;
        }
        packet = packet.subspan(pass_);
        pass_ = 0;
        seq = seq_ + have_;
    }
    const std::int32_t at = distance(seq_, seq);
    if (settled_ && at >= 0) {
        if (numbered_ && at == 0 && first_) // the very packet again
            return false;
        first_ = false;
        anchor(packet, seq);
        return true;
    }
    if (at < 0) {
        const auto before = static_cast<std::size_t>(-static_cast<std::int64_t>(at));
        if (first_ && before < room) {
            // It overtook us: move what is here back and put this in front.
            Buffers::Buffer old{};
            if (buffer_ != 0)
                old = buffer();
            const auto until = have_;
            forget();
            seq_ = lowest_ = seq;
            store(0, packet);
            for (std::size_t i = 0; i + before < room && i < room; ++i)
                if (i < until || (old.there[i / 64] >> (i % 64) & 1))
                    store(i + before, Bytes(&old.bytes[i], 1));
            settled_ = false;
            origin_ = true;
            have_ = static_cast<std::uint16_t>(prefix());
            packet_ = packet;
            view_ = have_ > packet.size() ? Bytes(buffer().bytes).first(have_) : packet;
            direct_ = have_ <= packet.size();
            return true;
        }
        if (settled_ || before >= packet.size())
            return false; // seen before, or passed over
        packet = packet.subspan(before);
        seq = seq_;
        if (have_ >= packet.size())
            return false;
    }
    const std::size_t offset = distance(seq_, seq) > 0 ? static_cast<std::size_t>(distance(seq_, seq)) : 0;
    if (offset > have_ && offset >= room) { // a gap that cannot be closed: start over here
        first_ = false;
        anchor(packet, seq);
        return true;
    }
    if (offset == 0 && have_ == 0 && !gaps_) {
        view_ = packet_ = packet;
        direct_ = true;
        return true;
    }
    const auto before = have_;
    store(offset, packet);
    have_ = static_cast<std::uint16_t>(prefix());
    if (have_ == before) {
        gaps_ |= offset > have_;
        return false;
    }
    packet_ = packet;
    packet_at_ = offset;
    view_ = Bytes(buffer().bytes).first(have_);
    return true;
}

void Assembly::consume(std::size_t n) noexcept {
    first_ = false;
    origin_ = false;
    seq_ += static_cast<std::uint32_t>(n);
    if (n == 0)
        return;
    if (direct_) {
        const std::size_t here = std::min(n, view_.size());
        view_ = view_.subspan(here);
        packet_ = view_;
        forget();
        pass_ = numbered_ ? 0 : static_cast<std::uint32_t>(n - here);
        return;
    }
    const std::size_t packet_end = packet_at_ + packet_.size();
    if (n >= have_ || (n >= packet_at_ && have_ <= packet_end)) { // what is left of the unit lies in the packet
        const std::size_t here = std::min(n - packet_at_, packet_.size());
        view_ = packet_ = packet_.subspan(here);
        packet_at_ = 0;
        direct_ = true;
        forget();
        pass_ = numbered_ || n <= packet_end ? 0 : static_cast<std::uint32_t>(n - packet_end);
        return;
    }
    const std::size_t left = have_ - n;
    std::memmove(buffer().bytes.data(), buffer().bytes.data() + n, left);
    mark(left);
    gaps_ = false;
    packet_ = packet_.subspan(std::min(packet_.size(), n - std::min(n, packet_at_)));
    packet_at_ -= std::min(n, packet_at_);
    // What did not fit before may fit now.
    store(packet_at_, packet_);
    have_ = static_cast<std::uint16_t>(prefix());
    view_ = Bytes(buffer().bytes).first(have_);
}

void Assembly::keep() noexcept {
    if (direct_ && !view_.empty()) {
        store(0, view_);
        have_ = static_cast<std::uint16_t>(prefix());
    }
    view_ = packet_ = {};
    direct_ = false;
}

void Assembly::settle() noexcept {
    keep();
    settled_ = true;
}

} // namespace btblock::detect
