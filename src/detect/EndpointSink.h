// SPDX-License-Identifier: MIT
// A fixed buffer that collects the endpoints a tracker, DHT or PEX reply names.
#pragma once

#include "btblock/abi.h"
#include "detect/Bytes.h"

#include <cstring>

namespace btblock::detect {

class EndpointSink {
public:
    EndpointSink() = default;
    explicit EndpointSink(std::span<bt_endpoint> room) noexcept : room_(room) {}

    // BEP 23 compact forms: 4 or 16 address bytes, then the port. proto: IPPROTO_TCP for peers (which speak uTP on
    // the same port number), IPPROTO_UDP for DHT nodes. Addresses no peer can have are left out, and so is whatever
    // no longer fits.
    void add_v4(const std::uint8_t* six, std::uint8_t proto) noexcept {
        if (six[0] == 0 || six[0] == 127 || six[0] >= 224)
            return;
        bt_endpoint e{};
        e.addr.b[10] = e.addr.b[11] = 0xff;
        std::memcpy(e.addr.b + 12, six, 4);
        add(e, be16(six + 4), proto);
    }
    void add_v6(const std::uint8_t* eighteen, std::uint8_t proto) noexcept {
        static constexpr std::uint8_t zero[15] = {};
        if (eighteen[0] == 0xff || (std::memcmp(eighteen, zero, 15) == 0 && eighteen[15] <= 1))
            return;
        bt_endpoint e{};
        std::memcpy(e.addr.b, eighteen, 16);
        add(e, be16(eighteen + 16), proto);
    }
    // A compact list; a last incomplete entry is ignored.
    void add_list(Bytes list, bool v6, std::uint8_t proto) noexcept {
        const std::size_t step = v6 ? 18 : 6;
        for (std::size_t at = 0; at + step <= list.size(); at += step)
            v6 ? add_v6(list.data() + at, proto) : add_v4(list.data() + at, proto);
    }

    [[nodiscard]] std::size_t size() const noexcept { return used_; }
    void clear() noexcept { used_ = 0; }

private:
    void add(bt_endpoint& e, std::uint16_t port, std::uint8_t proto) noexcept {
        if (port == 0 || used_ == room_.size())
            return;
        e.port = port;
        e.proto = proto;
        room_[used_++] = e;
    }

    std::span<bt_endpoint> room_;
    std::size_t used_ = 0;
};

} // namespace btblock::detect
