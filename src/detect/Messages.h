// SPDX-License-Identifier: MIT
// Peer messages (BEP 3, 6, 10, 52) of connections that began before anybody looked: <length u32be> <id u8> <body>.
#pragma once

#include "detect/EndpointSink.h"
#include "detect/Extension.h"

namespace btblock::detect {

// How much a message looks like BitTorrent beyond its header, which any length-prefixed protocol may share.
enum class Shape : std::uint8_t {
    invalid,   // no BitTorrent message starts like that
    need_more, // the deciding bytes are still to come
    weak,      // a valid header, nothing more
    plausible, // and small numbers where small numbers belong
    strong,    // and some 70 bits or more that only BitTorrent would set like that
};

struct Message {
    Shape shape = Shape::invalid;
    std::uint32_t total = 0; // length on the wire, the four length bytes included
    std::uint8_t id = 0xff;  // 0xff: keep-alive
    Extended extended = Extended::none;
};

// Looks at the message that starts at the first byte. `all` means that no more bytes of it can be had (a full
// buffer), so an extended message is judged by what is there. Adds the peers of a PEX message to `named`.
Message read_message(Bytes stream, bool all, EndpointSink& named) noexcept;

// The messages of one half-flow that followed each other exactly, byte by byte.
class MessageChain {
public:
    // Takes a message whose end was reached (or that is being skipped on the way to the next header). False: no
    // client sends that, so the chain was a mistake.
    bool add(const Message& message) noexcept;
    void reset() noexcept { *this = {}; }

    // Four messages of which one is strong, or three of which two are. A strong message is a request, cancel, reject
    // or piece with the usual 16 KiB geometry (a fixed length, an id, a small index, an offset that is a multiple of
    // 2^14 and a block length that is too: about 70 to 95 bits), a BEP 52 hash message, or an extended message with
    // the dictionary of PEX or metadata exchange. What the look-alikes measured so far offer are headers of one or
    // two messages: LDAP with SASL repeats "bitfields" (only one can occur), VNC and Riak repeat one-byte messages
    // (weak), OpenSSH and OpenWire never meet the exact lengths twice. Asking for the chain on top costs nothing:
    // a client pipelines its requests.
    // A whole extended message with one of BEP 9, 10 and 11's dictionaries needs no others: its length, its id and the
    // bencoding to the last byte agree.
    [[nodiscard]] bool proves() const noexcept {
        return extension_ || (messages_ >= 4 && strong_ >= 1) || (messages_ >= 3 && strong_ >= 2);
    }
    // Four messages of at least two kinds that fit, but none with structure of its own.
    [[nodiscard]] bool weighs() const noexcept { return messages_ >= 4 && plausible_ >= 1 && kinds() >= 2; }
    [[nodiscard]] std::uint32_t evidence() const noexcept; // tcp.message, tcp.fast, tcp.extension
    [[nodiscard]] bool strong() const noexcept { return strong_ > 0 || extension_; }

private:
    [[nodiscard]] unsigned kinds() const noexcept;

    std::uint32_t seen_ids_ = 0; // bit per id
    std::uint16_t messages_ = 0; // keep-alives not counted
    std::uint16_t plausible_ = 0;
    std::uint16_t strong_ = 0;
    bool extension_ = false;
};

} // namespace btblock::detect
