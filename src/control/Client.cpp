// SPDX-License-Identifier: MIT
#include "control/Client.h"

#include "core/Clock.h"

#include <array>
#include <optional>
#include <poll.h>
#include <sys/socket.h>

namespace btblock::control {

namespace {

class Connection {
public:
    Connection(std::string path, std::string instance) : path_(std::move(path)), instance_(std::move(instance)) {}

    Result<void> open(std::chrono::milliseconds timeout) {
        set_deadline(timeout);
        const auto address = socket_address(path_);
        if (!address)
            return address.error();
        fd_ = Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        if (!fd_)
            return errno_error("socket");
        while (connect(fd_.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) < 0) {
            switch (errno) {
            case EINTR: break;
            case EAGAIN: // its queue of connections is full; a Unix socket has nothing to poll for here
                if (monotonic_ns() >= deadline_)
                    return no_answer();
                poll(nullptr, 0, 10);
                break;
            case ENOENT:
            case ECONNREFUSED:
            case ENOTDIR:
                return error("the btblock daemon of instance '" + instance_ + "' is not running (no answer on " +
                                 path_ + ")",
                             ExitCode::daemon_unreachable);
            case EACCES:
            case EPERM: return error(path_ + ": no permission to talk to the daemon; try as root");
            default: return errno_error(path_);
            }
        }
        return {};
    }

    Result<void> send_line(const nlohmann::json& message) {
        const std::string line = message.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
        std::size_t sent = 0;
        while (sent < line.size()) {
            const ssize_t put = send(fd_.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
            if (put >= 0) {
                sent += static_cast<std::size_t>(put);
            } else if (errno == EAGAIN) {
                if (const auto ready = wait(POLLOUT, true); !ready)
                    return ready.error();
            } else if (errno == EPIPE || errno == ECONNRESET) {
                return {}; // it may have said why before it hung up
            } else if (errno != EINTR) {
                return errno_error(path_);
            }
        }
        return {};
    }

    // None: the other side closed.
    Result<std::optional<std::string>> read_line(bool limited) {
        for (;;) {
            const auto end = input_.find('\n', searched_);
            if (end != std::string::npos) {
                std::string line = input_.substr(0, end);
                input_.erase(0, end + 1);
                searched_ = 0;
                return std::optional(std::move(line));
            }
            searched_ = input_.size();
            if (input_.size() > answer_limit)
                return error(path_ + ": the daemon's answer is too long");
            std::array<char, 65536> block;
            const ssize_t got = recv(fd_.get(), block.data(), block.size(), 0);
            if (got > 0) {
                input_.append(block.data(), static_cast<std::size_t>(got));
            } else if (got == 0 || errno == ECONNRESET) {
                return std::optional<std::string>();
            } else if (errno == EAGAIN) {
                if (const auto ready = wait(POLLIN, limited); !ready)
                    return ready.error();
            } else if (errno != EINTR) {
                return errno_error(path_);
            }
        }
    }

    Result<nlohmann::json> answer() {
        auto line = read_line(true);
        if (!line)
            return line.error();
        if (!*line)
            return error("the btblock daemon of instance '" + instance_ + "' hung up without an answer",
                         ExitCode::daemon_unreachable);
        auto reply = nlohmann::json::parse(**line, nullptr, false);
        if (!reply.is_object() || !reply.contains("ok") || !reply["ok"].is_boolean())
            return error(path_ + ": what answers there is not a btblock daemon");
        if (reply["ok"] == true)
            return reply;
        return as_error(reply);
    }

    static Error as_error(const nlohmann::json& reply) {
        const auto text = reply.find("error");
        const auto code = reply.find("exit_code");
        int number = static_cast<int>(ExitCode::failure);
        if (code != reply.end() && code->is_number_integer() && *code >= 1 && *code <= 5)
            number = code->get<int>();
        return error(text != reply.end() && text->is_string() ? text->get<std::string>() : "the daemon refused",
                     static_cast<ExitCode>(number));
    }

    void set_deadline(std::chrono::milliseconds timeout) {
        timeout_ = timeout;
        deadline_ = monotonic_ns() + static_cast<std::uint64_t>(timeout.count()) * 1'000'000;
    }

private:
    Result<void> wait(short events, bool limited) {
        const std::uint64_t now = monotonic_ns();
        if (limited && now >= deadline_)
            return no_answer();
        pollfd item{fd_.get(), events, 0};
        const int left = limited ? static_cast<int>((deadline_ - now) / 1'000'000 + 1) : -1;
        const int ready = poll(&item, 1, left);
        if (ready == 0)
            return no_answer();
        if (ready < 0 && errno != EINTR)
            return errno_error(path_);
        return {};
    }

    Error no_answer() const {
        return error("the btblock daemon of instance '" + instance_ + "' did not answer within " +
                         std::to_string(timeout_.count()) + " ms (" + path_ + ")",
                     ExitCode::daemon_unreachable);
    }

    std::string path_;
    std::string instance_;
    Fd fd_;
    std::string input_;
    std::size_t searched_ = 0;
    std::uint64_t deadline_ = 0;
    std::chrono::milliseconds timeout_{0};
};

} // namespace

Result<nlohmann::json> request_at(const std::string& path, const std::string& instance, const nlohmann::json& message,
                                  std::chrono::milliseconds timeout) {
    Connection connection(path, instance);
    if (auto opened = connection.open(timeout); !opened)
        return opened.error();
    if (auto sent = connection.send_line(message); !sent)
        return sent.error();
    return connection.answer();
}

Result<nlohmann::json> request(const std::string& instance, const nlohmann::json& message,
                               std::chrono::milliseconds timeout) {
    return request_at(socket_path(instance), instance, message, timeout);
}

Result<void> follow_at(const std::string& path, const std::string& instance, const nlohmann::json& message,
                       const std::function<bool(const nlohmann::json&)>& answered,
                       const std::function<bool(const std::string&)>& take, std::chrono::milliseconds timeout) {
    Connection connection(path, instance);
    if (auto opened = connection.open(timeout); !opened)
        return opened.error();
    if (auto sent = connection.send_line(message); !sent)
        return sent.error();
    const auto answer = connection.answer();
    if (!answer)
        return answer.error();
    if (!answered(*answer))
        return {};
    for (;;) {
        const auto line = connection.read_line(false);
        if (!line)
            return line.error();
        if (!*line)
            return error("the btblock daemon of instance '" + instance + "' ended the stream",
                         ExitCode::daemon_unreachable);
        // Events have no "ok"; a line that has one is the server's last word.
        if ((*line)->starts_with("{\"error\"")) {
            const auto last = nlohmann::json::parse(**line, nullptr, false);
            if (last.is_object() && last.contains("ok") && last["ok"] == false)
                return Connection::as_error(last);
        }
        if (!take(**line))
            return {};
    }
}

} // namespace btblock::control
