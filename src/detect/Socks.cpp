// SPDX-License-Identifier: MIT
#include "detect/Socks.h"

#include <algorithm>

namespace btblock::detect {
namespace {

// Walks over a prefix of the stream: every step either succeeds, runs out of bytes or meets something impossible.
class Walk {
public:
    explicit Walk(Bytes bytes) noexcept : bytes_(bytes) {}

    bool byte(std::uint8_t& value) noexcept {
        if (state_ != Match::full)
            return false;
        if (at_ == bytes_.size())
            return stop(Match::partial);
        value = bytes_[at_++];
        return true;
    }
    bool skip(std::size_t n) noexcept {
        if (state_ != Match::full)
            return false;
        if (n > bytes_.size() - at_)
            return stop(Match::partial);
        at_ += n;
        return true;
    }
    bool text(std::size_t most) noexcept { // up to and including a zero byte
        std::uint8_t c = 1;
        for (std::size_t i = 0; i <= most; ++i) {
            if (!byte(c))
                return false;
            if (c == 0)
                return true;
            if (!is_printable(c))
                break;
        }
        return stop(Match::no);
    }
    bool refuse() noexcept { return stop(Match::no); }

    [[nodiscard]] SocksTurns result(bool stream, bool version4 = false) const noexcept {
        return {state_, state_ == Match::full ? at_ : 0, version4, state_ == Match::full && stream};
    }

private:
    bool stop(Match why) noexcept {
        state_ = why;
        return false;
    }
    Bytes bytes_;
    std::size_t at_ = 0;
    Match state_ = Match::full;
};

// ATYP and what it announces, then the port.
bool address(Walk& w) noexcept {
    std::uint8_t type = 0, length = 0;
    if (!w.byte(type))
        return false;
    switch (type) {
    case 1: return w.skip(4 + 2);
    case 4: return w.skip(16 + 2);
    case 3:
        if (!w.byte(length))
            return false;
        return length == 0 ? w.refuse() : w.skip(length + 2u);
    default: return w.refuse();
    }
}

SocksTurns client5(Walk& w) noexcept {
    std::uint8_t count = 0, method = 0, first = 0, command = 0, reserved = 0;
    bool password_offered = false;
    if (!w.byte(count))
        return w.result(false);
    if (count == 0 || count > 16) {
        w.refuse();
        return w.result(false);
    }
    for (unsigned i = 0; i < count; ++i) {
        if (!w.byte(method))
            return w.result(false);
        // 0 none, 1 GSSAPI, 2 password, 3..9 assigned, 80.. private; FF means "none acceptable" and is a reply.
        if (method == 0xff) {
            w.refuse();
            return w.result(false);
        }
        password_offered |= method == 2;
    }
    if (!w.byte(first))
        return w.result(false);
    if (first == 1 && password_offered) {
        std::uint8_t user = 0, password = 0;
        // RFC 1929 allows 1..255; an empty password occurs.
        if (!w.byte(user) || (user == 0 && !w.refuse()) || !w.skip(user) || !w.byte(password) || !w.skip(password) ||
            !w.byte(first))
            return w.result(false);
    }
    if (first != 5) {
        w.refuse();
        return w.result(false);
    }
    if (!w.byte(command) || ((command < 1 || command > 3) && !w.refuse()) || !w.byte(reserved) ||
        (reserved != 0 && !w.refuse()))
        return w.result(false);
    address(w);
    return w.result(command != 3);
}

SocksTurns client4(Walk& w) noexcept {
    std::uint8_t command = 0, a[6] = {};
    if (!w.byte(command) || ((command < 1 || command > 2) && !w.refuse()))
        return w.result(false);
    for (std::uint8_t& b : a)
        if (!w.byte(b))
            return w.result(false);
    const bool named = a[2] == 0 && a[3] == 0 && a[4] == 0; // 4a: 0.0.0.x and a name after the user
    if ((a[0] == 0 && a[1] == 0 && !w.refuse()) || (a[2] == 0 && (!named || a[5] == 0) && !w.refuse()))
        return w.result(false);
    if (!w.text(255) || (named && !w.text(255)))
        return w.result(false);
    return w.result(true, true);
}

} // namespace

SocksTurns read_socks_client(Bytes sent) noexcept {
    Walk w(sent);
    std::uint8_t version = 0;
    if (!w.byte(version))
        return w.result(false);
    if (version == 5)
        return client5(w);
    if (version == 4)
        return client4(w);
    return {};
}

SocksTurns read_socks_server(Bytes sent) noexcept {
    Walk w(sent);
    std::uint8_t version = 0, code = 0, next = 0, reserved = 0;
    if (!w.byte(version) || !w.byte(code))
        return w.result(false);
    if (version == 0) { // SOCKS 4: 5A granted, 5B..5D refused
        if (code < 0x5a || code > 0x5d) {
            w.refuse();
            return w.result(false);
        }
        w.skip(6);
        return w.result(code == 0x5a, true);
    }
    if (version != 5 || code == 0xff) {
        w.refuse();
        return w.result(false);
    }
    if (!w.byte(next))
        return w.result(false);
    if (next == 1 && code == 2) { // RFC 1929: 0 is success, anything else ends the connection
        if (!w.byte(code) || (code != 0 && !w.refuse()) || !w.byte(next))
            return w.result(false);
    }
    if (next != 5) {
        w.refuse();
        return w.result(false);
    }
    if (!w.byte(code) || (code > 8 && !w.refuse()) || !w.byte(reserved) || (reserved != 0 && !w.refuse()))
        return w.result(false);
    address(w);
    return w.result(code == 0);
}

std::optional<Bytes> unwrap_socks_udp(Bytes d) noexcept {
    if (d.size() < 4 || d[0] != 0 || d[1] != 0 || d[2] != 0)
        return {};
    std::size_t header = 0;
    switch (d[3]) {
    case 1: header = 4 + 4 + 2; break;
    case 4: header = 4 + 16 + 2; break;
    case 3:
        if (d.size() < 5 || d[4] == 0)
            return {};
        header = 5u + d[4] + 2u;
        // A name is printable; that keeps random bytes out.
        if (d.size() <= header || !std::all_of(d.begin() + 5, d.begin() + 5 + d[4], is_printable))
            return {};
        break;
    default: return {};
    }
    if (d.size() <= header || be16(d.data() + header - 2) == 0)
        return {};
    return d.subspan(header);
}

} // namespace btblock::detect
