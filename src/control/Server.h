// SPDX-License-Identifier: MIT
// Server: the daemon's end of the control socket. One thread, never blocks, no signals.
#pragma once

#include "control/Socket.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>

namespace btblock::control {

// {"ok":false,"error":...,"exit_code":...}
nlohmann::json error_answer(const Error& failure);

class Server {
public:
    // Answers one request, which is an object with a text "command". "ok":true is added when the answer has no "ok".
    // What it throws becomes an error answer.
    using Handler = std::function<nlohmann::json(const nlohmann::json& request)>;

    // Makes missing directories (0755) and the socket (0660). The file of a daemon that is gone is replaced; one that
    // answers, and anything that is no socket, is refused.
    static Result<Server> open(const std::string& path, Handler handler);

    Server(Server&&) noexcept;
    Server& operator=(Server&&) noexcept;
    ~Server(); // closes the connections and removes the socket file, if it is still this server's

    // An epoll descriptor to be nested in the caller's: readable when process() has something to do.
    [[nodiscard]] int fd() const noexcept;
    // Accepts, reads, answers, writes: what can be done now.
    void process();
    // Sends one line (without newline) to every subscriber. A subscriber for whom more than backlog_limit bytes wait is
    // dropped: it gets a last line that says so.
    void broadcast(const std::string& line);

    [[nodiscard]] std::size_t connections() const noexcept;
    [[nodiscard]] std::size_t subscribers() const noexcept;

private:
    struct State;
    explicit Server(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

} // namespace btblock::control
