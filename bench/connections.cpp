// SPDX-License-Identifier: MIT
// connections: short TCP connections, one request and one answer each.
//   connections serve ADDRESS PORT
//   connections run ADDRESS PORT COUNT PARALLEL      prints the seconds that COUNT of them took
#include <arpa/inet.h>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

constexpr std::size_t request_size = 250, answer_size = 1000;
constexpr int events_at_once = 256;

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "connections: %s: %s\n", what, std::strerror(errno));
    std::exit(1);
}

sockaddr_in endpoint(const char* address, const char* port) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(static_cast<std::uint16_t>(std::atoi(port)));
    if (inet_pton(AF_INET, address, &a.sin_addr) != 1) {
        errno = EINVAL;
        fail(address);
    }
    return a;
}

// Nine of ten begin with a TLS client hello, as far as its first bytes go; the tenth is a search over plain HTTP.
std::string request(long number) {
    std::string s(request_size, '\x55');
    if (number % 10 != 0) {
        const char start[] = {0x16, 3, 1, 0, static_cast<char>(request_size - 5), 1, 0, 0};
        return s.replace(0, sizeof start, start, sizeof start);
    }
    const std::string start = "GET /search?q=weather HTTP/1.1\r\nHost: www.example\r\nCookie: ", end = "\r\n\r\n";
    return s.replace(0, start.size(), start).replace(s.size() - end.size(), end.size(), end);
}

void watch(int epoll, int fd, std::uint32_t what, int action = EPOLL_CTL_ADD) {
    epoll_event e{};
    e.events = what;
    e.data.fd = fd;
    if (epoll_ctl(epoll, action, fd, &e) != 0)
        fail("epoll");
}

[[noreturn]] void serve(const sockaddr_in& at) {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0 || listen(listener, 4096) != 0)
        fail("listen");
    const int epoll = epoll_create1(0);
    watch(epoll, listener, EPOLLIN);
    std::puts("ready");
    std::fflush(stdout);
    const std::string answer(answer_size, 'a');
    char buffer[4096];
    for (;;) {
        epoll_event events[events_at_once];
        const int count = epoll_wait(epoll, events, events_at_once, -1);
        for (int i = 0; i < count; ++i) {
            const int fd = events[i].data.fd;
            if (fd == listener) {
                for (int c; (c = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;)
                    watch(epoll, c, EPOLLIN);
                continue;
            }
            const ssize_t got = recv(fd, buffer, sizeof buffer, 0);
            if (got <= 0)
                close(fd);
            else if (send(fd, answer.data(), answer.size(), MSG_NOSIGNAL) < 0)
                close(fd);
        }
    }
}

void open_one(int epoll, const sockaddr_in& to) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const linger reset{1, 0}; // no TIME_WAIT: ports are used again
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (fd < 0 || (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 && errno != EINPROGRESS))
        fail("connect");
    watch(epoll, fd, EPOLLOUT);
}

void run(const sockaddr_in& to, long count, long parallel) {
    const int epoll = epoll_create1(0);
    char buffer[4096];
    const auto start = std::chrono::steady_clock::now();
    long opened = 0, requests = 0, done = 0, failed = 0;
    for (; opened < parallel && opened < count; ++opened)
        open_one(epoll, to);
    while (done < count) {
        epoll_event events[events_at_once];
        const int ready = epoll_wait(epoll, events, events_at_once, 5000);
        if (ready == 0) {
            errno = ETIMEDOUT;
            fail("no connection goes on");
        }
        for (int i = 0; i < ready; ++i) {
            const int fd = events[i].data.fd;
            if (events[i].events & EPOLLOUT) {
                int problem = 0;
                socklen_t size = sizeof problem;
                getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &size);
                const std::string hello = request(requests++);
                if (!problem && send(fd, hello.data(), hello.size(), MSG_NOSIGNAL) > 0) {
                    watch(epoll, fd, EPOLLIN, EPOLL_CTL_MOD);
                    continue;
                }
                ++failed;
            } else if (recv(fd, buffer, sizeof buffer, 0) <= 0) {
                ++failed;
            }
            close(fd);
            ++done;
            if (opened < count) {
                ++opened;
                open_one(epoll, to);
            }
        }
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("{\"connections\": %ld, \"failed\": %ld, \"seconds\": %.6f}\n", done, failed, seconds);
}

} // namespace

int main(int argc, char** argv) {
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "serve" && argc == 4)
        serve(endpoint(argv[2], argv[3]));
    if (what == "run" && argc == 6) {
        run(endpoint(argv[2], argv[3]), std::atol(argv[4]), std::atol(argv[5]));
        return 0;
    }
    std::fputs("usage: connections serve ADDRESS PORT | run ADDRESS PORT COUNT PARALLEL\n", stderr);
    return 2;
}
