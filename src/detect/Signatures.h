// SPDX-License-Identifier: MIT
// Words that BitTorrent's documents and clients put in certain places, and the clients that peer ids name: data. A word
// counts only where the protocol places it; the same word in a text about BitTorrent is a word.
#pragma once

#include "detect/Bytes.h"

namespace btblock::detect {

enum class Place : std::uint8_t {
    agent,         // product at the front of User-Agent, in lower case
    downloader,    // the same, of a client that fetches other things as well
    extension,     // name in the dictionary "m" of an extension handshake
    handshake_key, // beside "m"
    media_type,    // Accept or Content-Type, in lower case
    metainfo_key,  // of a torrent file
    path_end,      // how the path of a tracker request ends
    query_name,    // parameter of a tracker request, but for plain words such as "left"
    reply_key,     // of a tracker's answer
};

struct Signature {
    Place place;
    std::string_view text;
    std::string_view source;
};

// Sorted by place and text.
std::span<const Signature> signatures() noexcept;
bool is_signature(Place place, std::string_view text) noexcept;

// Fixed parts of the 20 bytes of a peer id.
enum class IdStyle : std::uint8_t {
    azureus,  // '-', the code's two characters, a version, '-'
    mainline, // the code's letter, numbers with dashes between
    shadow,   // the code's letter, five characters of a version, "---"
    custom,   // begins with the code
};

struct ClientId {
    IdStyle style;
    std::string_view code;
    std::string_view client;
    std::string_view source;
};

std::span<const ClientId> client_ids() noexcept;
// The client's name, empty when nobody known builds such an id.
std::string_view client_of(const std::uint8_t* twenty) noexcept;

// A bit of its own for each parameter name of tracker requests; 0: no such name.
std::uint32_t query_word(std::string_view name) noexcept;

} // namespace btblock::detect
