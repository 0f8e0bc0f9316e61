// SPDX-License-Identifier: MIT
#include "control/Client.h"
#include "control/Server.h"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <optional>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;
using namespace std::chrono_literals;

namespace btblock::control {
namespace {

json echo(const json& request) {
    const std::string command = request["command"];
    if (command == "refuse")
        return error_answer(error("own address", ExitCode::refused));
    if (command == "throw")
        throw std::runtime_error("boom");
    if (command == "big")
        return {{"text", std::string(request["size"].get<std::size_t>(), 'x')}};
    return {{"echo", request}};
}

class ControlTest : public testing::Test {
protected:
    ControlTest() {
        char pattern[] = "/tmp/btblock-control-XXXXXX";
        dir_ = mkdtemp(pattern);
        path_ = dir_ + "/run/control.sock";
    }
    ~ControlTest() override {
        stop();
        std::error_code ignored;
        fs::remove_all(dir_, ignored);
    }

    void start(Server::Handler handler = echo) {
        auto server = Server::open(path_, std::move(handler));
        ASSERT_TRUE(server) << server.error().message;
        server_.emplace(std::move(*server));
    }
    // A daemon's loop in miniature.
    void run() {
        thread_ = std::thread([this] {
            while (!stop_) {
                pollfd item{server_->fd(), POLLIN, 0};
                if (poll(&item, 1, 10) > 0)
                    server_->process();
            }
        });
    }
    void stop() {
        stop_ = true;
        if (thread_.joinable())
            thread_.join();
    }
    // Turns the loop in this thread until nothing happens any more.
    void settle() {
        for (pollfd item{server_->fd(), POLLIN, 0}; poll(&item, 1, 2) > 0;)
            server_->process();
    }

    Fd raw_client() {
        const auto address = socket_address(path_);
        Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address), 0);
        const timeval limit{5, 0};
        setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        return fd;
    }
    static void put(const Fd& fd, const std::string& text) {
        EXPECT_EQ(send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT),
                  static_cast<ssize_t>(text.size()));
    }
    // What has arrived; `ended` tells whether the other side closed.
    static std::string take(const Fd& fd, bool* ended = nullptr) {
        std::string text;
        char block[65536];
        for (ssize_t got; (got = recv(fd.get(), block, sizeof block, MSG_DONTWAIT)) >= 0;) {
            if (got == 0) {
                if (ended)
                    *ended = true;
                break;
            }
            text.append(block, static_cast<std::size_t>(got));
        }
        return text;
    }

    std::string dir_, path_;
    std::optional<Server> server_;
    std::thread thread_;
    std::atomic<bool> stop_{false};
};

TEST_F(ControlTest, AnswersARequest) {
    start();
    run();
    const auto reply = request_at(path_, "main", {{"command", "status"}, {"x", 7}});
    ASSERT_TRUE(reply) << reply.error().message;
    EXPECT_EQ((*reply)["ok"], true);
    EXPECT_EQ((*reply)["echo"]["x"], 7);
}

TEST_F(ControlTest, LargeAnswersArriveWhole) {
    start();
    run();
    const auto reply = request_at(path_, "main", {{"command", "big"}, {"size", 3000000}});
    ASSERT_TRUE(reply) << reply.error().message;
    EXPECT_EQ((*reply)["text"].get<std::string>().size(), 3000000u);
}

TEST_F(ControlTest, ErrorsKeepTheirExitCode) {
    start();
    run();
    auto reply = request_at(path_, "main", {{"command", "refuse"}});
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().message, "own address");
    EXPECT_EQ(reply.error().exit_code, ExitCode::refused);
    reply = request_at(path_, "main", {{"command", "throw"}});
    ASSERT_FALSE(reply);
    EXPECT_THAT(reply.error().message, HasSubstr("boom"));
    EXPECT_EQ(reply.error().exit_code, ExitCode::failure);
}

TEST_F(ControlTest, NobodyThere) {
    auto reply = request_at(path_, "main", {{"command", "status"}});
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().exit_code, ExitCode::daemon_unreachable);
    EXPECT_EQ(reply.error().message,
              "the btblock daemon of instance 'main' is not running (no answer on " + path_ + ")");
}

TEST_F(ControlTest, ADaemonThatHangsTimesOut) {
    start(); // nobody calls process()
    const auto reply = request_at(path_, "lab", {{"command", "status"}}, 100ms);
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().exit_code, ExitCode::daemon_unreachable);
    EXPECT_THAT(reply.error().message, HasSubstr("'lab' did not answer within 100 ms"));
}

TEST_F(ControlTest, SocketModeAndRemoval) {
    const mode_t before = umask(077);
    start();
    umask(before);
    struct stat info {};
    ASSERT_EQ(stat(path_.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0660u);
    server_.reset();
    EXPECT_NE(stat(path_.c_str(), &info), 0);
}

TEST_F(ControlTest, TheGroupMayLookAndNotChange) {
    if (geteuid() != 0)
        GTEST_SKIP() << "only root can be somebody else";
    start();
    fs::permissions(dir_, fs::perms(0755));
    fs::permissions(path_, fs::perms(0666)); // as if everybody were in the group
    run();
    std::optional<Result<json>> looked, changed;
    std::thread([&] {
        syscall(SYS_setresuid, -1, 65534, -1); // this thread only
        looked = request_at(path_, "main", {{"command", "status"}});
        changed = request_at(path_, "main", {{"command", "bans.flush"}});
    }).join();
    ASSERT_TRUE(*looked) << looked->error().message;
    ASSERT_FALSE(*changed);
    EXPECT_EQ(changed->error().exit_code, ExitCode::refused);
    EXPECT_THAT(changed->error().message, HasSubstr("only root may change"));
    EXPECT_TRUE(request_at(path_, "main", {{"command", "bans.flush"}}));
}

TEST_F(ControlTest, ALiveSocketIsRefusedADeadOneReplaced) {
    start();
    auto second = Server::open(path_, echo);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().exit_code, ExitCode::refused);
    EXPECT_THAT(second.error().message, HasSubstr("another daemon answers on " + path_));
    {
        // What a killed daemon leaves behind: a socket file that nobody listens on.
        const auto address = socket_address(dir_ + "/dead.sock");
        const Fd dead(socket(AF_UNIX, SOCK_STREAM, 0));
        ASSERT_EQ(bind(dead.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address), 0);
    }
    ASSERT_TRUE(fs::exists(dir_ + "/dead.sock"));
    auto third = Server::open(dir_ + "/dead.sock", echo);
    EXPECT_TRUE(third) << third.error().message;
    std::ofstream(dir_ + "/file") << "x";
    auto fourth = Server::open(dir_ + "/file", echo);
    ASSERT_FALSE(fourth);
    EXPECT_THAT(fourth.error().message, HasSubstr("is not a socket"));
    EXPECT_FALSE(Server::open(dir_ + "/" + std::string(120, 'x'), echo));
}

TEST_F(ControlTest, AFileThatSomebodyElsePutThereStays) {
    start();
    fs::remove(path_);
    std::ofstream(path_) << "mine";
    server_.reset();
    EXPECT_TRUE(fs::exists(path_));
}

TEST_F(ControlTest, WhatIsNoRequestIsToldSo) {
    start();
    const Fd client = raw_client();
    for (const char* line : {"hello", "[]", "7", "{}", "{\"command\":5}", "{\"command\":\"x\"", "\xff\xfe"}) {
        put(client, std::string(line) + "\n");
        settle();
        const auto reply = json::parse(take(client));
        EXPECT_EQ(reply["ok"], false) << line;
        EXPECT_EQ(reply["exit_code"], 2) << line;
    }
    put(client, "\n \r\n{\"command\":\"a\"}\r\n{\"comm");
    put(client, "and\":\"b\"}\n"); // two requests, one in pieces, and empty lines, which mean nothing
    settle();
    const std::string replies = take(client);
    EXPECT_EQ(std::count(replies.begin(), replies.end(), '\n'), 2) << replies;
}

TEST_F(ControlTest, ALineWithoutEndIsCutOff) {
    start();
    const Fd client = raw_client();
    bool ended = false;
    std::string reply;
    for (int i = 0; i < 10 && !ended; ++i) {
        const std::string part(16384, ' ');
        (void)send(client.get(), part.data(), part.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        settle();
        reply += take(client, &ended);
    }
    EXPECT_TRUE(ended);
    EXPECT_THAT(reply, HasSubstr("longer than 64 KiB"));
    EXPECT_EQ(server_->connections(), 0u);
}

TEST_F(ControlTest, AClientThatNeverReadsDoesNotGrowTheDaemon) {
    std::size_t answered = 0;
    start([&](const json&) {
        ++answered;
        return json{{"text", std::string(100000, 'x')}};
    });
    const Fd client = raw_client();
    std::string requests;
    for (int i = 0; i < 100; ++i)
        requests += "{\"command\":\"big\"}\n";
    put(client, requests);
    settle();
    EXPECT_LT(answered, 20u); // the rest waits
    std::string got;
    for (int i = 0; i < 1000 && std::count(got.begin(), got.end(), '\n') < 100; ++i) {
        got += take(client);
        settle();
    }
    EXPECT_EQ(answered, 100u);
    EXPECT_EQ(std::count(got.begin(), got.end(), '\n'), 100);
}

TEST_F(ControlTest, TooManyConnectionsAreTurnedAway) {
    start();
    std::vector<Fd> clients;
    for (int i = 0; i < 70; ++i) {
        clients.push_back(raw_client());
        settle();
    }
    EXPECT_EQ(server_->connections(), 64u);
    EXPECT_THAT(take(clients.back()), HasSubstr("too many connections"));
    clients.clear();
    settle();
    EXPECT_EQ(server_->connections(), 0u);
}

TEST_F(ControlTest, AHalfClosedClientStillGetsItsAnswer) {
    start();
    const Fd client = raw_client();
    put(client, "{\"command\":\"big\",\"size\":1000000}\n");
    shutdown(client.get(), SHUT_WR);
    bool ended = false;
    std::string got;
    for (int i = 0; i < 100 && !ended; ++i) {
        settle();
        got += take(client, &ended);
    }
    EXPECT_TRUE(ended);
    EXPECT_GT(got.size(), 1000000u);
    EXPECT_EQ(server_->connections(), 0u);
}

TEST_F(ControlTest, SubscribersGetEvents) {
    start();
    const Fd follower = raw_client(), other = raw_client();
    put(follower, "{\"command\":\"events\",\"follow\":true}\n");
    put(other, "{\"command\":\"events\"}\n");
    settle();
    EXPECT_EQ(server_->subscribers(), 1u);
    take(follower);
    take(other);
    server_->broadcast("{\"n\":1}");
    server_->broadcast("{\"n\":2}");
    EXPECT_EQ(take(follower), "{\"n\":1}\n{\"n\":2}\n");
    EXPECT_EQ(take(other), "");
}

TEST_F(ControlTest, ASubscriberWhoseSubscriptionWasRefusedGetsNone) {
    start([](const json&) { return error_answer(error("no")); });
    const Fd client = raw_client();
    put(client, "{\"command\":\"events\",\"follow\":true}\n");
    settle();
    EXPECT_EQ(server_->subscribers(), 0u);
}

TEST_F(ControlTest, ASlowSubscriberIsToldAndDropped) {
    start();
    const Fd slow = raw_client(), quick = raw_client();
    for (const Fd* fd : {&slow, &quick})
        put(*fd, "{\"command\":\"events\",\"follow\":true}\n");
    settle();
    const std::string event = "{\"text\":\"" + std::string(1000, 'e') + "\"}";
    std::size_t for_quick = take(quick).size();
    for_quick = 0;
    int sent = 0;
    while (server_->subscribers() == 2 && sent < 100000) {
        server_->broadcast(event);
        ++sent;
        for_quick += take(quick).size();
    }
    EXPECT_EQ(server_->subscribers(), 1u);
    EXPECT_GE(static_cast<std::size_t>(sent) * event.size(), backlog_limit);
    settle();
    EXPECT_EQ(for_quick + take(quick).size(), static_cast<std::size_t>(sent) * (event.size() + 1));

    bool ended = false;
    std::string got;
    for (int i = 0; i < 100 && !ended; ++i) {
        got += take(slow, &ended);
        settle();
    }
    EXPECT_TRUE(ended);
    // Whole lines only: events, then the reason.
    std::vector<std::string> lines;
    for (std::size_t at = 0, end; (end = got.find('\n', at)) != std::string::npos; at = end + 1)
        lines.push_back(got.substr(at, end - at));
    EXPECT_EQ(got.back(), '\n');
    ASSERT_GT(lines.size(), 2u);
    for (std::size_t i = 1; i + 1 < lines.size(); ++i)
        ASSERT_EQ(lines[i], event);
    const auto last = json::parse(lines.back());
    EXPECT_EQ(last["ok"], false);
    EXPECT_THAT(last["error"].get<std::string>(), HasSubstr("too slow"));
    EXPECT_EQ(server_->connections(), 1u);
}

TEST_F(ControlTest, AHandlerMayBroadcast) {
    start([this](const json& request) {
        if (request["command"] != "events")
            for (int i = 0; i < 3000; ++i) // also to the client that is being served, which does not read
                server_->broadcast("{\"text\":\"" + std::string(1000, 'x') + "\"}");
        return json{{"ok", true}};
    });
    const Fd both = raw_client();
    put(both, "{\"command\":\"events\",\"follow\":true}\n");
    settle();
    put(both, "{\"command\":\"bans.add\"}\n{\"command\":\"bans.add\"}\n");
    settle();
    EXPECT_EQ(server_->subscribers(), 0u);
}

TEST_F(ControlTest, FollowHandsOverLinesAndTheLastWord) {
    std::atomic<bool> asked{false};
    start([&](const json&) {
        asked = true;
        return json{{"ok", true}};
    });
    run();
    std::vector<std::string> lines;
    std::thread speaker([&] {
        while (!asked)
            std::this_thread::sleep_for(5ms);
        stop(); // the server is for one thread: from here on this one
        server_->broadcast("{\"n\":1}");
        server_->broadcast("{\"n\":2}");
        server_.reset();
    });
    bool answered = false;
    const auto end = follow_at(
        path_, "main", {{"command", "events"}, {"follow", true}},
        [&](const json& answer) { return answered = answer["ok"] == true; },
        [&](const std::string& line) {
            lines.push_back(line);
            return true;
        });
    speaker.join();
    EXPECT_TRUE(answered);
    EXPECT_THAT(lines, testing::ElementsAre("{\"n\":1}", "{\"n\":2}"));
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().exit_code, ExitCode::daemon_unreachable);
}

TEST_F(ControlTest, SomethingElseAnswering) {
    start([](const json&) { return json{{"ok", "maybe"}}; });
    run();
    const auto reply = request_at(path_, "main", {{"command", "status"}});
    ASSERT_FALSE(reply);
    EXPECT_THAT(reply.error().message, HasSubstr("not a btblock daemon"));
}

} // namespace
} // namespace btblock::control
