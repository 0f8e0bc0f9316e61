// SPDX-License-Identifier: MIT
// Puts the first bytes of a TCP half-flow, or of the unit it has come to (a request, a message), into order.
#pragma once

#include "detect/Bytes.h"

#include <array>
#include <cstdint>
#include <memory>

namespace btblock::detect {

// Where half-flows keep bytes while they wait for more: most never do. One at most for each, so there is always one
// left. All memory is reserved by the constructor; what was never taken is not touched.
class Buffers {
public:
    static constexpr std::size_t room = 512;

    struct Buffer {
        std::array<std::uint64_t, room / 64> there; // which bytes count
        std::array<std::uint8_t, room> bytes;
    };

    explicit Buffers(std::size_t capacity) : all_(std::make_unique_for_overwrite<Buffer[]>(capacity)) {}

    // Numbers count from 1.
    Buffer& operator[](std::uint32_t number) noexcept { return all_[number - 1]; }
    // Nothing is there yet.
    std::uint32_t take() noexcept {
        const std::uint32_t number = free_ != 0 ? free_ : ++touched_;
        Buffer& buffer = (*this)[number];
        if (free_ != 0)
            free_ = static_cast<std::uint32_t>(buffer.there[0]);
        buffer.there.fill(0);
        return number;
    }
    void give_back(std::uint32_t number) noexcept {
        (*this)[number].there[0] = free_; // the list of free ones
        free_ = number;
    }

private:
    std::unique_ptr<Buffer[]> all_;
    std::uint32_t touched_ = 0, free_ = 0;
};

// A unit starts where the one before ended. Its first 512 bytes are kept while a detector wants more of it; bytes
// may come split anywhere, twice, or (with sequence numbers) in any order. A packet that holds the start of a unit
// is looked at in place, to its end, and only copied when it does not suffice.
class Assembly {
public:
    static constexpr std::size_t room = Buffers::room;

    explicit Assembly(Buffers& buffers) noexcept : buffers_(&buffers) {}
    // As it was at the beginning; must be called before it goes.
    void reset() noexcept {
        forget();
        *this = Assembly(*buffers_);
    }
    // Nothing will be asked for any more but whether a packet is_foreign().
    void drop() noexcept {
        forget();
        view_ = packet_ = {};
    }

    // Takes a packet's payload. True: view() has something that was not there before.
    bool offer(Bytes packet, std::uint32_t seq, bool has_seq) noexcept;
    // The unit's bytes so far; valid until the packet's buffer goes.
    [[nodiscard]] Bytes view() const noexcept { return view_; }
    // The view holds all of this unit that will ever be seen together.
    [[nodiscard]] bool full() const noexcept { return view_.size() >= room; }
    // The unit was n bytes long (possibly more than are here: the rest is passed over when it comes); the next starts.
    void consume(std::size_t n) noexcept;
    // More of this unit is wanted: keeps what is here. Must be called, or settle(), before the packet goes.
    void keep() noexcept;
    // Nothing recognised: the next packet that follows starts a unit of its own. One that turns out to come before
    // these bytes (packets overtake each other) is still put in front.
    void settle() noexcept;
    // The next packet starts a unit, whatever its sequence number.
    void restart() noexcept;

    // The unit is the first of the stream, or was declared the first of a stream inside it.
    [[nodiscard]] bool at_origin() const noexcept { return origin_; }
    void declare_origin() noexcept { origin_ = true; }
    // A packet with this sequence number belongs to another connection of the same tuple: none of the 16 MiB before
    // or after what is expected. (One new connection in 128 falls into that window and is taken for the old one.)
    [[nodiscard]] bool is_foreign(std::uint32_t seq, bool has_seq) const noexcept;
    // All of the packet lies before the unit: seen before, or the rest of a consumed unit.
    [[nodiscard]] bool passes_over(std::uint32_t seq, bool has_seq, std::size_t length) const noexcept;
    // The packet ends within 512 bytes before the first byte ever seen, or there: it was overtaken at the very start.
    [[nodiscard]] bool precedes_all(std::uint32_t seq, bool has_seq, std::size_t length) const noexcept;
    // Where the unit starts: a sequence number, or a count when there are none.
    [[nodiscard]] std::uint32_t position() const noexcept { return seq_; }
    // The packet continues the unit without a gap.
    [[nodiscard]] bool continues(std::uint32_t seq, bool has_seq) const noexcept;

private:
    void anchor(Bytes packet, std::uint32_t seq) noexcept;
    void store(std::size_t at, Bytes bytes) noexcept;
    void mark(std::size_t n) noexcept;
    [[nodiscard]] Buffers::Buffer& buffer() const noexcept { return (*buffers_)[buffer_]; }
    void forget() noexcept;
    [[nodiscard]] std::size_t prefix() const noexcept;

    std::uint32_t seq_ = 0;    // of the unit's first byte
    std::uint32_t lowest_ = 0; // sequence number of the first byte ever seen
    std::uint32_t pass_ = 0;   // without sequence numbers: bytes still to pass over
    std::uint16_t have_ = 0;   // bytes from the unit's first without a gap
    bool anchored_ = false;
    bool numbered_ = false; // seq_ means something
    bool origin_ = false;
    bool first_ = true; // nothing was consumed yet
    bool settled_ = false;
    bool gaps_ = false;        // bytes are stored behind a gap
    std::uint32_t buffer_ = 0; // 0: none
    Buffers* buffers_;
    // Only within one call of the inspector:
    Bytes view_;
    Bytes packet_;              // the packet's bytes that belong to the unit or follow it
    std::size_t packet_at_ = 0; // where they start in the unit
    bool direct_ = false;       // view_ is the packet itself
};

} // namespace btblock::detect
