// SPDX-License-Identifier: MIT
#include "event/DetectionLog.h"
#include "event/EventBus.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sstream>
#include <sys/stat.h>

namespace {

using namespace btblock;
using namespace btblock::event;
using testing::EndsWith;
using testing::HasSubstr;
namespace fs = std::filesystem;

const std::string rule(80, '=');

PacketStart packet(std::string_view bytes) {
    return {bytes.size(), {bytes.begin(), bytes.end()}};
}

class DetectionLogTest : public testing::Test {
protected:
    void SetUp() override {
        setenv("TZ", "UTC", 1);
        tzset();
        std::string name = (fs::temp_directory_path() / "btblock-detections-XXXXXX").string();
        ASSERT_NE(mkdtemp(name.data()), nullptr);
        folder_ = name;
        path_ = folder_ / "detections.log";
    }
    void TearDown() override {
        unsetenv("TZ");
        tzset();
        fs::remove_all(folder_);
    }

    static Event detection(const char* src, const char* dst, std::uint8_t proto, unsigned evidence) {
        Event event;
        event.time_ns = 1'763'870'706'042'007'000; // 2025-11-23 04:05:06.042007 UTC
        event.src = *net::Address::parse(src);
        event.src_port = 51413;
        event.dst = *net::Address::parse(dst);
        event.dst_port = 6881;
        event.proto = proto;
        event.in_iface = "wg0";
        event.evidence = evidence;
        return event;
    }
    static unsigned mode_of(const fs::path& path) {
        struct stat info {};
        EXPECT_EQ(stat(path.c_str(), &info), 0) << path;
        return info.st_mode & 07777;
    }
    static std::string content(const fs::path& path) {
        std::ifstream file(path);
        return {std::istreambuf_iterator<char>(file), {}};
    }

    fs::path folder_, path_;
};

// The layout is btblocker's, to the byte: what its users wrote to read such files must go on.

TEST_F(DetectionLogTest, ShortTcpOverIpv4) {
    const Event event = detection("10.8.0.2", "192.0.2.7", IPPROTO_TCP, BT_EV_BIT(BT_EV_TCP_HANDSHAKE));
    EXPECT_EQ(detection_block(event, packet("\x13"
                                            "BitTorrent protocol")),
              rule + "\n"
                     "Timestamp:    2025-11-23 04:05:06.042\n"
                     "Interface:    wg0\n"
                     "Protocol:     TCP\n"
                     "Source:       10.8.0.2:51413\n"
                     "Destination:  192.0.2.7:6881\n"
                     "Detection:    tcp.handshake\n"
                     "Payload Size: 20 bytes\n"
                     "\n"
                     "Hex Dump:\n"
                     "00000000  13 42 69 74 54 6f 72 72  65 6e 74 20 70 72 6f 74  |.BitTorrent prot|\n"
                     "00000010  6f 63 6f 6c                                       |ocol|\n"
                     "\n"
                     "\n"
                     "ASCII (printable only):\n"
                     ".BitTorrent protocol\n"
                     "\n");
}

TEST_F(DetectionLogTest, UdpOverIpv6KeepsLineEndsAndTabs) {
    const Event event =
        detection("fd77::2", "2001:db8::7", IPPROTO_UDP, BT_EV_BIT(BT_EV_TRACKER_HTTP) | BT_EV_BIT(BT_EV_CLIENT_AGENT));
    EXPECT_EQ(detection_block(event, packet("GET \t/a\r\n~\x7f\x80")),
              rule + "\n"
                     "Timestamp:    2025-11-23 04:05:06.042\n"
                     "Interface:    wg0\n"
                     "Protocol:     UDP\n"
                     "Source:       fd77::2:51413\n"
                     "Destination:  2001:db8::7:6881\n"
                     "Detection:    tracker.http+client.agent\n"
                     "Payload Size: 12 bytes\n"
                     "\n"
                     "Hex Dump:\n"
                     "00000000  47 45 54 20 09 2f 61 0d  0a 7e 7f 80              |GET ./a..~..|\n"
                     "\n"
                     "\n"
                     "ASCII (printable only):\n"
                     "GET \t/a\r\n~..\n"
                     "\n");
}

TEST_F(DetectionLogTest, WithoutPayload) {
    const Event event = detection("10.8.0.2", "192.0.2.7", IPPROTO_UDP, BT_EV_BIT(BT_EV_DHT_QUERY));
    const std::string tail = "\n"
                             "\n"
                             "Hex Dump:\n"
                             "(empty)\n"
                             "\n"
                             "ASCII (printable only):\n"
                             "(empty)\n"
                             "\n";
    EXPECT_THAT(detection_block(event, {}), EndsWith("Payload Size: 0 bytes" + tail));
    // detected in the kernel: user space knows the length alone
    EXPECT_THAT(detection_block(event, {.size = 1400, .bytes = {}}), EndsWith("Payload Size: 1400 bytes" + tail));
}

TEST_F(DetectionLogTest, ALongPayloadIsCutAt512) {
    const Event event = detection("10.8.0.2", "192.0.2.7", IPPROTO_TCP, BT_EV_BIT(BT_EV_TCP_MESSAGE));
    const std::string whole = detection_block(event, packet(std::string(512, 'A')));
    EXPECT_THAT(whole, HasSubstr("Payload Size: 512 bytes\n\n"));
    const std::string longer = detection_block(event, packet(std::string(512, 'A') + "tail"));
    EXPECT_THAT(longer, HasSubstr("Payload Size: 516 bytes (showing first 512 bytes)\n\n"));
    const auto dump = [](const std::string& block) { return block.substr(block.find("Hex Dump:")); };
    EXPECT_EQ(dump(longer), dump(whole));
    EXPECT_THAT(longer,
                HasSubstr("\n000001f0  41 41 41 41 41 41 41 41  41 41 41 41 41 41 41 41  |AAAAAAAAAAAAAAAA|\n\n\n"
                          "ASCII (printable only):\n" +
                          std::string(512, 'A') + "\n\n"));
}

TEST_F(DetectionLogTest, TheFileIsPrivateWhateverTheUmask) {
    const Event event = detection("10.8.0.2", "192.0.2.7", IPPROTO_TCP, BT_EV_BIT(BT_EV_TCP_HANDSHAKE));
    for (const mode_t mask : {0000, 0077, 0777}) {
        const mode_t before = umask(mask);
        const auto log = DetectionLog::open(path_);
        umask(before);
        ASSERT_TRUE(log) << log.error().message;
        EXPECT_EQ(mode_of(path_), 0600u) << mask;
        fs::remove(path_);
    }
    // btblocker made it readable for all
    std::ofstream(path_) << "old\n";
    fs::permissions(path_, fs::perms(0644));
    auto log = DetectionLog::open(path_);
    ASSERT_TRUE(log);
    EXPECT_EQ(mode_of(path_), 0600u);
    (*log)->write_packet(event, packet("x"));
    EXPECT_EQ(content(path_), "old\n" + detection_block(event, packet("x")));
}

TEST_F(DetectionLogTest, NoSymbolicLinkIsFollowed) {
    std::ofstream(folder_ / "precious") << "mine";
    fs::create_symlink(folder_ / "precious", path_);
    auto refused = DetectionLog::open(path_);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("detection log '" + path_.string() + "': it is a symbolic link"));
    fs::remove(path_);
    fs::create_symlink(folder_ / "absent", path_);
    EXPECT_FALSE(DetectionLog::open(path_));
    EXPECT_FALSE(fs::exists(folder_ / "absent"));

    // nor when it appears later
    fs::remove(path_);
    auto log = DetectionLog::open(path_);
    ASSERT_TRUE(log);
    fs::rename(path_, folder_ / "old");
    fs::create_symlink(folder_ / "precious", path_);
    (*log)->reopen();
    const Event event = detection("10.8.0.2", "192.0.2.7", IPPROTO_TCP, BT_EV_BIT(BT_EV_TCP_HANDSHAKE));
    (*log)->write(event);
    EXPECT_EQ(content(folder_ / "precious"), "mine");
    EXPECT_EQ(content(folder_ / "old"), detection_block(event, {}));
}

TEST_F(DetectionLogTest, RotationAndThePayloadThroughTheBus) {
    const Event event = detection("10.8.0.2", "192.0.2.7", IPPROTO_TCP, BT_EV_BIT(BT_EV_TCP_HANDSHAKE));
    auto log = DetectionLog::open(path_);
    ASSERT_TRUE(log);
    std::vector<std::unique_ptr<Sink>> sinks;
    sinks.push_back(std::move(*log));
    EventBus bus(std::move(sinks));
    bus.publish(event, packet("one"));
    bus.flush();
    fs::rename(path_, folder_ / "old");
    bus.reopen();
    bus.flush();
    bus.publish(event, packet("two"));
    bus.flush();
    EXPECT_EQ(content(folder_ / "old"), detection_block(event, packet("one")));
    EXPECT_EQ(content(path_), detection_block(event, packet("two")));
    EXPECT_EQ(mode_of(path_), 0600u);
}

TEST_F(DetectionLogTest, AFullDiskIsToldOnce) {
    if (access("/dev/full", W_OK) != 0)
        GTEST_SKIP() << "needs /dev/full";
    const auto before = spdlog::default_logger();
    std::ostringstream text;
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("captured", std::make_shared<spdlog::sinks::ostream_sink_mt>(text)));
    auto log = DetectionLog::open("/dev/full");
    if (log)
        for (int i = 0; i < 3; ++i)
            (*log)->write(detection("10.8.0.2", "192.0.2.7", IPPROTO_TCP, 1));
    spdlog::set_default_logger(before);
    ASSERT_TRUE(log) << log.error().message;
    EXPECT_EQ((*log)->failed(), 3u);
    const std::string told = text.str();
    EXPECT_THAT(told, HasSubstr("cannot write detection log '/dev/full': No space left"));
    EXPECT_EQ(std::count(told.begin(), told.end(), '\n'), 1) << told;
}

} // namespace
