// SPDX-License-Identifier: MIT
#include "detect/Extension.h"

#include "detect/Bencode.h"
#include "detect/Signatures.h"

#include <netinet/in.h>

namespace btblock::detect {
namespace {

using bencode::Reader;
using bencode::Status;

// The dictionary "m". False on anything but small non-negative numbers.
bool read_names(Reader& r, bool& known, bool& wrong) noexcept {
    Bytes name;
    if (!r.enter_dict())
        return false;
    while (r.next_key(name)) {
        std::int64_t number = 0;
        if (!r.read_integer(number))
            return false;
        wrong |= number < 0 || number > 255 || name.empty();
        known |= is_signature(Place::extension, as_text(name));
    }
    return r.status() == Status::ok;
}

Extended failed(const Reader& r) noexcept {
    return r.status() == Status::truncated ? Extended::cut : Extended::none;
}

// BEP 55: msg_type, addr_type, 4 or 16 address bytes, port, err_code.
bool is_holepunch(Bytes p) noexcept {
    if (p.size() != 12 && p.size() != 24)
        return false;
    const bool v6 = p[1] == 1;
    if (p[0] > 2 || p[1] > 1 || p.size() != (v6 ? 24u : 12u))
        return false;
    const std::uint8_t* tail = p.data() + p.size() - 6;
    const std::uint32_t code = be32(tail + 2);
    return be16(tail) != 0 && (p[0] == 2 ? code >= 1 && code <= 4 : code == 0);
}

} // namespace

Extended read_extension_handshake(Bytes payload) noexcept {
    Reader r(payload);
    bool names_seen = false, known = false, wrong = false;
    if (!r.enter_dict())
        return failed(r);
    Bytes key;
    while (r.next_key(key)) {
        bool ok = true;
        if (equals(key, "m")) {
            names_seen = true;
            ok = read_names(r, known, wrong);
        } else {
            known |= is_signature(Place::handshake_key, as_text(key));
            ok = r.skip();
        }
        if (!ok)
            return failed(r);
    }
    if (!r.finished())
        return failed(r);
    return names_seen && known && !wrong ? Extended::handshake : Extended::none;
}

Extended read_extension_message(Bytes payload, EndpointSink& named) noexcept {
    if (is_holepunch(payload))
        return Extended::holepunch;
    Reader r(payload);
    if (!r.enter_dict())
        return failed(r);
    Bytes key, added, added_flags, added6, added6_flags, text;
    bool pex = false, pex_flags = false, pex6_flags = false, wrong = false;
    std::int64_t type = -1, piece = -1, total = -1;
    while (r.next_key(key)) {
        bool ok = true;
        const auto name = as_text(key);
        const bool string = is_digit(r.peek()), number = r.peek() == 'i';
        if (name == "added" && string) {
            ok = r.read_string(added);
            pex = true;
            wrong |= added.size() % 6 != 0;
        } else if (name == "added6" && string) {
            ok = r.read_string(added6);
            pex = true;
            wrong |= added6.size() % 18 != 0;
        } else if (name == "added.f" && string) {
            ok = r.read_string(added_flags);
            pex_flags = true;
        } else if (name == "added6.f" && string) {
            ok = r.read_string(added6_flags);
            pex6_flags = true;
        } else if ((name == "dropped" || name == "dropped6") && string) {
            ok = r.read_string(text);
            pex = true;
            wrong |= text.size() % (name == "dropped" ? 6 : 18) != 0;
        } else if (name == "msg_type" && number)
            ok = r.read_integer(type);
        else if (name == "piece" && number)
            ok = r.read_integer(piece);
        else if (name == "total_size" && number)
            ok = r.read_integer(total);
        else
            ok = r.skip();
        if (!ok)
            return failed(r);
    }
    if (r.status() != Status::ok)
        return failed(r);
    // BEP 9: a data message carries the piece after its dictionary; requests and rejects carry nothing.
    const std::size_t tail = payload.size() - r.offset();
    if (piece >= 0 && type >= 0 && type <= 2 && (type == 1 ? total > 0 && tail > 0 && tail <= 16384 : tail == 0))
        return Extended::metadata;
    if (tail != 0)
        return Extended::none;
    wrong |= pex_flags && added_flags.size() != added.size() / 6;
    wrong |= pex6_flags && added6_flags.size() != added6.size() / 18;
    if (pex && !wrong) {
        named.add_list(added, false, IPPROTO_TCP);
        named.add_list(added6, true, IPPROTO_TCP);
        return Extended::pex;
    }
    return wrong ? Extended::none : Extended::other;
}

} // namespace btblock::detect
