// SPDX-License-Identifier: MIT
#include "queue/Rejecter.h"

#include "btblock/wire.h"
#include "core/Clock.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <span>
#include <sys/socket.h>

namespace btblock::queue {

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint8_t tcp = 6, udp = 17, hop_limit = 64;
constexpr std::size_t quoted_transport = 8; // bytes of the dropped packet's transport header in an ICMP error

bool is_v4(const bt_addr& a) {
    return bt_addr_is_v4(&a) != 0;
}

void put16(Bytes& out, unsigned value) {
    out.push_back(static_cast<std::uint8_t>(value >> 8));
    out.push_back(static_cast<std::uint8_t>(value));
}

void put32(Bytes& out, std::uint32_t value) {
    put16(out, value >> 16);
    put16(out, value & 0xffff);
}

void put_address(Bytes& out, const bt_addr& a) {
    out.insert(out.end(), is_v4(a) ? std::begin(a.b) + 12 : std::begin(a.b), std::end(a.b));
}

// RFC 1071
unsigned checksum(std::span<const std::uint8_t> bytes) {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < bytes.size(); i += 2)
        sum += bytes[i] << 8 | (i + 1 < bytes.size() ? bytes[i + 1] : 0);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

void set16(Bytes& out, std::size_t at, unsigned value) {
    out[at] = static_cast<std::uint8_t>(value >> 8);
    out[at + 1] = static_cast<std::uint8_t>(value);
}

Bytes ip_header(const bt_addr& src, const bt_addr& dst, std::uint8_t protocol, std::size_t payload) {
    Bytes out;
    if (is_v4(src)) {
        put32(out, 0x45000000u | static_cast<std::uint32_t>(std::min<std::size_t>(20 + payload, 0xffff)));
        put32(out, 0x00004000u); // no identification, "don't fragment"
        put32(out, std::uint32_t{hop_limit} << 24 | std::uint32_t{protocol} << 16);
        put_address(out, src);
        put_address(out, dst);
        set16(out, 10, checksum(out));
    } else {
        put32(out, 0x60000000u);
        put16(out, static_cast<unsigned>(std::min<std::size_t>(payload, 0xffff)));
        out.push_back(protocol);
        out.push_back(hop_limit);
        put_address(out, src);
        put_address(out, dst);
    }
    return out;
}

// From `src` of the tuple to `dst`.
Bytes reset(const bt_tuple& t, std::uint32_t seq, std::uint32_t ack, std::uint8_t flags) {
    Bytes segment;
    put16(segment, t.sport);
    put16(segment, t.dport);
    put32(segment, seq);
    put32(segment, ack);
    segment.push_back(5 << 4);
    segment.push_back(flags);
    put32(segment, 0); // window, checksum
    put16(segment, 0);
    Bytes pseudo;
    put_address(pseudo, t.src);
    put_address(pseudo, t.dst);
    put32(pseudo, tcp);
    put32(pseudo, static_cast<std::uint32_t>(segment.size()));
    pseudo.insert(pseudo.end(), segment.begin(), segment.end());
    set16(segment, 16, checksum(pseudo));
    Bytes packet = ip_header(t.src, t.dst, tcp, segment.size());
    packet.insert(packet.end(), segment.begin(), segment.end());
    return packet;
}

// An end that no answer can be sent to, or in whose name none can be sent.
bool is_special(const bt_addr& a) {
    if (is_v4(a))
        return a.b[12] == 0 || a.b[12] >= 224;
    const bool link_local = a.b[0] == 0xfe && (a.b[1] & 0xc0) == 0x80;
    return a.b[0] == 0xff || link_local || std::all_of(std::begin(a.b), std::end(a.b), [](bt_u8 b) { return b == 0; });
}

Result<Fd> raw_socket(int family, int protocol, std::uint32_t mark) {
    Fd fd(socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
    if (!fd)
        return errno_error("action = \"reject\": raw socket for its answers (needs CAP_NET_RAW)");
    if (setsockopt(fd.get(), SOL_SOCKET, SO_MARK, &mark, sizeof mark) != 0)
        return errno_error("action = \"reject\": marking its answers");
    const int smallest = 0; // only sends; what comes in is not kept
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &smallest, sizeof smallest);
    return fd;
}

} // namespace

std::vector<std::uint8_t> reset_for_sender(const bt_reject& p) {
    bt_tuple back;
    bt_mirror(&p.tuple, &back);
    if (p.tcp_flags & BT_TCP_ACK)
        return reset(back, p.ack, 0, BT_TCP_RST);
    const std::uint32_t length =
        p.payload_len + ((p.tcp_flags & BT_TCP_SYN) ? 1 : 0) + ((p.tcp_flags & BT_TCP_FIN) ? 1 : 0);
    return reset(back, 0, p.seq + length, BT_TCP_RST | BT_TCP_ACK);
}

std::vector<std::uint8_t> reset_for_receiver(const bt_reject& p) {
    const bool acknowledges = p.tcp_flags & BT_TCP_ACK;
    return reset(p.tuple, p.seq, acknowledges ? p.ack : 0,
                 static_cast<std::uint8_t>(BT_TCP_RST | (acknowledges ? BT_TCP_ACK : 0)));
}

std::vector<std::uint8_t> port_unreachable(const bt_reject& p) {
    const bool v4 = is_v4(p.tuple.src);
    Bytes out{static_cast<std::uint8_t>(v4 ? 3 : 1), static_cast<std::uint8_t>(v4 ? 3 : 4), 0, 0, 0, 0, 0, 0};
    const std::size_t datagram = quoted_transport + p.payload_len;
    const Bytes ip = ip_header(p.tuple.src, p.tuple.dst, udp, datagram);
    out.insert(out.end(), ip.begin(), ip.end());
    put16(out, p.tuple.sport);
    put16(out, p.tuple.dport);
    put16(out, static_cast<unsigned>(std::min<std::size_t>(datagram, 0xffff)));
    put16(out, 0);
    if (v4)
        set16(out, 2, checksum(out));
    return out;
}

Result<std::unique_ptr<Rejecter>> Rejecter::open(std::uint32_t mark) {
    Sockets sockets;
    auto raw4 = raw_socket(AF_INET, IPPROTO_RAW, mark);
    if (!raw4)
        return raw4.error();
    auto icmp4 = raw_socket(AF_INET, IPPROTO_ICMP, mark);
    if (!icmp4)
        return icmp4.error();
    sockets.raw4 = std::move(*raw4);
    sockets.icmp4 = std::move(*icmp4);
    if (auto raw6 = raw_socket(AF_INET6, IPPROTO_RAW, mark)) // without IPv6 there is nobody to answer
        sockets.raw6 = std::move(*raw6);
    if (auto icmp6 = raw_socket(AF_INET6, IPPROTO_ICMPV6, mark))
        sockets.icmp6 = std::move(*icmp6);
    return std::unique_ptr<Rejecter>(new Rejecter(std::move(sockets)));
}

bool Rejecter::within_rate() noexcept {
    const std::uint64_t now = monotonic_ns();
    const std::lock_guard lock(mutex_);
    if (now - window_ns_ > BT_NSEC_PER_SEC) {
        window_ns_ = now;
        sent_ = 0;
    }
    return ++sent_ <= per_second;
}

bool Rejecter::send(const std::vector<std::uint8_t>& bytes, const bt_addr& to, bool icmp) noexcept {
    if (is_v4(to)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        std::memcpy(&address.sin_addr, to.b + 12, 4);
        const Fd& fd = icmp ? sockets_.icmp4 : sockets_.raw4;
        return sendto(fd.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&address),
                      sizeof address) >= 0;
    }
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    std::memcpy(&address.sin6_addr, to.b, 16);
    const Fd& fd = icmp ? sockets_.icmp6 : sockets_.raw6;
    return fd && sendto(fd.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&address),
                        sizeof address) >= 0;
}

bool Rejecter::answer(const bt_reject& p) noexcept {
    if (is_special(p.tuple.src) || is_special(p.tuple.dst))
        return false;
    try {
        if (p.tuple.proto == udp)
            return within_rate() && send(port_unreachable(p), p.tuple.src, true);
        if (p.tuple.proto != tcp || (p.tcp_flags & BT_TCP_RST) || !within_rate())
            return false;
        const bool told = send(reset_for_sender(p), p.tuple.src, false);
        if (!(p.tcp_flags & BT_TCP_SYN)) // nothing of the connection is there yet
            send(reset_for_receiver(p), p.tuple.dst, false);
        return told;
    } catch (...) { // out of memory
        return false;
    }
}

} // namespace btblock::queue
