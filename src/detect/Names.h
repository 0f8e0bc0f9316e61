// SPDX-License-Identifier: MIT
// Host names that a client gives away: in a TLS ClientHello and in a DNS query; and which of them are BitTorrent's.
#pragma once

#include "detect/Bytes.h"

#include <array>
#include <string>
#include <vector>

namespace btblock::detect {

// In lower case, without a dot at the end.
class HostName {
public:
    static constexpr std::size_t longest = 253; // RFC 1035, written out

    // False when it does not fit or holds what no host name does.
    bool append(std::uint8_t c) noexcept;
    void clear() noexcept { length_ = 0; }
    [[nodiscard]] std::string_view text() const noexcept { return {chars_.data(), length_}; }

private:
    std::array<char, longest> chars_; // deliberately not cleared
    std::uint8_t length_ = 0;
};

// Reads the server name (RFC 6066, section 3) out of a stream that begins with a ClientHello (RFC 8446). The bytes may
// come in pieces, the message in several records. What is malformed ends it without a name.
class ClientHello {
public:
    // The next bytes of the stream. What is wanted no longer is ignored.
    void feed(Bytes bytes) noexcept;
    // The name was found, or there is none.
    [[nodiscard]] bool done() const noexcept { return field_ == Field::end; }
    [[nodiscard]] std::string_view host() const noexcept { return found_ ? host_.text() : std::string_view{}; }

private:
    enum class Field : std::uint8_t {
        type,
        length,
        version_and_random,
        session_length,
        session,
        suites_length,
        suites,
        methods_length,
        methods,
        extensions_length,
        extension_type,
        extension_length,
        extension,
        names_length,
        name_type,
        name_length,
        name,
        end,
    };
    static constexpr std::size_t most = 16384; // bytes: one full record

    bool feed_header(std::uint8_t byte) noexcept;
    bool feed_record(Bytes bytes) noexcept;
    bool next(std::uint32_t value) noexcept;
    bool read(Field field, std::uint32_t bytes) noexcept;

    std::uint32_t fed_ = 0;
    std::uint32_t header_have_ = 0; // bytes of the record's header
    std::uint32_t record_left_ = 0;
    std::uint32_t message_left_ = 4;     // of the handshake message
    std::uint32_t left_ = 1, value_ = 0; // of the field
    std::uint16_t extension_type_ = 0;
    std::uint8_t length_high_ = 0;
    Field field_ = Field::type;
    bool found_ = false;
    HostName host_;
};

// The name that a DNS query asks for (RFC 1035): one question, no compression. False: it is no query. The name is empty
// when it is none of a host.
bool read_dns_query(Bytes datagram, HostName& host) noexcept;

// Trackers and DHT bootstrap nodes: the host itself or one below it. Never the web sites beside them.
struct KnownHost {
    std::string_view host;
    std::string_view source;
};
std::span<const KnownHost> known_hosts() noexcept;
bool is_known_host(std::string_view host) noexcept;

// The operator's own list, matched alike.
class HostList {
public:
    HostList() = default;
    explicit HostList(std::vector<std::string> hosts); // in lower case
    [[nodiscard]] bool contains(std::string_view host) const noexcept;

private:
    std::vector<std::string> hosts_; // sorted
};

} // namespace btblock::detect
