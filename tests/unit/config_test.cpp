// SPDX-License-Identifier: MIT
#include "core/Config.h"
#include "core/Duration.h"
#include "core/Suggest.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

namespace btblock {
namespace {

class ConfigTest : public testing::Test {
protected:
    ConfigTest() {
        char pattern[] = "/tmp/btblock-config-XXXXXX";
        dir_ = mkdtemp(pattern);
        sources_.default_file = dir_ + "/absent.toml";
    }
    ~ConfigTest() override {
        std::error_code ignored;
        fs::remove_all(dir_, ignored);
    }

    std::string write(const std::string& name, const std::string& text) {
        const fs::path path = dir_ + "/" + name;
        fs::create_directories(path.parent_path());
        std::ofstream(path) << text;
        return path;
    }
    void main_file(const std::string& text) { sources_.file = write("btblock.toml", text); }

    Config good() {
        auto loaded = load_config(sources_);
        EXPECT_TRUE(loaded) << loaded.error().message;
        return loaded ? loaded->config : Config{};
    }
    std::string bad() {
        auto loaded = load_config(sources_);
        EXPECT_FALSE(loaded);
        if (loaded)
            return {};
        EXPECT_EQ(loaded.error().exit_code, ExitCode::usage);
        return loaded.error().message;
    }
    std::string bad_set(const std::string& assignment) {
        sources_.set = {assignment};
        return bad();
    }

    std::string dir_;
    ConfigSources sources_;
};

TEST_F(ConfigTest, BuiltInValuesAreTheDocumentedOnes) {
    const Config c = good();
    EXPECT_THAT(c.interfaces, ElementsAre("eth0"));
    EXPECT_TRUE(c.inside.empty());
    EXPECT_EQ(c.scope, Scope::forward);
    EXPECT_EQ(c.xdp, XdpMode::automatic);
    EXPECT_EQ(c.queue.first, 0);
    EXPECT_GE(c.queue.count, 1);
    EXPECT_LE(c.queue.count, 4);
    EXPECT_TRUE(c.queue.fail_open);
    EXPECT_EQ(c.mark(), 0x20000000u);
    EXPECT_EQ(c.firewall, FirewallChoice::automatic);
    EXPECT_FALSE(c.monitor_only);
    EXPECT_EQ(c.action, DropAction::drop);
    EXPECT_EQ(c.ban.target, BanTarget::peer);
    EXPECT_EQ(c.ban.scope, BanScope::address);
    EXPECT_EQ(c.ban.duration, 18000u);
    EXPECT_EQ(c.ban.after, 1u);
    EXPECT_THAT(c.whitelist_ports, ElementsAre(22, 53, 80, 443, 853, 5222, 5269));
    EXPECT_FALSE(c.strict_whitelist);
    EXPECT_TRUE(c.allow.empty());
    EXPECT_FALSE(c.block_socks);
    EXPECT_EQ(c.detection_log, "");
    EXPECT_EQ(c.log_level, LogLevel::info);
    EXPECT_EQ(c.cleanup_interval, 300u);
    EXPECT_FALSE(c.persist);
    EXPECT_EQ(c.capacity.bans, 65536u);
    EXPECT_EQ(c.capacity.flows, 262144u);
    EXPECT_EQ(c.capacity.sockets, 65536u);
    EXPECT_EQ(c.events.format, EventFormat::eve);
    EXPECT_FALSE(c.events.journal);
    EXPECT_EQ(c.metrics.listen, "");
}

TEST_F(ConfigTest, EveryKeyCanBeSetInAFile) {
    main_file(R"(
interfaces = ["wg0", "eth1"]
inside = ["10.8.0.0/24", "fd00::/8"]
scope = "output"
xdp = "off"
mark_bit = 4
firewall = "iptables"
monitor_only = true
action = "reject"
whitelist_ports = [443, 22, 443]
strict_whitelist = true
allow = ["192.0.2.0/24", { prefix = "2001:db8::1", comment = "the \"office\"" }]
block_socks = true
detection_log = "/var/log/bt.log"
log_level = "debug"
cleanup_interval = 60
persist = true
[queue]
first = 7
count = 2
fail_open = false
[ban]
target = "client"
scope = "endpoint"
duration = "2h"
after = 3
growth = 2
max_duration = "9d"
[fanout]
hosts = 30
ports = 31
exclude = ["198.51.100.0/24"]
[names]
watch = true
block = ["Tracker.Example.org", "example.net"]
[capacity]
bans = 100
flows = 200
sockets = 300
[events]
file = "/var/log/eve.json"
format = "ecs"
journal = true
[metrics]
listen = "[::1]:9100"
file = "/run/btblock.prom"
)");
    auto loaded = load_config(sources_);
    ASSERT_TRUE(loaded) << loaded.error().message;
    const Config& c = loaded->config;
    EXPECT_THAT(c.interfaces, ElementsAre("wg0", "eth1"));
    EXPECT_THAT(c.inside, ElementsAre("10.8.0.0/24", "fd00::/8"));
    EXPECT_EQ(c.scope, Scope::output);
    EXPECT_EQ(c.xdp, XdpMode::off);
    EXPECT_EQ(c.mark(), 16u);
    EXPECT_EQ(c.firewall, FirewallChoice::iptables);
    EXPECT_EQ(c.action, DropAction::reject);
    EXPECT_THAT(c.whitelist_ports, ElementsAre(22, 443));
    EXPECT_THAT(c.allow,
                ElementsAre(Config::Allow{"192.0.2.0/24", ""}, Config::Allow{"2001:db8::1", "the \"office\""}));
    EXPECT_EQ(c.queue.first, 7);
    EXPECT_EQ(c.queue.count, 2);
    EXPECT_FALSE(c.queue.fail_open);
    EXPECT_EQ(c.ban.duration, 7200u);
    EXPECT_EQ(c.ban.after, 3u);
    EXPECT_EQ(c.ban.growth, 2u);
    EXPECT_EQ(c.ban.max_duration, 9u * 86400);
    EXPECT_EQ(c.fanout.hosts, 30);
    EXPECT_EQ(c.fanout.ports, 31);
    EXPECT_THAT(c.fanout.exclude, ElementsAre("198.51.100.0/24"));
    EXPECT_TRUE(c.names.watch);
    EXPECT_THAT(c.names.block, ElementsAre("tracker.example.org", "example.net"));
    EXPECT_EQ(c.capacity.sockets, 300u);
    EXPECT_EQ(c.events.format, EventFormat::ecs);
    EXPECT_EQ(c.metrics.listen, "[::1]:9100");
    EXPECT_EQ(c.metrics.file, "/run/btblock.prom");
    // No key was left out of this file: each one has an origin in it.
    for (const Setting& setting : effective_settings(*loaded))
        EXPECT_THAT(setting.origin, testing::StartsWith(*sources_.file + ":")) << setting.key;
    EXPECT_EQ(loaded->origins.at("ban.duration"), *sources_.file + ":25");
}

TEST_F(ConfigTest, NamesToBlockAreHostNames) {
    main_file("names.block = [\"a b.org\", \"org\", \"a..org\", \"\", 5, \"https://a.org/\", \"ok.example.org\"]\n");
    const std::string message = bad();
    EXPECT_THAT(message, HasSubstr("names.block[1]: 'a b.org' is not a host name such as \"tracker.example.org\""));
    EXPECT_THAT(message, HasSubstr("names.block[2]: 'org' would block all names below it"));
    for (const char* number : {"[3]", "[4]", "[5]", "[6]"})
        EXPECT_THAT(message, HasSubstr(std::string("names.block") + number + ": "));
    EXPECT_THAT(message, Not(HasSubstr("[7]")));
}

TEST_F(ConfigTest, LaterSourcesWin) {
    main_file("log_level = \"error\"\nban.duration = 10\ninterfaces = [\"a\"]\nmark_bit = 1\npersist = true\n");
    write("btblock.toml.d/20-b.toml", "mark_bit = 3\n");
    write("btblock.toml.d/10-a.toml", "mark_bit = 2\nban.duration = 20\n");
    write("btblock.toml.d/30-not-toml.conf", "mark_bit = 9\n");
    sources_.environment = {{"BAN_DURATION", "30"}, {"INTERFACE", "b, c"}, {"DETECTION_LOG", ""}};
    sources_.set = {"ban.duration=40s", "monitor_only=off"};
    sources_.interfaces = {"d"};
    sources_.monitor_only = true;
    auto loaded = load_config(sources_);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded->config.log_level, LogLevel::error);
    EXPECT_EQ(loaded->config.mark_bit, 3u);
    EXPECT_EQ(loaded->config.ban.duration, 40u);
    EXPECT_THAT(loaded->config.interfaces, ElementsAre("d"));
    EXPECT_TRUE(loaded->config.monitor_only);
    EXPECT_TRUE(loaded->config.persist);
    EXPECT_EQ(loaded->origins.at("mark_bit"), dir_ + "/btblock.toml.d/20-b.toml:1");
    EXPECT_EQ(loaded->origins.at("ban.duration"), "--set ban.duration");
    EXPECT_EQ(loaded->origins.at("interfaces"), "option --interface");
    EXPECT_EQ(loaded->origins.count("detection_log"), 0u);
    EXPECT_EQ(loaded->files.size(), 3u);
}

TEST_F(ConfigTest, PredecessorsVariables) {
    sources_.environment = {{"INTERFACE", "eth1,wg0"},   {"QUEUE_NUM", "5"},      {"BAN_DURATION", "600"},
                            {"LOG_LEVEL", "WARNING"},    {"DETECTION_LOG", "/x"}, {"MONITOR_ONLY", "true"},
                            {"BLOCK_SOCKS", "1"},        {"XDP_MODE", "generic"}, {"XDP_CLEANUP_INTERVAL", "61"},
                            {"WHITELIST_PORTS", "25,22"}};
    Config c = good();
    EXPECT_THAT(c.interfaces, ElementsAre("eth1", "wg0"));
    EXPECT_EQ(c.queue.first, 5);
    EXPECT_EQ(c.ban.duration, 600u);
    EXPECT_EQ(c.log_level, LogLevel::warn);
    EXPECT_EQ(c.detection_log, "/x");
    EXPECT_TRUE(c.monitor_only);
    EXPECT_TRUE(c.block_socks);
    EXPECT_EQ(c.xdp, XdpMode::generic);
    EXPECT_EQ(c.cleanup_interval, 61u);
    EXPECT_THAT(c.whitelist_ports, ElementsAre(22, 25));
    sources_.environment["CLEANUP_INTERVAL"] = "62";
    EXPECT_EQ(good().cleanup_interval, 62u);
    sources_.environment["BAN_DURATION"] = "soon";
    EXPECT_THAT(bad(), HasSubstr("environment variable BAN_DURATION: ban.duration: 'soon' is not a duration"));
}

TEST_F(ConfigTest, EnvironmentIsReadUnderTheseNamesOnly) {
    setenv("WHITELIST_PORTS", "22", 1);
    setenv("BTBLOCK_TEST_OTHER", "x", 1);
    const auto environment = predecessor_environment();
    unsetenv("WHITELIST_PORTS");
    unsetenv("BTBLOCK_TEST_OTHER");
    EXPECT_EQ(environment.at("WHITELIST_PORTS"), "22");
    EXPECT_EQ(environment.count("BTBLOCK_TEST_OTHER"), 0u);
}

TEST_F(ConfigTest, AllProblemsAtOnceWithLineAndColumn) {
    main_file("interfaces = \"eth0\"\n" // 1
              "bann.duration = 5\n"     // 2
              "mark_bit = 40\n"         // 3
              "[ban]\n"                 // 4
              "duration = \"5x\"\n"     // 5
              "target = \"peers\"\n"    // 6
              "[qeue]\n"                // 7
              "first = 1\n"             // 8
              "[capacity]\n"            // 9
              "bans = \"many\"\n");     // 10
    write("btblock.toml.d/a.toml", "whitelist_ports = [22,\n  70000]\n");
    sources_.set = {"interfaces=a/b", "nothing", "persist=perhaps"};
    const std::string f = *sources_.file;
    const std::string message = bad();
    for (const std::string& line :
         {f + ":1:14: interfaces: must be a list of interface names, not text",
          f + ":2:6: unknown key 'bann.duration' (did you mean 'ban.duration'?)",
          f + ":3:12: mark_bit: must be the number of a bit from 0 to 31, not 40",
          f + ":5:12: ban.duration: '5x' is not a duration",
          f + ":6:10: ban.target: 'peers' is not one of \"peer\", \"client\", \"source\", \"none\" (did you mean "
              "'peer'?)",
          f + ":8:1: unknown key 'qeue.first' (did you mean 'queue.first'?)",
          f + ":10:8: capacity.bans: must be a number from 16 to 16777216, not text",
          dir_ + "/btblock.toml.d/a.toml:2:3: whitelist_ports[2]: must be a port from 1 to 65535, not 70000",
          std::string("--set interfaces: interfaces[1]: 'a/b' cannot be the name of an interface"),
          std::string("--set nothing: write KEY=VALUE"),
          std::string("--set persist: persist: must be true or false, not text")})
        EXPECT_THAT(message, HasSubstr(line));
    EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 10) << message;
}

TEST_F(ConfigTest, SyntaxErrorsNameTheLine) {
    main_file("persist = true\nlog_level = \"info\n");
    EXPECT_THAT(bad(), HasSubstr(*sources_.file + ":2:"));
    main_file("persist = true\npersist = false\n");
    EXPECT_THAT(bad(), HasSubstr(*sources_.file + ":2:"));
}

TEST_F(ConfigTest, FilesThatCannotBeRead) {
    sources_.file = dir_ + "/none.toml";
    EXPECT_EQ(bad(), dir_ + "/none.toml: No such file or directory; name another with --config");
    sources_.file = dir_;
    EXPECT_EQ(bad(), dir_ + ": is a directory; name a file");
    main_file(std::string(2 << 20, '#'));
    EXPECT_THAT(bad(), HasSubstr("larger than 1 MiB"));
    sources_.file.reset(); // a default file may be absent
    good();
}

TEST_F(ConfigTest, UnknownKeysGetUsefulHints) {
    EXPECT_THAT(bad_set("interface=x"), HasSubstr("(did you mean 'interfaces'?)"));
    EXPECT_THAT(bad_set("fail_open=1"), HasSubstr("(did you mean 'queue.fail_open'?)"));
    EXPECT_THAT(bad_set("ban.persist=1"), HasSubstr("(did you mean 'persist'?)"));
    EXPECT_THAT(bad_set("queue_num=1"), HasSubstr("(did you mean 'queue.first'?)"));
    EXPECT_THAT(bad_set("zzzzzzzz=1"), Not(HasSubstr("did you mean")));
    EXPECT_THAT(bad_set("=1"), HasSubstr("write KEY=VALUE"));
}

TEST_F(ConfigTest, SetTakesPlainTextAndToml) {
    sources_.set = {"interfaces=a, b",
                    "whitelist_ports=",
                    "allow=[{prefix='10.0.0.0/8', comment='x, y'}]",
                    "detection_log=\"/a b\"",
                    "queue.first=0x10",
                    "events.file=",
                    "metrics.listen=127.0.0.1:80"};
    const Config c = good();
    EXPECT_THAT(c.interfaces, ElementsAre("a", "b"));
    EXPECT_TRUE(c.whitelist_ports.empty());
    EXPECT_THAT(c.allow, ElementsAre(Config::Allow{"10.0.0.0/8", "x, y"}));
    EXPECT_EQ(c.detection_log, "/a b");
    EXPECT_EQ(c.queue.first, 16);
    EXPECT_EQ(c.metrics.listen, "127.0.0.1:80");
}

TEST_F(ConfigTest, ValuesOutOfRangeAreRefused) {
    EXPECT_THAT(bad_set("ban.duration=0"), HasSubstr("must be from 1s to 3650d"));
    EXPECT_THAT(bad_set("ban.duration=-5"), HasSubstr("is not a duration"));
    EXPECT_THAT(bad_set("ban.duration=99w99999d"), HasSubstr("too long"));
    EXPECT_THAT(bad_set("cleanup_interval=2d"), HasSubstr("must be from 1s to 1d"));
    EXPECT_THAT(bad_set("queue.count=0"), HasSubstr("from 1 to 256, not 0"));
    EXPECT_THAT(bad_set("mark_bit=0x20000000"), HasSubstr("number of a bit from 0 to 31"));
    EXPECT_THAT(bad_set("interfaces="), HasSubstr("names no interface"));
    EXPECT_THAT(bad_set("interfaces=a,a"), HasSubstr("named twice"));
    EXPECT_THAT(bad_set("inside=10.0.0.0/33"), HasSubstr("not an address or prefix"));
    EXPECT_THAT(bad_set("inside=::ffff:10.0.0.0/96"), HasSubstr("not an address or prefix"));
    EXPECT_THAT(bad_set("allow=[{comment='x'}]"), HasSubstr("has no prefix"));
    EXPECT_THAT(bad_set("allow=[{prefix='::1', coment='x'}]"), HasSubstr("did you mean 'comment'?"));
    EXPECT_THAT(bad_set("metrics.listen=9100"), HasSubstr("is not ADDRESS:PORT"));
    EXPECT_THAT(bad_set("metrics.listen=::1:9100"), HasSubstr("is not ADDRESS:PORT"));
    EXPECT_THAT(bad_set("metrics.file=/etc/passwd"), HasSubstr("*.prom"));
    EXPECT_THAT(bad_set("metrics.listen=0.0.0.0:9100"), HasSubstr("is not of this host alone"));
    EXPECT_THAT(bad_set("metrics.listen=[2001:db8::1]:9100"), HasSubstr("is not of this host alone"));
    std::string ports = "1";
    for (int i = 2; i <= 33; ++i)
        ports += "," + std::to_string(i);
    EXPECT_THAT(bad_set("whitelist_ports=" + ports), HasSubstr("lists 33 ports; 32 is the most"));
    sources_.set = {"queue.first=65535", "queue.count=2"};
    EXPECT_THAT(bad(), HasSubstr("queue numbers end at 65535"));
}

TEST_F(ConfigTest, WhatDumpWritesLoadsToTheSame) {
    sources_.set = {"interfaces=wg0", "allow=[{prefix='10.0.0.0/8', comment='a \"b\" \\ c'}, '::1']",
                    "ban.duration=90m", "log_level=trace", "detection_log=/tmp/a#b"};
    auto first = load_config(sources_);
    ASSERT_TRUE(first) << first.error().message;
    const std::string dump = config_as_toml(*first);
    EXPECT_THAT(dump, HasSubstr("ban.duration = \"1h30m\""));
    EXPECT_THAT(dump, HasSubstr("# --set ban.duration\n"));
    EXPECT_THAT(dump, HasSubstr("# built in\n"));
    sources_.set.clear();
    main_file(dump);
    auto second = load_config(sources_);
    ASSERT_TRUE(second) << second.error().message;
    const auto a = effective_settings(*first), b = effective_settings(*second);
    ASSERT_EQ(a.size(), b.size());
    ASSERT_EQ(a.size(), config_keys().size());
    for (std::size_t i = 0; i < a.size(); ++i)
        EXPECT_EQ(a[i].key + "=" + a[i].value, b[i].key + "=" + b[i].value);
}

TEST_F(ConfigTest, HostileInputNeverThrows) {
    for (const char* text :
         {"a.b.c = 1", "[queue.first]\nx=1", "queue = 5", "[[ban]]\nduration=1", "allow = [[1]]",
          "interfaces = [1, {}]", "mark_bit = 1979-05-27", "ban.duration = 1e300", "mark_bit = 99999999999999999999",
          "\xff\xfe", "= =", "[ban]\n[ban]", "inside = [\"\\u0000\"]"}) {
        main_file(text);
        EXPECT_THAT(bad(), HasSubstr(*sources_.file + ":")) << text;
    }
    sources_.file.reset();
    for (const char* text : {"allow=[", "allow=[\"a\"]\nx=1", "whitelist_ports=1 2", "inside='"})
        EXPECT_THAT(bad_set(text), HasSubstr("--set")) << text;
}

TEST(Duration, ReadsWhatPeopleWrite) {
    const std::pair<const char*, std::uint64_t> good[] = {{"0", 0},       {"90", 90},      {"90s", 90},
                                                          {"30m", 1800},  {"2h", 7200},    {"7d", 604800},
                                                          {"1w", 604800}, {"1h30m", 5400}, {"1d1s", 86401}};
    for (const auto& [text, seconds] : good) {
        const auto parsed = parse_duration(text);
        ASSERT_TRUE(parsed) << text;
        EXPECT_EQ(*parsed, seconds) << text;
    }
    for (const char* text : {"", "h", "5x", "-1", "+1", "1.5h", "1h30", "30m1h", "1h1h", " 1h", "1h ", "1 h", "0x10",
                             "18446744073709551616", "18446744073709551615w", "36601d", "100000d1h"})
        EXPECT_FALSE(parse_duration(text)) << text;
}

TEST(Duration, WritesWhatItReads) {
    EXPECT_EQ(duration_string(18000), "5h");
    EXPECT_EQ(duration_string(604800), "7d");
    EXPECT_EQ(rough_duration(93784), "1d 2h");
    EXPECT_EQ(rough_duration(3600), "1h");
    EXPECT_EQ(rough_duration(61), "1m 1s");
    EXPECT_EQ(rough_duration(0), "0s");
    for (std::uint64_t seconds : {0ull, 1ull, 59ull, 60ull, 3661ull, 86399ull, 86400ull, 31536000ull}) {
        const auto back = parse_duration(duration_string(seconds));
        ASSERT_TRUE(back);
        EXPECT_EQ(*back, seconds);
    }
}

TEST(Suggest, CountsEditsAndSwaps) {
    EXPECT_EQ(edit_distance("", ""), 0u);
    EXPECT_EQ(edit_distance("abc", ""), 3u);
    EXPECT_EQ(edit_distance("status", "statsu"), 1u);
    EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
    EXPECT_EQ(edit_distance("ca", "abc"), 3u); // a swapped pair is not edited again
}

TEST(Suggest, NamesOnlyWhatIsNear) {
    const std::vector<std::string> words{"status", "bans", "flows"};
    EXPECT_EQ(suggest("stauts", words), "status");
    EXPECT_EQ(suggest("STATUS", words), "status");
    EXPECT_EQ(suggest("ban", words), "bans");
    EXPECT_EQ(suggest("stat", words), "status");
    EXPECT_EQ(suggest("st", words), std::nullopt);
    EXPECT_EQ(suggest("xyz", words), std::nullopt);
    EXPECT_EQ(suggest("", words), std::nullopt);
    EXPECT_EQ(suggest(std::string(10000, 's'), words), std::nullopt);
    EXPECT_EQ(did_you_mean("flow", words), " (did you mean 'flows'?)");
    EXPECT_EQ(did_you_mean("q", words), "");
}

} // namespace
} // namespace btblock
