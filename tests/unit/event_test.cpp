// SPDX-License-Identifier: MIT
#include "core/Clock.h"
#include "event/CommunityId.h"
#include "event/Event.h"
#include "event/EventBus.h"
#include "event/FileSink.h"
#include "event/JournalSink.h"
#include "event/LogSink.h"
#include "unit/own_netns.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <future>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sstream>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <thread>

namespace {

using namespace btblock;
using namespace btblock::event;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

net::Address address(const std::string& text) {
    auto parsed = net::Address::parse(text);
    EXPECT_TRUE(parsed) << text;
    return parsed ? *parsed : net::Address{};
}

// 2025-11-23 04:05:06.000007 UTC
constexpr std::uint64_t moment = 1'763'870'706'000'007'000;

// Times print in the local zone; a test in UTC is the same everywhere.
class EventTest : public testing::Test {
protected:
    void SetUp() override { zone("UTC"); }
    void TearDown() override {
        unsetenv("TZ");
        tzset();
    }
    static void zone(const char* name) {
        setenv("TZ", name, 1);
        tzset();
    }
};

Event detection() {
    Event event;
    event.time_ns = moment;
    event.src = address("10.8.0.2");
    event.src_port = 51413;
    event.dst = address("192.0.2.7");
    event.dst_port = 6881;
    event.proto = IPPROTO_UDP;
    event.in_iface = "wg0";
    event.evidence = BT_EV_BIT(BT_EV_DHT_QUERY) | BT_EV_BIT(BT_EV_SOCKET_CONDEMNED);
    event.action = "drop";
    event.client = event.src;
    event.peer = event.dst;
    event.hook = "ingress";
    event.mode = "enforce";
    return event;
}

Event ban() {
    Event event;
    event.type = EventType::ban;
    event.time_ns = moment;
    event.action = "ban";
    event.target = "192.0.2.7";
    event.peer = address("192.0.2.7");
    event.ban_expires = moment + 3600'000'000'000;
    event.evidence = BT_EV_BIT(BT_EV_TCP_HANDSHAKE);
    return event;
}

Event health(const std::string& message) {
    Event event;
    event.type = EventType::health;
    event.time_ns = moment;
    event.message = message;
    return event;
}

std::string content(const fs::path& path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

std::vector<std::string> lines(const fs::path& path) {
    std::istringstream text(content(path));
    std::vector<std::string> all;
    for (std::string line; std::getline(text, line);)
        all.push_back(line);
    return all;
}

class Folder {
public:
    Folder() {
        std::string name = (fs::temp_directory_path() / "btblock-event-XXXXXX").string();
        EXPECT_NE(mkdtemp(name.data()), nullptr);
        path = name;
    }
    ~Folder() {
        std::error_code ignored;
        fs::remove_all(path, ignored);
    }
    fs::path path;
};

// What goes to the program's log meanwhile.
class CapturedLog {
public:
    CapturedLog() : before_(spdlog::default_logger()) {
        auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(text_);
        sink->set_pattern("%l %v");
        spdlog::set_default_logger(std::make_shared<spdlog::logger>("captured", sink));
    }
    ~CapturedLog() { spdlog::set_default_logger(before_); }
    [[nodiscard]] std::string text() const { return text_.str(); }

private:
    std::shared_ptr<spdlog::logger> before_;
    std::ostringstream text_;
};

// ------------------------------------------------------------------ community id

// The vectors published with the specification.
TEST(CommunityId, PublishedVectors) {
    const auto a = address("128.232.110.120"), b = address("66.35.250.204");
    EXPECT_EQ(community_id(a, 34855, b, 80, IPPROTO_TCP), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
    EXPECT_EQ(community_id(b, 80, a, 34855, IPPROTO_TCP), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
    const auto c = address("192.168.1.52"), d = address("8.8.8.8");
    EXPECT_EQ(community_id(c, 54585, d, 53, IPPROTO_UDP), "1:d/FP5EW3wiY1vCndhwleRRKHowQ=");
    EXPECT_EQ(community_id(d, 53, c, 54585, IPPROTO_UDP), "1:d/FP5EW3wiY1vCndhwleRRKHowQ=");
    const auto e = address("2001:470:e5bf:dead:4957:2174:e82c:4887"), f = address("2607:f8b0:400c:c03::1a");
    EXPECT_EQ(community_id(e, 63943, f, 25, IPPROTO_TCP), "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=");
    EXPECT_EQ(community_id(f, 25, e, 63943, IPPROTO_TCP), "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=");
}

TEST(CommunityId, PortsDecideBetweenEqualAddressesAndTheSeedCounts) {
    const auto a = address("10.0.0.1");
    EXPECT_EQ(community_id(a, 6881, a, 80, IPPROTO_TCP), community_id(a, 80, a, 6881, IPPROTO_TCP));
    EXPECT_NE(community_id(a, 6881, a, 80, IPPROTO_TCP), community_id(a, 6881, a, 81, IPPROTO_TCP));
    EXPECT_NE(community_id(a, 6881, a, 80, IPPROTO_TCP), community_id(a, 6881, a, 80, IPPROTO_TCP, 1));
    EXPECT_EQ(community_id(a, 0, a, 0, IPPROTO_ICMP), "");
}

// ------------------------------------------------------------------ from the kernel's records

TEST_F(EventTest, FromKernel) {
    bt_event record{};
    record.time_ns = 5'000;
    record.ifindex = 7;
    record.evidence = BT_EV_BIT(BT_EV_UTP_SYN);
    record.tuple.src = address("2001:db8::5").raw();
    record.tuple.dst = address("2001:db8:1::9").raw();
    record.tuple.sport = 40000;
    record.tuple.dport = 6881;
    record.tuple.proto = IPPROTO_UDP;
    record.kind = BT_K_DETECTION;
    record.hook = BT_HOOK_EGRESS;
    record.action = BT_ACT_DROP;
    record.client_is = 2;
    const WallClock clock{static_cast<std::int64_t>(moment)};
    const auto names = [](unsigned ifindex) { return ifindex == 7 ? std::string("eth0") : std::string(); };

    Event event = from_kernel(record, clock, names);
    EXPECT_EQ(event.type, EventType::detection);
    EXPECT_EQ(event.time_ns, moment + 5'000);
    EXPECT_EQ(event.src, address("2001:db8::5"));
    EXPECT_EQ(event.dst_port, 6881);
    EXPECT_EQ(event.client, address("2001:db8:1::9"));
    EXPECT_EQ(event.peer, address("2001:db8::5"));
    EXPECT_EQ(event.in_iface, "eth0");
    EXPECT_EQ(event.hook, "egress");
    EXPECT_EQ(event.action, "drop");
    EXPECT_EQ(event.mode, "enforce");
    EXPECT_EQ(to_json(event)["btblock"]["evidence"], nlohmann::ordered_json::array({"utp.syn"}));

    record.monitor = 1;
    record.kind = BT_K_CONDEMN;
    record.client_is = 1;
    event = from_kernel(record, clock, names);
    EXPECT_EQ(event.type, EventType::condemn);
    EXPECT_EQ(event.action, "pass"); // the drop was only counted
    EXPECT_EQ(event.mode, "monitor");
    EXPECT_EQ(event.client, address("2001:db8::5"));

    record.client_is = 0;
    record.ifindex = 8; // gone
    event = from_kernel(record, clock, names);
    EXPECT_FALSE(event.client);
    EXPECT_FALSE(event.peer);
    EXPECT_EQ(event.in_iface, "#8");
    EXPECT_EQ(from_kernel(record, clock, nullptr).in_iface, "#8");
    record.ifindex = 0;
    EXPECT_EQ(from_kernel(record, clock, names).in_iface, "");
}

TEST_F(EventTest, FromKernelSurvivesRecordsOfAnotherMind) {
    bt_event record;
    std::memset(&record, 0xff, sizeof record);
    const Event event = from_kernel(record, {}, nullptr);
    EXPECT_EQ(event.hook, "unknown");
    EXPECT_EQ(event.action, "unknown");
    EXPECT_FALSE(to_json_line(event).empty());
    EXPECT_FALSE(to_human(event).empty());
}

TEST_F(EventTest, TheWallClockFollows) {
    const WallClock clock = WallClock::now();
    const std::uint64_t mapped = clock.at(monotonic_ns()), wall = wall_ns();
    const auto apart = mapped > wall ? mapped - wall : wall - mapped;
    EXPECT_LT(apart, 1'000'000'000u);
    EXPECT_EQ(clock.at(1'000) - clock.at(400), 600u);
}

// ------------------------------------------------------------------ formats

TEST_F(EventTest, TimestampsLikeEve) {
    EXPECT_EQ(timestamp(moment), "2025-11-23T04:05:06.000007+0000");
    zone("XYZ-5:30"); // POSIX: five and a half hours east
    EXPECT_EQ(timestamp(moment), "2025-11-23T09:35:06.000007+0530");
    zone("XYZ3");
    EXPECT_EQ(timestamp(moment), "2025-11-23T01:05:06.000007-0300");
    EXPECT_EQ(timestamp(moment + 999'992'999), "2025-11-23T01:05:06.999999-0300");
}

TEST_F(EventTest, JsonOfADetection) {
    const std::string hash = community_id(address("10.8.0.2"), 51413, address("192.0.2.7"), 6881, IPPROTO_UDP);
    EXPECT_EQ(to_json_line(detection()),
              R"({"timestamp":"2025-11-23T04:05:06.000007+0000","event_type":"detection","src_ip":"10.8.0.2",)"
              R"("src_port":51413,"dest_ip":"192.0.2.7","dest_port":6881,"proto":"UDP","in_iface":"wg0",)"
              R"("community_id":")" +
                  hash +
                  R"(","btblock":{"evidence":["dht.query","socket.condemned"],"action":"drop","client":"10.8.0.2",)"
                  R"("peer":"192.0.2.7","hook":"ingress","mode":"enforce","schema":1}})");
}

TEST_F(EventTest, JsonLeavesOutWhatIsUnknown) {
    EXPECT_EQ(to_json_line(ban()),
              R"({"timestamp":"2025-11-23T04:05:06.000007+0000","event_type":"ban","btblock":{"evidence":)"
              R"(["tcp.handshake"],"action":"ban","peer":"192.0.2.7","target":"192.0.2.7",)"
              R"("ban_expires":"2025-11-23T05:05:06.000007+0000","schema":1}})");
    Event event = ban();
    event.ban_expires = never;
    EXPECT_EQ(to_json(event)["btblock"]["ban_expires"], "never");
    EXPECT_EQ(to_json_line(health("queue 3 is stuck")),
              R"({"timestamp":"2025-11-23T04:05:06.000007+0000","event_type":"health","btblock":{"evidence":[],)"
              R"("message":"queue 3 is stuck","schema":1}})");
}

TEST_F(EventTest, BadBytesDoNotBreakALine) {
    Event event = detection();
    event.in_iface = "w\xffg\n0";
    const std::string line = to_json_line(event);
    EXPECT_EQ(line.find('\n'), std::string::npos);
    EXPECT_TRUE(nlohmann::json::accept(line)) << line;
    event = health("one\ntwo\x1b[31m");
    EXPECT_EQ(describe(event), "health: one?two?[31m");
}

TEST_F(EventTest, EcsOfADetection) {
    const auto json = to_ecs(detection());
    EXPECT_EQ(json["@timestamp"], "2025-11-23T04:05:06.000007+00:00");
    EXPECT_EQ(json["event"]["kind"], "alert");
    EXPECT_EQ(json["event"]["action"], "detection");
    EXPECT_THAT(json["event"]["type"], ElementsAre("denied"));
    EXPECT_EQ(json["event"]["outcome"], "success");
    EXPECT_EQ(json["rule"]["name"], "dht.query+socket.condemned");
    EXPECT_EQ(json["network"]["direction"], "outbound");
    EXPECT_THAT(json["related"]["ip"], ElementsAre("10.8.0.2", "192.0.2.7"));
    EXPECT_EQ(json["source"]["ip"], "10.8.0.2");
    EXPECT_EQ(json["destination"]["port"], 6881);
    EXPECT_EQ(json["network"]["transport"], "udp");
    EXPECT_EQ(json["network"]["type"], "ipv4");
    EXPECT_THAT(json["network"]["community_id"].get<std::string>(), testing::StartsWith("1:"));
    EXPECT_EQ(json["observer"]["ingress"]["interface"]["name"], "wg0");
    EXPECT_TRUE(nlohmann::json::accept(to_ecs_line(health("x"))));
}

TEST_F(EventTest, LinesForPeople) {
    EXPECT_EQ(to_human(detection()), "2025-11-23 04:05:06.000 dropped dht.query+socket.condemned: "
                                     "10.8.0.2:51413 -> 192.0.2.7:6881 UDP on wg0");
    Event answer = detection();
    std::swap(answer.src, answer.dst);
    std::swap(answer.src_port, answer.dst_port);
    EXPECT_EQ(describe(answer), "dropped dht.query+socket.condemned: 10.8.0.2:51413 <- 192.0.2.7:6881 UDP on wg0");
    answer.client.reset();
    answer.mode = "monitor";
    answer.action = "pass";
    EXPECT_EQ(describe(answer), "noticed (monitor mode) dht.query+socket.condemned: "
                                "192.0.2.7:6881 -> 10.8.0.2:51413 UDP on wg0");
    EXPECT_EQ(describe(ban()), "banned 192.0.2.7 until 2025-11-23 05:05:06: tcp.handshake");
    Event manual = ban();
    manual.evidence = 0;
    manual.ban_expires = never;
    manual.message = "complaint 17";
    EXPECT_EQ(describe(manual), "banned 192.0.2.7 for good: complaint 17");
    manual.type = EventType::unban;
    manual.message.clear();
    EXPECT_EQ(describe(manual), "unbanned 192.0.2.7");
    Event condemned = detection();
    condemned.type = EventType::condemn;
    condemned.evidence = BT_EV_BIT(BT_EV_DHT_QUERY);
    EXPECT_EQ(describe(condemned), "condemned socket: dht.query, 10.8.0.2:51413 -> 192.0.2.7:6881 UDP on wg0");
}

// ------------------------------------------------------------------ sinks

using FileSinkTest = EventTest;

TEST_F(FileSinkTest, AppendsLinesInAPrivateFile) {
    const Folder folder;
    const fs::path path = folder.path / "events.json";
    const mode_t before = umask(0);
    {
        auto sink = FileSink::open(path);
        ASSERT_TRUE(sink) << sink.error().message;
        (*sink)->write(detection());
    }
    umask(0077); // takes nothing from an explicit mode
    auto shared = FileSink::open(folder.path / "shared.log", FileFormat::human, 0640);
    umask(before);
    ASSERT_TRUE(shared);
    (*shared)->write(ban());
    auto again = FileSink::open(path, FileFormat::ecs, 0644);
    ASSERT_TRUE(again);
    (*again)->write(ban());

    EXPECT_THAT(lines(path), ElementsAre(to_json_line(detection()), to_ecs_line(ban())));
    EXPECT_THAT(lines(folder.path / "shared.log"), ElementsAre(to_human(ban())));
    struct stat info {};
    ASSERT_EQ(stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0600u); // the existing file keeps its mode
    ASSERT_EQ(stat((folder.path / "shared.log").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0640u);
}

TEST_F(FileSinkTest, AnUnusablePathIsNamed) {
    const Folder folder;
    for (const fs::path& path : {folder.path / "none" / "events.json", folder.path}) {
        const auto sink = FileSink::open(path);
        ASSERT_FALSE(sink);
        EXPECT_THAT(sink.error().message, HasSubstr("'" + path.string() + "'"));
    }
}

TEST_F(FileSinkTest, ReopenFollowsLogRotation) {
    const Folder folder;
    const fs::path path = folder.path / "events.json", old = folder.path / "events.json.1";
    auto sink = FileSink::open(path, FileFormat::human);
    ASSERT_TRUE(sink);
    (*sink)->write(health("one"));
    fs::rename(path, old);
    (*sink)->write(health("two"));
    (*sink)->reopen();
    (*sink)->write(health("three"));
    EXPECT_EQ(lines(old).size(), 2u);
    ASSERT_EQ(lines(path).size(), 1u);
    EXPECT_THAT(lines(path)[0], HasSubstr("three"));

    // where the new file cannot be, the old one goes on
    const CapturedLog log;
    fs::remove(path);
    fs::create_directory(path);
    (*sink)->reopen();
    EXPECT_THAT(log.text(), HasSubstr("'" + path.string() + "'"));
    (*sink)->write(health("four"));
    EXPECT_EQ((*sink)->failed(), 0u);
}

TEST_F(FileSinkTest, AFullDiskIsToldOnceAndCounted) {
    if (access("/dev/full", W_OK) != 0)
        GTEST_SKIP() << "needs /dev/full";
    const Folder folder;
    const fs::path path = folder.path / "events.json";
    fs::create_symlink("/dev/full", path);
    const CapturedLog log;
    auto sink = FileSink::open(path);
    ASSERT_TRUE(sink) << sink.error().message;
    for (int i = 0; i < 3; ++i)
        (*sink)->write(detection());
    EXPECT_EQ((*sink)->failed(), 3u);
    const std::string told = log.text();
    EXPECT_THAT(told, HasSubstr("error cannot write event file '" + path.string() + "': No space left"));
    EXPECT_EQ(std::count(told.begin(), told.end(), '\n'), 1) << told;

    fs::remove(path);
    (*sink)->reopen();
    (*sink)->write(detection());
    EXPECT_EQ(lines(path).size(), 1u);
    EXPECT_THAT(log.text(), HasSubstr("can be written again; 3 events are missing"));
}

// A small file system of its own: the disk fills up within a line.
TEST_F(FileSinkTest, ATornLineStaysAlone) {
    SKIP_WITHOUT_NETNS();
    own_netns::run([] {
        ASSERT_EQ(unshare(CLONE_NEWNS), 0);
        ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
        const Folder folder;
        ASSERT_EQ(mount("tmpfs", folder.path.c_str(), "tmpfs", 0, "size=64k"), 0);
        const fs::path path = folder.path / "events.json";
        auto sink = FileSink::open(path);
        ASSERT_TRUE(sink);
        const CapturedLog log;
        unsigned tries = 0;
        for (; (*sink)->failed() == 0 && tries < 5000; ++tries)
            (*sink)->write(detection());
        ASSERT_EQ((*sink)->failed(), 1u);
        ASSERT_NE(content(path).back(), '\n') << "this file system does not write in part";
        fs::resize_file(path, fs::file_size(path) - 4096 + 7); // room again, and still within a line
        ASSERT_NE(content(path).back(), '\n');
        (*sink)->write(detection());
        EXPECT_EQ(lines(path).back(), to_json_line(detection()));
        umount2(folder.path.c_str(), MNT_DETACH);
    });
}

TEST(FileFormatNames, Parse) {
    EXPECT_EQ(parse_file_format("json"), FileFormat::json);
    EXPECT_EQ(parse_file_format("eve"), FileFormat::json);
    EXPECT_EQ(parse_file_format("ecs"), FileFormat::ecs);
    EXPECT_EQ(parse_file_format("human"), FileFormat::human);
    EXPECT_FALSE(parse_file_format("xml"));
}

TEST_F(EventTest, LogSinkWritesReadableLines) {
    const CapturedLog log;
    LogSink sink;
    sink.write(ban());
    sink.write(health("queue 3 is stuck"));
    EXPECT_EQ(log.text(), "info banned 192.0.2.7 until 2025-11-23 05:05:06: tcp.handshake\n"
                          "warning health: queue 3 is stuck\n");
}

TEST_F(EventTest, JournalFields) {
    const auto fields = journal_fields(detection());
    EXPECT_THAT(fields, Contains("MESSAGE=" + describe(detection())));
    EXPECT_THAT(fields, Contains("PRIORITY=6"));
    EXPECT_THAT(fields, Contains("BTBLOCK_EVENT=detection"));
    EXPECT_THAT(fields, Contains("BTBLOCK_EVIDENCE=dht.query+socket.condemned"));
    EXPECT_THAT(fields, Contains("BTBLOCK_CLIENT=10.8.0.2"));
    EXPECT_THAT(fields, Contains("BTBLOCK_DEST_PORT=6881"));
    EXPECT_THAT(fields, Not(Contains(testing::StartsWith("BTBLOCK_BAN_EXPIRES"))));
    EXPECT_THAT(journal_fields(ban()), Contains("BTBLOCK_BAN_EXPIRES=2025-11-23T05:05:06.000007+0000"));
    EXPECT_THAT(journal_fields(health("x")), Contains("PRIORITY=4"));
}

// In a mount namespace of its own, /run is empty and a socket of ours is the journal.
TEST_F(EventTest, JournalSinkSpeaksToTheJournalsSocket) {
    SKIP_WITHOUT_NETNS();
    own_netns::run([] {
        ASSERT_EQ(unshare(CLONE_NEWNS), 0);
        ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
        ASSERT_EQ(mount("tmpfs", "/run", "tmpfs", 0, "size=64k"), 0);
        const auto none = JournalSink::open();
        ASSERT_FALSE(none);
        EXPECT_THAT(none.error().message, HasSubstr("no systemd journal"));

        fs::create_directories("/run/systemd/journal");
        const Fd journal(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        sockaddr_un name{};
        name.sun_family = AF_UNIX;
        std::strcpy(name.sun_path, "/run/systemd/journal/socket");
        ASSERT_EQ(bind(journal.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name), 0);
        auto sink = JournalSink::open();
        ASSERT_TRUE(sink) << sink.error().message;
        (*sink)->write(ban());
        char entry[8192];
        const ssize_t got = recv(journal.get(), entry, sizeof entry, MSG_DONTWAIT);
        ASSERT_GT(got, 0);
        const std::string text(entry, static_cast<std::size_t>(got));
        EXPECT_THAT(text, HasSubstr("MESSAGE=" + describe(ban()) + "\n"));
        EXPECT_THAT(text, HasSubstr("BTBLOCK_EVENT=ban\n"));
        EXPECT_EQ((*sink)->failed(), 0u);
    });
}

// ------------------------------------------------------------------ the bus

class Recorder : public Sink {
public:
    struct Record {
        std::vector<std::string> lines;
        int reopened = 0;
    };
    explicit Recorder(Record& record) : record_(record) {}
    void write(const Event& event) override { record_.lines.push_back(event.message); }
    void reopen() override { ++record_.reopened; }
    [[nodiscard]] std::uint64_t failed() const noexcept override { return 2; }

private:
    Record& record_;
};

class Thrower : public Sink {
public:
    void write(const Event&) override { throw std::runtime_error("sink trouble"); }
};

std::vector<std::unique_ptr<Sink>> sinks() {
    return {};
}
template <typename... More> std::vector<std::unique_ptr<Sink>> sinks(std::unique_ptr<Sink> first, More... more) {
    auto all = sinks(std::move(more)...);
    all.insert(all.begin(), std::move(first));
    return all;
}

TEST(EventBus, ReachesEverySinkInOrder) {
    const CapturedLog log;
    Recorder::Record one, two;
    EventBus bus(sinks(std::make_unique<Recorder>(one), std::make_unique<Thrower>(), std::make_unique<Recorder>(two)));
    for (const char* text : {"a", "b", "c"})
        bus.publish(health(text));
    bus.reopen();
    bus.flush();
    EXPECT_THAT(one.lines, ElementsAre("a", "b", "c"));
    EXPECT_THAT(two.lines, ElementsAre("a", "b", "c"));
    EXPECT_EQ(one.reopened, 1);
    EXPECT_EQ(bus.totals().published, 3u);
    EXPECT_EQ(bus.totals().lost, 0u);
    EXPECT_EQ(bus.totals().failed, 4u);
    EXPECT_THAT(log.text(), HasSubstr("sink trouble"));
}

TEST(EventBus, WritesWhatWaitsBeforeItEnds) {
    Recorder::Record record;
    {
        EventBus bus(sinks(std::make_unique<Recorder>(record)));
        for (int i = 0; i < 1000; ++i)
            bus.publish(health(std::to_string(i)));
    }
    ASSERT_EQ(record.lines.size(), 1000u);
    EXPECT_EQ(record.lines.back(), "999");
}

TEST(EventBus, KeepsTheLastEvents) {
    EventBus bus({});
    EXPECT_TRUE(bus.since(0).empty());
    for (int i = 1; i <= 300; ++i)
        bus.publish(health(std::to_string(i)));
    const auto all = bus.since(0);
    ASSERT_EQ(all.size(), EventBus::kept);
    EXPECT_EQ(all.front().number, 300 - EventBus::kept + 1);
    EXPECT_EQ(all.front().event.message, std::to_string(all.front().number));
    EXPECT_EQ(all.back().event.message, "300");
    const auto newer = bus.since(298);
    ASSERT_EQ(newer.size(), 2u);
    EXPECT_EQ(newer[0].number, 299u);
    EXPECT_TRUE(bus.since(300).empty());
    bus.flush();
}

class Blocker : public Sink {
public:
    Blocker(std::promise<void>& entered, std::shared_future<void> released)
        : entered_(entered), released_(std::move(released)) {}
    void write(const Event&) override {
        if (!std::exchange(told_, true))
            entered_.set_value();
        released_.wait();
    }

private:
    std::promise<void>& entered_;
    std::shared_future<void> released_;
    bool told_ = false;
};

TEST(EventBus, AStalledSinkHoldsNobodyUp) {
    std::promise<void> entered, released;
    EventBus bus(sinks(std::make_unique<Blocker>(entered, released.get_future().share())));
    bus.publish(health("first"));
    entered.get_future().wait();
    for (std::size_t i = 0; i < EventBus::backlog + 5; ++i)
        bus.publish(health("more")); // would never return if it waited for the sink
    EXPECT_EQ(bus.totals().lost, 5u);
    EXPECT_EQ(bus.totals().published, EventBus::backlog + 6);
    EXPECT_EQ(bus.since(0).size(), EventBus::kept);
    released.set_value();
    bus.flush();
    bus.publish(health("again"));
    bus.flush();
    EXPECT_EQ(bus.totals().lost, 5u);
}

TEST(EventBus, ManyThreadsPublish) {
    Recorder::Record record;
    EventBus bus(sinks(std::make_unique<Recorder>(record)));
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&bus] {
            for (int i = 0; i < 500; ++i) {
                bus.publish(health("x"));
                if (i % 50 == 0)
                    (void)bus.since(0);
            }
        });
    for (auto& thread : threads)
        thread.join();
    bus.flush();
    EXPECT_EQ(record.lines.size(), 2000u);
    EXPECT_EQ(bus.totals().published, 2000u);
}

} // namespace
