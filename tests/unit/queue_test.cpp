// SPDX-License-Identifier: MIT
// The parser and the statistics on their own; queue and worker on real packets over lo, in a network namespace.
#include "btblock/abi.h"
#include "core/Clock.h"
#include "queue/NfQueue.h"
#include "queue/Worker.h"
#include "unit/own_netns.h"

#include <algorithm>
#include <arpa/inet.h>
#include <chrono>
#include <cstring>
#include <functional>
#include <future>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <iterator>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdexcept>
#include <sys/socket.h>
#include <thread>

namespace {

using namespace btblock;
using namespace btblock::queue;
using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr std::uint32_t punt = BT_DEFAULT_MARK;
constexpr std::uint32_t foreign = 0x00000004; // a bit of somebody else
constexpr std::uint16_t udp_port = 7777, tcp_port = 7778;

// ------------------------------------------------------------------ messages made by hand

using Bytes = std::vector<std::uint8_t>;

void append(Bytes& to, const void* data, std::size_t size) {
    const auto* bytes = static_cast<const std::uint8_t*>(data);
    std::copy_n(bytes, size, std::back_inserter(to));
}

Bytes attribute(std::uint16_t type, const Bytes& body) {
    const nlattr header{static_cast<std::uint16_t>(sizeof header + body.size()), type};
    Bytes bytes;
    append(bytes, &header, sizeof header);
    append(bytes, body.data(), body.size());
    bytes.resize((bytes.size() + 3) & ~std::size_t{3});
    return bytes;
}

Bytes be32(std::uint32_t value) {
    value = htonl(value);
    Bytes bytes;
    append(bytes, &value, sizeof value);
    return bytes;
}

const Bytes packet_header = {0, 0, 0, 9, 0x08, 0x00, 0}; // id 9, IPv4, prerouting

Bytes message(std::uint16_t type, const std::vector<Bytes>& attributes) {
    nlmsghdr header{};
    nfgenmsg family{};
    Bytes body;
    for (const Bytes& one : attributes)
        append(body, one.data(), one.size());
    header.nlmsg_len = static_cast<std::uint32_t>(sizeof header + sizeof family + body.size());
    header.nlmsg_type = type;
    Bytes bytes;
    append(bytes, &header, sizeof header);
    append(bytes, &family, sizeof family);
    append(bytes, body.data(), body.size());
    return bytes;
}

constexpr std::uint16_t packet_type = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET;

Bytes sample() {
    return message(packet_type, {attribute(NFQA_PACKET_HDR, packet_header), attribute(NFQA_IFINDEX_INDEV, be32(3)),
                                 attribute(NFQA_MARK, be32(punt | foreign)), attribute(NFQA_CAP_LEN, be32(9000)),
                                 attribute(NFQA_SKB_INFO, be32(NFQA_SKB_GSO | NFQA_SKB_CSUMNOTREADY)),
                                 attribute(4711, {1, 2, 3}), attribute(NFQA_PAYLOAD, {0x45, 1, 2, 3, 4})});
}

TEST(QueueParse, ReadsEveryField) {
    const Bytes bytes = sample();
    Packet packet;
    ASSERT_EQ(parse_packet(bytes, packet), Parsed::packet);
    EXPECT_EQ(packet.id, 9u);
    EXPECT_EQ(packet.hw_protocol, 0x0800);
    EXPECT_EQ(packet.hook, 0);
    EXPECT_EQ(packet.mark, punt | foreign);
    EXPECT_EQ(packet.in_ifindex, 3u);
    EXPECT_TRUE(packet.gso);
    EXPECT_TRUE(packet.checksum_not_ready);
    EXPECT_EQ(packet.wire_len, 9000u);
    EXPECT_THAT(packet.ip, testing::ElementsAre(0x45, 1, 2, 3, 4));
}

TEST(QueueParse, AbsentFieldsAreZero) {
    const Bytes bytes =
        message(packet_type, {attribute(NFQA_PACKET_HDR, packet_header), attribute(NFQA_PAYLOAD, {0x60, 0})});
    Packet packet;
    packet.mark = 77;
    ASSERT_EQ(parse_packet(bytes, packet), Parsed::packet);
    EXPECT_EQ(packet.mark, 0u);
    EXPECT_EQ(packet.in_ifindex, 0u);
    EXPECT_FALSE(packet.gso);
    EXPECT_EQ(packet.wire_len, 2u);
}

TEST(QueueParse, ACutDatagramIsMalformed) {
    const Bytes whole = sample();
    for (std::size_t size = 0; size < whole.size(); ++size) {
        const Bytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)); // own heap block for ASan
        Packet packet;
        EXPECT_EQ(parse_packet(part, packet), Parsed::malformed) << size;
    }
}

TEST(QueueParse, ACutMessageNeverCountsAsAPacketButKeepsItsId) {
    const Bytes whole = sample();
    const std::size_t identified = sizeof(nlmsghdr) + sizeof(nfgenmsg) + 12;
    const std::size_t payload_end = whole.size() - 3; // without the padding
    for (std::size_t size = sizeof(nlmsghdr); size < payload_end; ++size) {
        Bytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        const auto length = static_cast<std::uint32_t>(size);
        std::memcpy(part.data(), &length, sizeof length);
        Packet packet;
        const Parsed parsed = parse_packet(part, packet);
        EXPECT_EQ(parsed, size >= identified - 1 ? Parsed::truncated : Parsed::malformed) << size;
        EXPECT_EQ(packet.id, parsed == Parsed::truncated ? 9u : 0u);
    }
}

TEST(QueueParse, FlippedBytesNeverReadOutside) {
    const Bytes whole = sample();
    for (std::size_t at = 0; at < whole.size(); ++at)
        for (const int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
            Bytes changed = whole;
            changed[at] = static_cast<std::uint8_t>(value);
            Packet packet;
            parse_packet(changed, packet);
            if (!packet.ip.empty()) {
                EXPECT_GE(packet.ip.data(), changed.data());
                EXPECT_LE(packet.ip.data() + packet.ip.size(), changed.data() + changed.size());
            }
        }
}

TEST(QueueParse, WrongSizesAndOtherMessages) {
    Packet packet;
    EXPECT_EQ(parse_packet(message(packet_type, {attribute(NFQA_PAYLOAD, {0x45})}), packet), Parsed::malformed);
    EXPECT_EQ(parse_packet(message(packet_type, {attribute(NFQA_PACKET_HDR, {0, 0, 0, 9})}), packet),
              Parsed::malformed);
    EXPECT_EQ(parse_packet(message(packet_type, {attribute(NFQA_PACKET_HDR, packet_header)}), packet),
              Parsed::truncated);
    EXPECT_EQ(parse_packet(message(packet_type, {attribute(NFQA_PACKET_HDR, packet_header),
                                                 attribute(NFQA_MARK, {1, 2}), attribute(NFQA_PAYLOAD, {0x45})}),
                           packet),
              Parsed::truncated);
    EXPECT_EQ(parse_packet(message(NLMSG_ERROR, {}), packet), Parsed::other);
    EXPECT_EQ(parse_packet(message(NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG, {}), packet), Parsed::other);
}

TEST(QueueStatsTable, FindsTheQueue) {
    const char* table = "    1   4242     3 2  2048     7     8      900  1\n"
                        "   12 -1234567890    0 2 65535     0     0       1  1\n"
                        "    2 3060399406    1 2 65535     5     6       2  1";
    const auto one = parse_queue_stats(table, 1);
    ASSERT_TRUE(one);
    EXPECT_EQ(one->port_id, 4242u);
    EXPECT_EQ(one->waiting, 3u);
    EXPECT_EQ(one->dropped, 7u);
    EXPECT_EQ(one->user_dropped, 8u);
    EXPECT_EQ(one->sequence, 900u);
    ASSERT_TRUE(parse_queue_stats(table, 12));
    EXPECT_EQ(parse_queue_stats(table, 12)->port_id, static_cast<std::uint32_t>(-1234567890));
    ASSERT_TRUE(parse_queue_stats(table, 2));
    EXPECT_EQ(parse_queue_stats(table, 2)->port_id, 3060399406u);
    EXPECT_FALSE(parse_queue_stats(table, 3));
    EXPECT_FALSE(parse_queue_stats("", 0));
    EXPECT_FALSE(parse_queue_stats("    5   4242     3 2\n\nnonsense\n", 5));
}

TEST(QueueOpen, RefusesOptionsThatCannotWork) {
    for (const QueueOptions& options :
         {QueueOptions{3, true, 0, 2048}, QueueOptions{3, true, 16, 0}, QueueOptions{3, true, 16, 70000}}) {
        const auto queue = NfQueue::open(options);
        ASSERT_FALSE(queue);
        EXPECT_THAT(queue.error().message, HasSubstr("NFQUEUE 3"));
        EXPECT_EQ(queue.error().exit_code, ExitCode::usage);
    }
}

// ------------------------------------------------------------------ real packets over lo

#define SKIP_WITHOUT_QUEUES()                                                                                          \
    SKIP_WITHOUT_NETNS();                                                                                              \
    if (!firewall::find_tool("iptables"))                                                                              \
    GTEST_SKIP() << "needs iptables"

// Counting rules in mangle see what raw, and so the verdict, has left of the mark.
bool set_up_rules(std::uint16_t number, const std::string& tool = "iptables") {
    using own_netns::shell;
    const std::string ours = tool + " -w -t raw -A PREROUTING -i lo ";
    const std::string target = " -j NFQUEUE --queue-num " + std::to_string(number) + " --queue-bypass";
    const std::string counting = tool + " -w -t mangle -A PREROUTING -i lo -p udp --dport 7777 -m mark --mark ";
    return shell("ip link set lo up") && shell(ours + "-p udp --dport 7777" + target) &&
           shell(ours + "-p tcp --dport 7778" + target) && shell(counting + "0x20000000/0x20000000") &&
           shell(counting + "0x4/0x4");
}

struct Counted {
    unsigned punted = 0, foreign = 0;
};

Counted counted(const std::string& tool = "iptables") {
    std::istringstream lines(own_netns::output_of(tool + " -w -t mangle -L PREROUTING -n -v -x"));
    std::string line;
    std::vector<unsigned> packets;
    while (std::getline(lines, line))
        if (unsigned n = 0; line.find("mark match") != std::string::npos && std::istringstream(line) >> n)
            packets.push_back(n);
    EXPECT_EQ(packets.size(), 2u);
    return packets.size() == 2 ? Counted{packets[0], packets[1]} : Counted{};
}

// A datagram socket pair over lo.
class Line {
public:
    explicit Line(int family = AF_INET)
        : family_(family), in_(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0)),
          out_(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
        EXPECT_EQ(bind(in_.get(), address(), length()), 0);
        EXPECT_EQ(connect(out_.get(), address(), length()), 0);
        const std::uint32_t mark = punt | foreign;
        EXPECT_EQ(setsockopt(out_.get(), SOL_SOCKET, SO_MARK, &mark, sizeof mark), 0);
    }

    void send(const std::string& text) {
        EXPECT_EQ(::send(out_.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    }
    // Empty if nothing comes in time.
    std::string receive(std::chrono::milliseconds patience = 2000ms) {
        pollfd ready{in_.get(), POLLIN, 0};
        if (poll(&ready, 1, static_cast<int>(patience.count())) != 1)
            return "";
        char text[4096];
        const ssize_t got = recv(in_.get(), text, sizeof text, 0);
        return {text, static_cast<std::size_t>(got < 0 ? 0 : got)};
    }
    int count(std::chrono::milliseconds patience) {
        int n = 0;
        while (!receive(patience).empty())
            ++n;
        return n;
    }

private:
    const sockaddr* address() {
        if (family_ == AF_INET6) {
            six_.sin6_family = AF_INET6;
            six_.sin6_port = htons(udp_port);
            six_.sin6_addr = in6addr_loopback;
            return reinterpret_cast<const sockaddr*>(&six_);
        }
        four_.sin_family = AF_INET;
        four_.sin_port = htons(udp_port);
        four_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return reinterpret_cast<const sockaddr*>(&four_);
    }
    [[nodiscard]] socklen_t length() const { return family_ == AF_INET6 ? sizeof six_ : sizeof four_; }

    int family_;
    sockaddr_in four_{};
    sockaddr_in6 six_{};
    Fd in_, out_;
};

// Sends without pause as long as it lives.
class Flood {
public:
    explicit Flood(Line& line)
        : thread_([this, &line] {
              while (!stop_)
                  line.send("flood");
          }) {}
    ~Flood() {
        stop_ = true;
        thread_.join();
    }

private:
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

std::string udp_text(const QueuedPacket& packet) {
    const std::size_t headers = (packet.ip[0] >> 4 == 6 ? 40u : 20u) + 8u;
    return {packet.ip.begin() + static_cast<std::ptrdiff_t>(headers), packet.ip.end()};
}

bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 400; ++i) {
        if (condition())
            return true;
        std::this_thread::sleep_for(10ms);
    }
    return condition();
}

void verdicts_and_marks(int family, const std::string& tool) {
    ASSERT_TRUE(set_up_rules(7, tool));
    Line line(family);

    // nobody listens: the rule is passed by, and the mark stays. This is what the counters count.
    line.send("before");
    EXPECT_EQ(line.receive(), "before");
    EXPECT_EQ(counted(tool).punted, 1u);
    EXPECT_FALSE(read_queue_stats(7));

    auto queue = NfQueue::open({.number = 7});
    ASSERT_TRUE(queue) << queue.error().message;
    std::atomic<bool> as_expected{true};
    auto worker = Worker::start(std::move(*queue), punt, [&](const QueuedPacket& packet) {
        if (packet.mark != (punt | foreign) || packet.in_ifindex != 1)
            as_expected = false;
        const std::string text = udp_text(packet);
        if (text == "throw")
            throw std::runtime_error("a bug");
        if (text == "throw a number")
            throw 5;
        return text == "bad" ? QueueVerdict::drop : QueueVerdict::accept;
    });
    ASSERT_TRUE(worker) << worker.error().message;
    ASSERT_TRUE(read_queue_stats(7));
    EXPECT_EQ(read_queue_stats(7)->port_id, static_cast<std::uint32_t>(getpid()));

    line.send("good");
    line.send("bad");
    line.send("throw");
    line.send("throw a number");
    line.send("last");
    EXPECT_EQ(line.receive(), "good");
    EXPECT_EQ(line.receive(), "throw");
    EXPECT_EQ(line.receive(), "throw a number");
    EXPECT_EQ(line.receive(), "last");
    EXPECT_EQ(line.receive(100ms), "");
    EXPECT_TRUE(as_expected);
    EXPECT_EQ(counted(tool).punted, 1u);  // none since the worker
    EXPECT_EQ(counted(tool).foreign, 5u); // every packet that passed still has its other bits

    const WorkerCounters counters = (*worker)->counters();
    EXPECT_EQ(counters.received, 5u);
    EXPECT_EQ(counters.accepted, 4u);
    EXPECT_EQ(counters.dropped, 1u);
    EXPECT_EQ(counters.errors, 2u);
    EXPECT_EQ(counters.missed, 0u);
    EXPECT_EQ(read_queue_stats(7)->waiting, 0u);
    EXPECT_EQ(read_queue_stats(7)->sequence, 5u);

    (*worker)->stop();
    (*worker)->stop();
    EXPECT_FALSE((*worker)->healthy(monotonic_ns()));
    EXPECT_FALSE(read_queue_stats(7));
    line.send("bad"); // unbound again: passed by
    EXPECT_EQ(line.receive(), "bad");
}

TEST(QueueWorker, VerdictsAndMarksOfIpv4) {
    SKIP_WITHOUT_QUEUES();
    own_netns::run([] { verdicts_and_marks(AF_INET, "iptables"); });
}

TEST(QueueWorker, VerdictsAndMarksOfIpv6) {
    SKIP_WITHOUT_QUEUES();
    if (!firewall::find_tool("ip6tables"))
        GTEST_SKIP() << "needs ip6tables";
    own_netns::run([] { verdicts_and_marks(AF_INET6, "ip6tables"); });
}

// What waited together is accepted together, and nothing that was to be dropped goes with it.
TEST(QueueWorker, ABurstIsAnsweredPacketByPacket) {
    SKIP_WITHOUT_QUEUES();
    own_netns::run([] {
        ASSERT_TRUE(set_up_rules(7, "iptables"));
        Line line(AF_INET);
        auto queue = NfQueue::open({.number = 7});
        ASSERT_TRUE(queue) << queue.error().message;
        std::atomic<bool> go{false};
        auto worker = Worker::start(std::move(*queue), punt, [&](const QueuedPacket& packet) {
            while (!go)
                std::this_thread::sleep_for(1ms);
            return udp_text(packet).starts_with("bad") ? QueueVerdict::drop : QueueVerdict::accept;
        });
        ASSERT_TRUE(worker) << worker.error().message;
        std::vector<std::string> good;
        for (int i = 0; i < 200; ++i) {
            // runs of every length up to more than one verdict speaks for
            const std::string text = (i % 23 % 7 == 3 ? "bad " : "good ") + std::to_string(i);
            if (text.starts_with("good"))
                good.push_back(text);
            line.send(text);
        }
        go = true;
        for (const std::string& text : good)
            ASSERT_EQ(line.receive(), text);
        EXPECT_EQ(line.receive(100ms), "");
        EXPECT_TRUE(eventually([] { return read_queue_stats(7)->waiting == 0; }));
        EXPECT_EQ((*worker)->counters().dropped, 200 - good.size());
        EXPECT_EQ((*worker)->counters().errors, 0u);
        EXPECT_EQ(counted("iptables").punted, 0u) << "the bit is cleared in all of them";
    });
}

TEST(QueueOpen, ATakenQueueIsNamedWithItsHolder) {
    SKIP_WITHOUT_QUEUES();
    own_netns::run([] {
        {
            auto mine = NfQueue::open({.number = 11});
            ASSERT_TRUE(mine) << mine.error().message;
            const auto second = NfQueue::open({.number = 11});
            ASSERT_FALSE(second);
            EXPECT_THAT(second.error().message, HasSubstr("NFQUEUE 11 is already bound by this process"));
            EXPECT_TRUE(NfQueue::open({.number = 12}));
        }
        EXPECT_TRUE(NfQueue::open({.number = 11})); // given back

        int ready[2];
        ASSERT_EQ(pipe(ready), 0);
        const pid_t other = fork();
        if (other == 0) {
            const auto queue = NfQueue::open({.number = 11});
            const char done = queue ? 'y' : 'n';
            (void)!write(ready[1], &done, 1);
            pause();
            _exit(0);
        }
        char done = 0;
        ASSERT_EQ(read(ready[0], &done, 1), 1);
        EXPECT_EQ(done, 'y');
        const auto taken = NfQueue::open({.number = 11});
        ASSERT_FALSE(taken);
        EXPECT_THAT(taken.error().message, HasSubstr("NFQUEUE 11 is already bound by another process"));
        EXPECT_THAT(taken.error().message, HasSubstr("pid " + std::to_string(other)));
        kill(other, SIGKILL);
        waitpid(other, nullptr, 0);
    });
}

TEST(QueueOpen, WithoutTheCapabilityItSaysSo) {
    SKIP_WITHOUT_NETNS();
    own_netns::run([] {
        ASSERT_EQ(setuid(65534), 0);
        const auto queue = NfQueue::open({.number = 11});
        ASSERT_FALSE(queue);
        EXPECT_THAT(queue.error().message, HasSubstr("NFQUEUE 11: not permitted (needs CAP_NET_ADMIN)"));
    });
}

TEST(QueueWorker, HealthFollowsTheLoop) {
    SKIP_WITHOUT_QUEUES();
    own_netns::run([] {
        ASSERT_TRUE(set_up_rules(8));
        Line line;
        auto queue = NfQueue::open({.number = 8});
        ASSERT_TRUE(queue) << queue.error().message;
        std::promise<void> released;
        auto worker = Worker::start(std::move(*queue), punt, [&](const QueuedPacket&) {
            released.get_future().wait();
            return QueueVerdict::accept;
        });
        ASSERT_TRUE(worker);
        const std::uint64_t started = monotonic_ns();
        std::this_thread::sleep_for(1300ms); // idle: it turns with the poll's timeout
        EXPECT_GT((*worker)->heartbeat_ns(), started + 300'000'000);
        EXPECT_TRUE((*worker)->healthy(monotonic_ns()));

        line.send("stuck");
        ASSERT_TRUE(eventually([&] { return (*worker)->counters().received == 1; }));
        const std::uint64_t stuck = (*worker)->heartbeat_ns();
        std::this_thread::sleep_for(700ms); // longer than the poll's timeout
        EXPECT_EQ((*worker)->heartbeat_ns(), stuck);
        EXPECT_TRUE((*worker)->healthy(stuck + Worker::stall_ns - 1));
        EXPECT_FALSE((*worker)->healthy(stuck + Worker::stall_ns));
        EXPECT_EQ(read_queue_stats(8)->waiting, 1u);
        released.set_value();
        EXPECT_EQ(line.receive(), "stuck");
        EXPECT_TRUE(eventually([&] { return (*worker)->healthy(monotonic_ns()); }));
    });
}

TEST(QueueWorker, StopFinishesWhatWaits) {
    SKIP_WITHOUT_QUEUES();
    own_netns::run([] {
        ASSERT_TRUE(set_up_rules(9));
        Line line;
        auto queue = NfQueue::open({.number = 9});
        ASSERT_TRUE(queue) << queue.error().message;
        auto worker = Worker::start(std::move(*queue), punt, [](const QueuedPacket&) {
            std::this_thread::sleep_for(1ms);
            return QueueVerdict::accept;
        });
        ASSERT_TRUE(worker);
        constexpr unsigned many = 150; // more than one loop turn takes
        for (unsigned i = 0; i < many; ++i)
            line.send("wait");
        const std::uint64_t asked = monotonic_ns();
        (*worker)->stop();
        EXPECT_LT(monotonic_ns() - asked, 2'000'000'000u);
        EXPECT_EQ(line.count(200ms), static_cast<int>(many));
        EXPECT_EQ((*worker)->counters().accepted, many);
        EXPECT_EQ(counted().punted, 0u);
    });
}

TEST(QueueWorker, StopUnderFloodEndsInTime) {
    SKIP_WITHOUT_QUEUES();
    own_netns::run([] {
        ASSERT_TRUE(set_up_rules(9));
        Line line;
        auto queue = NfQueue::open({.number = 9});
        ASSERT_TRUE(queue) << queue.error().message;
        auto worker = Worker::start(std::move(*queue), punt, [](const QueuedPacket&) {
            std::this_thread::sleep_for(1ms);
            return QueueVerdict::drop;
        });
        ASSERT_TRUE(worker);
        const Flood flood(line);
        std::this_thread::sleep_for(100ms);
        const std::uint64_t asked = monotonic_ns();
        (*worker)->stop();
        EXPECT_LT(monotonic_ns() - asked, 3'000'000'000u);
    });
}

TEST(QueueWorker, AFullQueuePassesOrDropsAsConfigured) {
    SKIP_WITHOUT_QUEUES();
    for (const bool fail_open : {true, false})
        own_netns::run([fail_open] {
            ASSERT_TRUE(set_up_rules(10));
            Line line;
            auto queue = NfQueue::open({.number = 10, .fail_open = fail_open, .max_length = 2});
            ASSERT_TRUE(queue) << queue.error().message;
            for (int i = 0; i < 10; ++i)
                line.send("x");
            EXPECT_EQ(line.count(200ms), fail_open ? 8 : 0);
            const auto stats = read_queue_stats(10);
            ASSERT_TRUE(stats);
            EXPECT_EQ(stats->waiting, 2u);
            EXPECT_EQ(stats->dropped, fail_open ? 0u : 8u);
        });
}

TEST(QueueWorker, AFullSocketIsCountedAsMissed) {
    SKIP_WITHOUT_QUEUES();
    own_netns::run([] {
        ASSERT_TRUE(set_up_rules(13));
        Line line;
        auto queue = NfQueue::open({.number = 13});
        ASSERT_TRUE(queue) << queue.error().message;
        const int tiny = 4096; // the kernel doubles it
        ASSERT_EQ(setsockopt(queue->fd(), SOL_SOCKET, SO_RCVBUF, &tiny, sizeof tiny), 0);
        for (int i = 0; i < 100; ++i)
            line.send("x");
        const int passed = line.count(200ms); // failed open, past the worker
        const auto stats = read_queue_stats(13);
        ASSERT_TRUE(stats);
        EXPECT_GT(passed, 0);
        EXPECT_EQ(stats->waiting + static_cast<unsigned>(passed), 100u);

        auto worker = Worker::start(std::move(*queue), punt, [](const QueuedPacket&) { return QueueVerdict::drop; });
        ASSERT_TRUE(worker);
        ASSERT_TRUE(eventually([&] { return (*worker)->counters().dropped == stats->waiting; }));
        line.send("y"); // its number shows the gap
        ASSERT_TRUE(eventually([&] { return (*worker)->counters().dropped == stats->waiting + 1; }));
        EXPECT_EQ((*worker)->counters().missed, static_cast<unsigned>(passed));
    });
}

// Packets can overtake the answer to the bind request (about once in ten thousand times under this flood); none of them
// may be left without a verdict.
TEST(QueueOpen, NoPacketIsForgottenWhileBinding) {
    SKIP_WITHOUT_QUEUES();
    own_netns::run([] {
        ASSERT_TRUE(set_up_rules(14));
        // A socket that takes the process id as its port, so that each queue gets a new one. With the same port again,
        // a packet on its way to the queue just closed can still arrive at the next one.
        const Fd holder(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
        sockaddr_nl any{};
        any.nl_family = AF_NETLINK;
        ASSERT_EQ(bind(holder.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any), 0);
        Line line;
        const Flood flood(line);
        for (int round = 0; round < 1000; ++round) {
            auto queue = NfQueue::open({.number = 14});
            ASSERT_TRUE(queue) << queue.error().message;
            std::uint32_t expected = 1; // a new queue counts from one
            for (int packets = 0; packets < 3;) {
                Packet packet;
                const auto got = queue->receive(packet);
                ASSERT_TRUE(got);
                if (!*got) {
                    pollfd ready{queue->fd(), POLLIN, 0};
                    ASSERT_EQ(poll(&ready, 1, 2000), 1);
                    continue;
                }
                ASSERT_EQ(**got, Parsed::packet);
                ASSERT_EQ(packet.id, expected++);
                ASSERT_TRUE(queue->verdict(packet.id, false, std::nullopt));
                ++packets;
            }
        }
    });
}

TEST(NfQueue, SuperPacketsComeWholeAndCut) {
    SKIP_WITHOUT_QUEUES();
    own_netns::run([] {
        ASSERT_TRUE(set_up_rules(15));
        ASSERT_TRUE(own_netns::shell("ip link set lo mtu 1500")); // a segment of 64 KiB would be no super-packet
        auto queue = NfQueue::open({.number = 15});
        ASSERT_TRUE(queue) << queue.error().message;
        std::atomic<bool> done{false};
        std::atomic<unsigned> super_packets{0}, wrong{0};
        std::thread reader([&] {
            while (!done) {
                pollfd ready{queue->fd(), POLLIN, 0};
                poll(&ready, 1, 50);
                Packet packet;
                for (auto got = queue->receive(packet); got && *got; got = queue->receive(packet)) {
                    if (**got != Parsed::packet || packet.ip.size() > 2048 || packet.hw_protocol != 0x0800 ||
                        packet.ip.size() != std::min(packet.wire_len, 2048u))
                        ++wrong;
                    if (packet.gso && packet.wire_len > 2048)
                        ++super_packets;
                    if (!queue->verdict(packet.id, true, std::nullopt))
                        ++wrong;
                }
            }
        });

        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(tcp_port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        const auto* to = reinterpret_cast<const sockaddr*>(&address);
        const Fd listener(socket(AF_INET, SOCK_STREAM, 0)), client(socket(AF_INET, SOCK_STREAM, 0));
        ASSERT_EQ(bind(listener.get(), to, sizeof address), 0);
        ASSERT_EQ(listen(listener.get(), 1), 0);
        ASSERT_EQ(connect(client.get(), to, sizeof address), 0);
        const Fd server(accept(listener.get(), nullptr, nullptr));
        const timeval patience{10, 0};
        ASSERT_EQ(setsockopt(server.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
        constexpr std::size_t total = 4 << 20;
        std::thread writer([&] {
            const Bytes block(65536, 'b');
            for (std::size_t sent = 0; sent < total; sent += block.size())
                EXPECT_EQ(send(client.get(), block.data(), block.size(), 0), static_cast<ssize_t>(block.size()));
        });
        Bytes block(65536);
        std::size_t arrived = 0;
        while (arrived < total) {
            const ssize_t got = recv(server.get(), block.data(), block.size(), 0);
            ASSERT_GT(got, 0);
            arrived += static_cast<std::size_t>(got);
        }
        writer.join();
        done = true;
        reader.join();
        EXPECT_GT(super_packets, 0u);
        EXPECT_EQ(wrong, 0u);
    });
}

} // namespace
