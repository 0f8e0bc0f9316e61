// SPDX-License-Identifier: MIT
// talk FROM TO tcp|udp ADDRESS PORT PIECE...
//
// Both ends of one conversation: a client in the network namespace FROM, a server in TO at ADDRESS and PORT. The client
// sends the pieces (\xNN and \r \n are understood), each as a segment or datagram of its own; the server answers when
// all have come. Prints what arrived and exits with
//   0 everything arrived, and the answer came back    3 no TCP connection came about
//   1 not one byte of the pieces arrived              4 the conversation could not be set up
//   2 something arrived, or no answer came back
// Built statically by scripts/vm-test: nothing else in the guest can say as exactly what a network let through.
#include <arpa/inet.h>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

constexpr int all_arrived = 0, nothing_arrived = 1, some_arrived = 2, not_connected = 3, not_set_up = 4;
constexpr std::chrono::milliseconds patience{3000}; // covers four retransmissions

using Clock = std::chrono::steady_clock;

[[noreturn]] void give_up(const char* what) {
    std::printf("%s: %s\n", what, std::strerror(errno));
    std::exit(not_set_up);
}

std::string unescaped(const std::string& text) {
    std::string bytes;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\' || i + 1 == text.size()) {
            bytes += text[i];
            continue;
        }
        const char kind = text[++i];
        if (kind == 'x' && i + 2 < text.size()) {
            bytes += static_cast<char>(std::strtoul(text.substr(i + 1, 2).c_str(), nullptr, 16));
            i += 2;
        } else {
            bytes += kind == 'r' ? '\r' : kind == 'n' ? '\n' : kind;
        }
    }
    return bytes;
}

// A socket stays in the namespace it was made in, wherever its process goes.
int socket_in(const char* space, int family, int type) {
    const std::string path = std::string("/run/netns/") + space;
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0)
        give_up(path.c_str());
    close(fd);
    const int made = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (made < 0)
        give_up("socket");
    return made;
}

bool wait_for(int fd, short events, Clock::time_point deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd p{fd, events, 0};
    return poll(&p, 1, left > 0 ? static_cast<int>(left) : 0) > 0;
}

int port_taken(int server, int type, const sockaddr* address, socklen_t size) {
    const int yes = 1;
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(server, address, size) != 0 || (type == SOCK_STREAM && listen(server, 1) != 0))
        give_up("server");
    return server;
}

} // namespace

int main(int argc, char** argv) {
    if (argc < 7) {
        std::puts("usage: talk FROM TO tcp|udp ADDRESS PORT PIECE...");
        return not_set_up;
    }
    const int type = std::string(argv[3]) == "udp" ? SOCK_DGRAM : SOCK_STREAM;
    sockaddr_storage address{};
    auto* v4 = reinterpret_cast<sockaddr_in*>(&address);
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&address);
    const bool is_v4 = inet_pton(AF_INET, argv[4], &v4->sin_addr) == 1;
    if (!is_v4 && inet_pton(AF_INET6, argv[4], &v6->sin6_addr) != 1)
        give_up("address");
    address.ss_family = is_v4 ? AF_INET : AF_INET6;
    (is_v4 ? v4->sin_port : v6->sin6_port) = htons(static_cast<std::uint16_t>(std::atoi(argv[5])));
    const socklen_t size = is_v4 ? sizeof *v4 : sizeof *v6;
    const auto* where = reinterpret_cast<const sockaddr*>(&address);
    std::string whole;
    std::vector<std::string> pieces;
    for (int i = 6; i < argc; ++i) {
        pieces.push_back(unescaped(argv[i]));
        whole += pieces.back();
    }

    int server = port_taken(socket_in(argv[2], address.ss_family, type), type, where, size);
    const int client = socket_in(argv[1], address.ss_family, type);
    if (connect(client, where, size) != 0 && errno != EINPROGRESS)
        give_up("connect");
    if (type == SOCK_STREAM) {
        const auto deadline = Clock::now() + patience;
        int failed = 0;
        socklen_t length = sizeof failed;
        if (!wait_for(client, POLLOUT, deadline) || getsockopt(client, SOL_SOCKET, SO_ERROR, &failed, &length) != 0 ||
            failed != 0 || !wait_for(server, POLLIN, deadline)) {
            std::puts("no connection");
            return not_connected;
        }
        server = accept4(server, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        const int yes = 1;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    }

    for (const std::string& piece : pieces) {
        if (&piece != &pieces.front())
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        if (send(client, piece.data(), piece.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(piece.size()))
            break; // reset on the way, perhaps: what arrived tells
    }

    std::string arrived;
    sockaddr_storage peer{};
    socklen_t peer_size = sizeof peer;
    for (auto deadline = Clock::now() + patience;
         arrived.size() < whole.size() && wait_for(server, POLLIN, deadline);) {
        char buffer[4096];
        peer_size = sizeof peer;
        const ssize_t got = recvfrom(server, buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&peer), &peer_size);
        if (got <= 0)
            break;
        arrived.append(buffer, static_cast<std::size_t>(got));
    }
    bool answered = false;
    if (arrived == whole) {
        const auto* to = type == SOCK_DGRAM ? reinterpret_cast<const sockaddr*>(&peer) : nullptr;
        sendto(server, "answer\n", 7, MSG_NOSIGNAL, to, to ? peer_size : 0);
        char buffer[16];
        answered = wait_for(client, POLLIN, Clock::now() + patience) && recv(client, buffer, sizeof buffer, 0) == 7;
    }
    std::printf("%zu of %zu bytes arrived, %s\n", arrived.size(), whole.size(), answered ? "answered" : "no answer");
    return answered ? all_arrived : arrived.empty() ? nothing_arrived : some_arrived;
}
