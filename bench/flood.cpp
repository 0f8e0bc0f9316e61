// SPDX-License-Identifier: MIT
// flood: packets from one host, each of another connection, as fast as one core can or at a given rate.
//   flood DEVICE GATEWAY_MAC SOURCE DESTINATION KIND SECONDS [PACKETS_A_SECOND]
// KIND: udp (64 bytes on the wire), dht (queries), deep (what the kernel hands to user space: HTTP requests with a
// query, odd bencoding, SOCKS, the start of a handshake). Prints what was sent.
#include "bpf/Scenarios.h"

#include <arpa/inet.h>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

using namespace btblock;
using test::Packet;
using Clock = std::chrono::steady_clock;

constexpr std::size_t batch = 64;

[[noreturn]] void fail(const std::string& why) {
    std::fprintf(stderr, "flood: %s\n", why.c_str());
    std::exit(1);
}

std::vector<Packet> templates(const std::string& kind, const std::string& from, const std::string& to) {
    const auto udp = [&](const std::string& payload) { return Packet::udp(from, 1, to, 4000).payload(payload); };
    const auto tcp = [&](const std::string& payload) { return Packet::tcp(from, 1, to, 8080).payload(payload); };
    if (kind == "udp")
        return {udp(test::noise(18, 1))}; // 14 + 20 + 8 + 18 and the checksum: 64
    if (kind == "dht")
        return {udp(test::dht_query())};
    if (kind == "deep")
        return {tcp("GET /search?q=text HTTP/1.1\r\nHost: www.example\r\nAccept: */*\r\n\r\n"),
                udp("d3:agei42e4:name5:alice4:tagsl1:a1:bee"), tcp(std::string("\x05\x01\x00", 3)),
                tcp(test::handshake().substr(0, 12))};
    fail("no kind " + kind);
}

void fill_checksum(std::string& frame) {
    std::uint32_t sum = 0;
    frame[24] = frame[25] = 0;
    for (std::size_t i = 14; i < 34; i += 2)
        sum +=
            static_cast<unsigned>(static_cast<unsigned char>(frame[i]) << 8 | static_cast<unsigned char>(frame[i + 1]));
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~(sum + (sum >> 16)) & 0xffff;
    frame[24] = static_cast<char>(sum >> 8);
    frame[25] = static_cast<char>(sum);
}

} // namespace

int main(int argc, char** argv) {
    if (argc < 7 || argc > 8)
        fail("usage: flood DEVICE GATEWAY_MAC SOURCE DESTINATION udp|dht|deep SECONDS [PACKETS_A_SECOND]");
    const unsigned device = if_nametoindex(argv[1]);
    const ether_addr* mac = ether_aton(argv[2]);
    if (!device || !mac)
        fail("no such device or address");
    const double seconds = std::atof(argv[6]), rate = argc == 8 ? std::atof(argv[7]) : 0;

    std::vector<std::string> frames;
    for (const Packet& p : templates(argv[5], argv[3], argv[4])) {
        frames.push_back(p.frame());
        std::memcpy(frames.back().data(), mac, sizeof *mac);
        fill_checksum(frames.back());
    }
    const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = static_cast<int>(device);
    if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0)
        fail(std::string("packet socket: ") + std::strerror(errno));

    std::vector<std::string> data(batch);
    std::vector<iovec> parts(batch);
    std::vector<mmsghdr> messages(batch);
    const bool is_dht = std::string_view(argv[5]) == "dht";
    constexpr std::uint16_t dht_port = 6881;
    std::uint64_t sent = 0, number = 0;
    const auto start = Clock::now();
    const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
    while (elapsed() < seconds) {
        for (std::size_t i = 0; i < batch; ++i, ++number) {
            std::string& frame = data[i] = frames[number % frames.size()];
            // Every 64000 connections the other end's port is another one too. A DHT client asks all from one socket.
            auto port = static_cast<std::uint16_t>(1024 + number % 64000);
            auto other = static_cast<std::uint16_t>(4000 + number / 64000 % 50000);
            if (is_dht) {
                other = port;
                port = dht_port;
            }
            frame[34] = static_cast<char>(port >> 8);
            frame[35] = static_cast<char>(port);
            frame[36] = static_cast<char>(other >> 8);
            frame[37] = static_cast<char>(other);
            parts[i] = {frame.data(), frame.size()};
            messages[i] = {};
            messages[i].msg_hdr.msg_iov = &parts[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        const int done = sendmmsg(fd, messages.data(), batch, 0);
        if (done > 0)
            sent += static_cast<std::uint64_t>(done);
        else if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR)
            fail(std::string("sending: ") + std::strerror(errno));
        if (rate > 0 && static_cast<double>(sent) > elapsed() * rate)
            std::this_thread::sleep_for(std::chrono::duration<double>(static_cast<double>(sent) / rate - elapsed()));
    }
    std::printf("{\"sent\": %llu, \"seconds\": %.6f}\n", static_cast<unsigned long long>(sent), elapsed());
    close(fd);
    return 0;
}
