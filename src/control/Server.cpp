// SPDX-License-Identifier: MIT
#include "control/Server.h"

#include "core/Clock.h"

#include <array>
#include <cstring>
#include <filesystem>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace fs = std::filesystem;

namespace btblock::control {

namespace {

constexpr std::size_t most_connections = 64;
constexpr std::size_t answer_backlog = 256 << 10;     // beyond this a client's next requests wait until it has read
constexpr std::uint64_t farewell_ns = 10'000'000'000; // how long a closing client may take to read its last line

struct Client {
    Fd fd;
    std::string input;
    std::string output;
    std::size_t sent = 0;    // bytes of `output` that are gone
    bool may_change = false; // the rest of the group may look only
    bool subscriber = false;
    bool closing = false;     // no more requests; closed when the output is gone
    bool input_ended = false; // it will send no more
    bool dead = false;        // to be closed
    std::uint64_t closing_since = 0;
    std::uint32_t interest = EPOLLIN;

    [[nodiscard]] std::size_t waiting() const noexcept { return output.size() - sent; }
};

// Root, or whoever the daemon runs as.
bool is_master(int fd) {
    ucred peer{};
    socklen_t length = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

bool only_looks(std::string_view command) {
    return command == "status" || command == "version" || command == "events";
}

std::string dumped(const nlohmann::json& value) {
    return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Whether a process listens there.
Result<bool> is_live(const sockaddr_un& address, const std::string& path) {
    const Fd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!probe)
        return errno_error("socket");
    if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 || errno == EAGAIN)
        return true;
    if (errno == ECONNREFUSED)
        return false;
    return errno_error(path);
}

Result<void> clear_the_way(const sockaddr_un& address, const std::string& path) {
    std::error_code failure;
    if (const fs::path parent = fs::path(path).parent_path(); !parent.empty())
        fs::create_directories(parent, failure);
    if (failure)
        return error(fs::path(path).parent_path().string() + ": " + failure.message());
    struct stat info {};
    if (lstat(path.c_str(), &info) < 0)
        return errno == ENOENT ? Result<void>() : errno_error(path);
    if (!S_ISSOCK(info.st_mode))
        return error(path + " is in the way: it is not a socket");
    const auto live = is_live(address, path);
    if (!live)
        return live.error();
    if (*live)
        return error("another daemon answers on " + path, ExitCode::refused);
    if (unlink(path.c_str()) < 0 && errno != ENOENT)
        return errno_error(path);
    return {};
}

} // namespace

nlohmann::json error_answer(const Error& failure) {
    return {{"ok", false}, {"error", failure.message}, {"exit_code", static_cast<int>(failure.exit_code)}};
}

struct Server::State {
    Handler handler;
    std::string path;
    dev_t device = 0;
    ino_t inode = 0;
    Fd listener;
    Fd epoll;
    std::map<int, Client> clients; // by descriptor
    bool serving = false;          // in process()

    ~State() {
        struct stat info {};
        if (!path.empty() && lstat(path.c_str(), &info) == 0 && info.st_dev == device && info.st_ino == inode)
            unlink(path.c_str());
    }

    void accept_all() {
        for (;;) {
            Fd fd(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
            if (!fd)
                return; // nobody waits, or no descriptors left: the next round tries again
            if (clients.size() >= most_connections) {
                const std::string line = dumped(error_answer(error("too many connections"))) + "\n";
                (void)send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
                continue;
            }
            epoll_event event{};
            event.events = EPOLLIN;
            event.data.fd = fd.get();
            if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd.get(), &event) < 0)
                continue;
            const int number = fd.get();
            clients[number].may_change = is_master(number);
            clients[number].fd = std::move(fd);
        }
    }

    void append(Client& client, const std::string& line) {
        client.output.append(line);
        client.output.push_back('\n');
    }

    void start_closing(Client& client) {
        client.closing = true;
        client.closing_since = monotonic_ns();
    }

    nlohmann::json answer(const nlohmann::json& request) {
        try {
            nlohmann::json reply = handler(request);
            if (!reply.is_object())
                reply = nlohmann::json{{"result", std::move(reply)}};
            if (!reply.contains("ok"))
                reply["ok"] = true;
            return reply;
        } catch (const std::exception& failure) {
            return error_answer(error(std::string("internal error: ") + failure.what()));
        }
    }

    void request(Client& client, std::string_view line) {
        if (!line.empty() && line.back() == '\r')
            line.remove_suffix(1);
        if (line.find_first_not_of(" \t") == std::string_view::npos)
            return;
        const auto parsed = nlohmann::json::parse(line, nullptr, false);
        const auto command = parsed.is_object() ? parsed.find("command") : parsed.end();
        if (!parsed.is_object() || command == parsed.end() || !command->is_string()) {
            append(client,
                   dumped(error_answer(error("not a request: an object with a text \"command\"", ExitCode::usage))));
            return;
        }
        if (!client.may_change && !only_looks(command->get_ref<const std::string&>())) {
            append(client,
                   dumped(error_answer(error("only root may change anything; the group may look", ExitCode::refused))));
            return;
        }
        const nlohmann::json reply = answer(parsed);
        append(client, dumped(reply));
        const auto follow = parsed.find("follow");
        if (*command == "events" && follow != parsed.end() && *follow == true && reply["ok"] == true)
            client.subscriber = true;
    }

    // Whole lines in the input, as long as the client reads its answers. The handler may broadcast meanwhile.
    void requests(Client& client) {
        std::size_t start = 0;
        while (!client.closing && client.waiting() <= answer_backlog) {
            const auto end = client.input.find('\n', start);
            const std::size_t length = (end == std::string::npos ? client.input.size() : end) - start;
            if (length > request_limit) {
                append(client, dumped(error_answer(error("the request is longer than 64 KiB", ExitCode::usage))));
                start_closing(client);
            }
            if (end == std::string::npos || client.closing)
                break;
            request(client, std::string_view(client.input).substr(start, length));
            start = end + 1;
        }
        client.input.erase(0, client.closing ? std::string::npos : start);
    }

    // False: the connection is gone.
    bool read(Client& client) {
        std::array<char, 16384> block;
        while (!client.closing && !client.input_ended && client.input.size() <= request_limit &&
               client.waiting() <= answer_backlog) {
            const ssize_t got = recv(client.fd.get(), block.data(), block.size(), MSG_DONTWAIT);
            if (got == 0) { // it will ask no more, but may still read its answers
                client.input_ended = true;
                if (!client.subscriber)
                    start_closing(client);
            } else if (got > 0) {
                client.input.append(block.data(), static_cast<std::size_t>(got));
                requests(client);
            } else if (errno != EINTR) {
                return errno == EAGAIN;
            }
        }
        return true;
    }

    // False: the connection is gone, or done.
    bool write(Client& client) {
        while (client.waiting() > 0) {
            const ssize_t put = send(client.fd.get(), client.output.data() + client.sent, client.waiting(),
                                     MSG_NOSIGNAL | MSG_DONTWAIT);
            if (put < 0 && errno == EINTR)
                continue;
            if (put < 0) {
                if (errno != EAGAIN)
                    return false;
                break;
            }
            client.sent += static_cast<std::size_t>(put);
        }
        if (client.waiting() == 0) {
            client.output.clear();
            client.sent = 0;
        } else if (client.sent > answer_backlog) {
            client.output.erase(0, client.sent);
            client.sent = 0;
        }
        return !(client.closing && client.waiting() == 0);
    }

    void watch(Client& client) {
        std::uint32_t wanted = client.waiting() > 0 ? EPOLLOUT : 0u;
        if (!client.closing && !client.input_ended && client.waiting() <= answer_backlog)
            wanted |= EPOLLIN;
        if (wanted == client.interest)
            return;
        epoll_event event{};
        event.events = wanted;
        event.data.fd = client.fd.get();
        if (epoll_ctl(epoll.get(), EPOLL_CTL_MOD, client.fd.get(), &event) == 0)
            client.interest = wanted;
    }

    void serve(int fd, std::uint32_t events) {
        const auto found = clients.find(fd);
        if (found == clients.end())
            return;
        Client& client = found->second;
        bool alive = !(events & EPOLLERR) && (!(events & (EPOLLIN | EPOLLHUP)) || read(client));
        // Requests that waited for the client to read come next, hence the loop.
        for (std::size_t before = ~std::size_t{0}; alive && client.input.size() < before;) {
            before = client.input.size();
            alive = write(client);
            if (alive)
                requests(client);
        }
        alive = alive && write(client) && !(events & EPOLLHUP && client.waiting() == 0);
        if (alive)
            watch(client);
        else
            client.dead = true;
    }

    // Closing a descriptor takes it out of the epoll set. Not while a client is being served: broadcast() may run in
    // the middle of that.
    void sweep() {
        const std::uint64_t now = monotonic_ns();
        std::erase_if(clients, [&](const auto& item) {
            const Client& client = item.second;
            return client.dead || (client.closing && now - client.closing_since > farewell_ns);
        });
    }
};

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}
Server::Server(Server&&) noexcept = default;
Server& Server::operator=(Server&&) noexcept = default;
Server::~Server() = default;

Result<Server> Server::open(const std::string& path, Handler handler) {
    const auto address = socket_address(path);
    if (!address)
        return address.error();
    if (auto clear = clear_the_way(*address, path); !clear)
        return clear.error();
    auto state = std::make_unique<State>();
    state->handler = std::move(handler);
    state->listener = Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    state->epoll = Fd(epoll_create1(EPOLL_CLOEXEC));
    if (!state->listener || !state->epoll)
        return errno_error("control socket");
    // The mode before bind() keeps others out from the first moment; the umask may take more away, so once more after.
    if (fchmod(state->listener.get(), 0660) < 0)
        return errno_error(path);
    if (bind(state->listener.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) < 0)
        return errno_error(path);
    struct stat info {};
    if (lstat(path.c_str(), &info) < 0)
        return errno_error(path);
    state->path = path;
    state->device = info.st_dev;
    state->inode = info.st_ino;
    if (chmod(path.c_str(), 0660) < 0 || listen(state->listener.get(), 16) < 0)
        return errno_error(path);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = state->listener.get();
    if (epoll_ctl(state->epoll.get(), EPOLL_CTL_ADD, state->listener.get(), &event) < 0)
        return errno_error("control socket");
    return Server(std::move(state));
}

int Server::fd() const noexcept {
    return state_->epoll.get();
}

void Server::process() {
    std::array<epoll_event, 32> events;
    state_->serving = true;
    const int count = epoll_wait(state_->epoll.get(), events.data(), static_cast<int>(events.size()), 0);
    for (int i = 0; i < count; ++i) {
        const epoll_event& event = events[static_cast<std::size_t>(i)];
        if (event.data.fd == state_->listener.get())
            state_->accept_all();
        else
            state_->serve(event.data.fd, event.events);
    }
    state_->serving = false;
    state_->sweep();
}

void Server::broadcast(const std::string& line) {
    for (auto& [fd, client] : state_->clients) {
        if (!client.subscriber || client.closing || client.dead)
            continue;
        if (client.waiting() + line.size() + 1 > backlog_limit) {
            // Keep the rest of a line that is half sent, so that the last one can be read.
            const auto end = client.sent ? client.output.find('\n', client.sent - 1) : std::string::npos;
            const bool whole = client.sent == 0 || end == client.sent - 1;
            client.output = whole ? std::string() : client.output.substr(client.sent, end + 1 - client.sent);
            client.sent = 0;
            state_->append(
                client, dumped(error_answer(error("the reader is too slow: more than 1 MiB of events waited for it"))));
            state_->start_closing(client);
        } else {
            state_->append(client, line);
        }
        if (state_->write(client))
            state_->watch(client);
        else
            client.dead = true;
    }
    if (!state_->serving)
        state_->sweep();
}

std::size_t Server::connections() const noexcept {
    return state_->clients.size();
}

std::size_t Server::subscribers() const noexcept {
    std::size_t count = 0;
    for (const auto& [fd, client] : state_->clients)
        count += client.subscriber && !client.closing && !client.dead;
    return count;
}

} // namespace btblock::control
