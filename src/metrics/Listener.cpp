// SPDX-License-Identifier: MIT
#include "metrics/Listener.h"

#include "metrics/Exposition.h"

#include <arpa/inet.h>
#include <cstring>
#include <exception>
#include <microhttpd.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>
#include <string_view>
#include <sys/socket.h>

namespace btblock::metrics {

namespace {

constexpr unsigned most_connections = 16;
constexpr unsigned idle_seconds = 10;
constexpr int most_steps = 64;

MHD_Result respond(MHD_Connection* connection, unsigned code, const std::string& body, const char* type) {
    MHD_Response* response = MHD_create_response_from_buffer(
        body.size(), const_cast<char*>(body.data()), // NOLINT(cppcoreguidelines-pro-type-const-cast): it is copied
        MHD_RESPMEM_MUST_COPY);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    const MHD_Result queued = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    return queued;
}

MHD_Result handle(void* self, MHD_Connection* connection, const char* url, const char* method, const char*, const char*,
                  std::size_t* upload_size, void** seen) {
    constexpr const char* plain = "text/plain; charset=utf-8";
    // The library calls first with the headers only; what a client uploads is read and forgotten.
    static int once;
    if (!*seen) {
        *seen = &once;
        return MHD_YES;
    }
    if (*upload_size != 0) {
        *upload_size = 0;
        return MHD_YES;
    }
    const std::string_view verb = method;
    if (verb != MHD_HTTP_METHOD_GET && verb != MHD_HTTP_METHOD_HEAD)
        return respond(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n", plain);
    if (std::string_view(url) != "/metrics")
        return respond(connection, MHD_HTTP_NOT_FOUND, "the metrics are at /metrics\n", plain);
    try {
        return respond(connection, MHD_HTTP_OK, static_cast<Listener*>(self)->text()(), content_type);
    } catch (const std::exception& e) {
        spdlog::warn("metrics: {}", e.what());
        return respond(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "see the log of btblock\n", plain);
    }
}

} // namespace

void Listener::Stop::operator()(MHD_Daemon* daemon) const noexcept {
    MHD_stop_daemon(daemon); // closes the socket, too
}

Result<std::unique_ptr<Listener>> Listener::open(const std::string& address, std::function<std::string()> text) {
    const auto colon = address.rfind(':');
    std::string host = address.substr(0, colon);
    const auto port = htons(static_cast<std::uint16_t>(std::stoul(address.substr(colon + 1))));
    const bool v6 = host.starts_with('[');
    if (v6)
        host = host.substr(1, host.size() - 2);
    sockaddr_in four{};
    sockaddr_in6 six{};
    six.sin6_family = AF_INET6;
    six.sin6_port = port;
    four.sin_family = AF_INET;
    four.sin_port = port;
    inet_pton(v6 ? AF_INET6 : AF_INET, host.c_str(),
              v6 ? static_cast<void*>(&six.sin6_addr) : static_cast<void*>(&four.sin_addr));
    const auto* where = v6 ? reinterpret_cast<const sockaddr*>(&six) : reinterpret_cast<const sockaddr*>(&four);

    Fd socket(::socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!socket)
        return errno_error("metrics.listen: socket");
    const int on = 1;
    setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(socket.get(), where, v6 ? sizeof six : sizeof four) < 0 || listen(socket.get(), most_connections) < 0)
        return errno_error("metrics.listen: " + address);

    std::unique_ptr<Listener> listener(new Listener(std::move(text)));
    listener->daemon_.reset(MHD_start_daemon(
        MHD_USE_EPOLL, 0, nullptr, nullptr, &handle, listener.get(), MHD_OPTION_LISTEN_SOCKET, socket.get(),
        MHD_OPTION_CONNECTION_LIMIT, most_connections, MHD_OPTION_CONNECTION_TIMEOUT, idle_seconds, MHD_OPTION_END));
    if (!listener->daemon_)
        return error("metrics.listen: " + address + ": the HTTP library does not start");
    socket.release();
    return listener;
}

int Listener::fd() const noexcept {
    const MHD_DaemonInfo* info = MHD_get_daemon_info(daemon_.get(), MHD_DAEMON_INFO_EPOLL_FD);
    return info ? info->epoll_fd : -1;
}

void Listener::process() noexcept {
    // One call does one step of each connection. What is left without a new event to wait for is due at once.
    MHD_UNSIGNED_LONG_LONG wait_ms = 0;
    int steps = 0;
    do
        MHD_run(daemon_.get());
    while (++steps < most_steps && MHD_get_timeout(daemon_.get(), &wait_ms) == MHD_YES && wait_ms == 0);
}

} // namespace btblock::metrics
