// SPDX-License-Identifier: MIT
#include "app/Allow.h"
#include "app/Bans.h"
#include "app/Cli.h"
#include "app/Clients.h"
#include "app/Completion.h"
#include "app/ConfigCommand.h"
#include "app/Doctor.h"
#include "app/EventsCommand.h"
#include "app/Explain.h"
#include "app/Flows.h"
#include "app/Operations.h"
#include "app/Progress.h"
#include "app/Render.h"
#include "app/Status.h"
#include "app/Watch.h"
#include "core/Clock.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sstream>
#include <unistd.h>

using nlohmann::json;
using nlohmann::ordered_json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

namespace btblock::app {
namespace {

constexpr std::uint64_t second = BT_NSEC_PER_SEC;
// Monday, 2026-11-23 01:00:00 UTC; the machine has run for a day.
constexpr Clocks clocks{86400 * second, 1795395600ull * second};

bt_addr addr(const char* text) {
    return net::Address::parse(text)->raw();
}

bt_ban ban_until(std::uint64_t expires, const char* comment = "") {
    bt_ban ban{};
    ban.created_ns = clocks.monotonic_ns - 60 * second;
    ban.expires_ns = expires;
    std::string(comment).copy(ban.comment, sizeof ban.comment - 1);
    return ban;
}

std::size_t widest_line(const std::string& text) {
    std::size_t widest = 0;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);)
        widest = std::max(widest, line.size());
    return widest;
}

// An instance that exists on no machine: what needs pins or a daemon says so.
const std::string absent = "unit-test-none";

struct Outcome {
    int code;
    std::string out, err;
};

class CliTest : public testing::Test {
protected:
    Outcome run(std::vector<std::string> arguments, const char* program = "btblock") {
        std::ostringstream out, err;
        Io io{out, err};
        arguments.insert(arguments.begin(), program);
        const Actions actions{
            .run =
                [this](const RunOptions& options) {
                    run_options = options;
                    ++runs;
                    return 0;
                },
            .analyze =
                [this](const AnalyzeOptions& options, std::ostream&, std::ostream&) {
                    analyze_options = options;
                    return 1;
                },
            .detach =
                [this](const std::string& instance, bool all) {
                    detached = instance + (all ? " all" : "");
                    return 0;
                },
        };
        const int code = run_cli(std::move(arguments), io, actions);
        return {code, out.str(), err.str()};
    }

    RunOptions run_options;
    AnalyzeOptions analyze_options;
    std::string detached;
    int runs = 0;
};

// ------------------------------------------------------------------ understanding the command line

TEST_F(CliTest, RunTakesItsOptions) {
    const auto outcome = run({"run", "-c", "/x.toml", "-i", "eth0,wg0", "-i", "eth1", "--monitor-only", "--set",
                              "ban.duration=2h", "--set", "interfaces=a,b", "--instance", "lab"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(run_options.config_file, "/x.toml");
    EXPECT_THAT(run_options.interfaces, ElementsAre("eth0", "wg0", "eth1"));
    EXPECT_TRUE(run_options.monitor_only);
    EXPECT_THAT(run_options.set, ElementsAre("ban.duration=2h", "interfaces=a,b"));
    EXPECT_EQ(run_options.instance, "lab");
    EXPECT_EQ(runs, 1);
}

TEST_F(CliTest, BtblockerMeansRun) {
    EXPECT_EQ(run({}, "/usr/sbin/btblocker").code, 0);
    EXPECT_EQ(run({"-i", "wg0"}, "btblocker").code, 0);
    EXPECT_EQ(runs, 2);
    EXPECT_THAT(run_options.interfaces, ElementsAre("wg0"));
    EXPECT_EQ(run_options.instance, "main");
    EXPECT_THAT(run({"--version"}, "btblocker").out, HasSubstr(BTBLOCK_VERSION));
    EXPECT_EQ(runs, 2);
}

TEST_F(CliTest, InstanceMayStandAnywhereAndIsChecked) {
    run({"--instance", "a_B-9", "detach", "--all"});
    EXPECT_EQ(detached, "a_B-9 all");
    run({"detach", "--instance", "x"});
    EXPECT_EQ(detached, "x");
    for (const char* name : {"", "a/b", "..", "-x", "ab cd", "\xc3\xa4", "a\n", "012345678901234567890123456789012"}) {
        const auto outcome = run({"detach", std::string("--instance=") + name});
        EXPECT_EQ(outcome.code, 2) << name;
    }
    EXPECT_EQ(detached, "x");
}

TEST_F(CliTest, AnalyzeTakesItsOptionsAndKeepsTheExitCode) {
    EXPECT_EQ(run({"analyze", "-o", "csv", "--all", "a.pcap", "b.pcap", "-"}).code, 1);
    EXPECT_EQ(analyze_options.format, AnalyzeFormat::csv);
    EXPECT_TRUE(analyze_options.all);
    EXPECT_THAT(analyze_options.files, ElementsAre("a.pcap", "b.pcap", "-"));
}

TEST_F(CliTest, UsageErrorsExitWith2AndHelp) {
    const std::pair<std::vector<std::string>, const char*> wrong[] = {
        {{}, "name a command: run, analyze, status"},
        {{"stauts"}, "unknown command 'stauts' (did you mean 'status'?)"},
        {{"bans"}, "name a command: list, add, del, flush, import, export"},
        {{"bans", "lits"}, "unknown command 'lits' (did you mean 'list'?)"},
        {{"bans", "add"}, "ADDRESS is required"},
        {{"bans", "add", "999.1.1.1"}, "'999.1.1.1' is not an address"},
        {{"bans", "add", "192.0.2.0/24"}, "only single addresses and IPv6 /64 prefixes"},
        {{"bans", "add", "2001:db8::/48"}, "only single addresses and IPv6 /64 prefixes"},
        {{"bans", "add", "192.0.2.1", "--for", "soon"}, "--for: 'soon' is not a duration"},
        {{"bans", "add", "192.0.2.1", "--for", "0"}, "--for: must be at least 1s"},
        {{"bans", "add", "192.0.2.1", "--comment", std::string(48, 'x')}, "longer than 47 bytes"},
        {{"bans", "del", "192.0.2.1:0"}, "is not an endpoint"},
        {{"allow", "add", "10.0.0.0/33"}, "prefix length must be 0 to 32"},
        {{"status", "-o", "csv"}, "'csv' is not one of human|json"},
        {{"status", "extra"}, "unexpected argument 'extra'"},
        {{"status", "bans"}, "unexpected argument 'bans'"},
        {{"status", "--outptu", "json"}, "unknown option --outptu (did you mean '--output'?)"},
        {{"analyze"}, "FILE is required"},
        {{"explain", "example.org"}, "not an IPv4 or IPv6 address"},
        {{"completion", "bsh"}, "(did you mean 'bash'?)"},
        {{"flows", "-n", "0"}, "--limit"},
        {{"run", "--set"}, "--set"},
        {{"run", "eth0"}, "unexpected argument 'eth0'"},
    };
    for (const auto& [arguments, message] : wrong) {
        std::vector<std::string> with_instance{"--instance", absent};
        with_instance.insert(with_instance.end(), arguments.begin(), arguments.end());
        const auto outcome = run(with_instance);
        EXPECT_EQ(outcome.code, 2) << message;
        EXPECT_EQ(outcome.out, "") << message;
        EXPECT_THAT(outcome.err, testing::StartsWith("btblock: "));
        EXPECT_THAT(outcome.err, HasSubstr(message));
    }
    EXPECT_THAT(run({"bans", "add"}).err, HasSubstr("Try `btblock bans add --help`."));
    EXPECT_EQ(runs, 0);
}

TEST_F(CliTest, EveryCommandHasHelpWithAnExample) {
    const std::vector<std::vector<std::string>> commands = {
        {"run"},          {"analyze"},       {"status"},         {"bans", "list"},    {"bans", "add"},
        {"bans", "del"},  {"bans", "flush"}, {"bans", "import"}, {"bans", "export"},  {"allow", "list"},
        {"allow", "add"}, {"allow", "del"},  {"clients"},        {"flows"},           {"explain"},
        {"events"},       {"doctor"},        {"detach"},         {"config", "check"}, {"config", "dump"},
        {"version"},      {"completion"}};
    for (auto arguments : commands) {
        std::string name = "btblock";
        for (const auto& word : arguments)
            name += " " + word;
        arguments.push_back("--help");
        const auto outcome = run(arguments);
        EXPECT_EQ(outcome.code, 0) << name;
        EXPECT_THAT(outcome.out, HasSubstr("Example")) << name;
        EXPECT_THAT(outcome.out, HasSubstr("  btblock ")) << name;
        EXPECT_LE(widest_line(outcome.out), 110u) << name;
    }
    const auto root = run({"--help"});
    EXPECT_EQ(root.code, 0);
    for (const auto& arguments : commands)
        EXPECT_THAT(root.out, HasSubstr("\n  " + arguments.front() + " "));
}

TEST_F(CliTest, WithoutDaemonAndPinsTheExitCodeIs3) {
    for (const std::vector<std::string>& arguments :
         std::vector<std::vector<std::string>>{{"status"},
                                               {"bans", "list"},
                                               {"flows"},
                                               {"clients"},
                                               {"events"},
                                               {"events", "--follow"},
                                               {"bans", "add", "192.0.2.1"},
                                               {"bans", "flush"},
                                               {"allow", "add", "192.0.2.0/24"},
                                               {"explain", "192.0.2.1"}}) {
        std::vector<std::string> with_instance = arguments;
        with_instance.insert(with_instance.end(), {"--instance", absent});
        const auto outcome = run(with_instance);
        if (geteuid() == 0 || arguments.front() == "events") {
            EXPECT_EQ(outcome.code, 3) << arguments.front() << ": " << outcome.err;
        } else {
            EXPECT_NE(outcome.code, 0) << arguments.front();
        }
        EXPECT_EQ(outcome.out, "");
        EXPECT_THAT(outcome.err, testing::StartsWith("btblock: "));
    }
    EXPECT_THAT(run({"events", "--instance", absent}).err,
                HasSubstr("the btblock daemon of instance '" + absent + "' is not running (no answer on /run/btblock/" +
                          absent + "/control.sock)"));
}

TEST_F(CliTest, ConfigDumpAndCheck) {
    auto outcome = run({"config", "dump", "-i", "wg7", "--set", "ban.duration=90m"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr("interfaces = [\"wg7\"]"));
    EXPECT_THAT(outcome.out, HasSubstr("ban.duration = \"1h30m\""));
    outcome = run({"config", "dump", "--set", "ban.duration=90m", "-o", "json"});
    const json dump = json::parse(outcome.out);
    EXPECT_EQ(dump["config"]["ban"]["duration"], "1h30m");
    EXPECT_EQ(dump["config"]["queue"]["fail_open"], true);
    EXPECT_EQ(dump["origins"]["ban.duration"], "--set ban.duration");
    outcome = run({"config", "check", "--set", "ban.durration=1"});
    EXPECT_EQ(outcome.code, 2);
    EXPECT_THAT(outcome.err, HasSubstr("did you mean 'ban.duration'?"));
    EXPECT_EQ(run({"config", "check", "-c", "/nonexistent/x.toml"}).code, 2);
}

TEST_F(CliTest, OutputThatCannotBeWrittenIsAFailure) {
    std::ofstream full("/dev/full");
    std::ostringstream err;
    Io io{full, err};
    EXPECT_EQ(run_cli({"btblock", "completion", "bash"}, io, Actions{}), 1);
    EXPECT_THAT(err.str(), HasSubstr("could not be written"));
}

TEST(Completion, ScriptsNameEveryCommandAndKey) {
    for (const char* shell : {"bash", "zsh", "fish"}) {
        const auto script = completion_script(shell);
        ASSERT_TRUE(script);
        for (const char* word : {"analyze", "bans", "explain", "whitelist_ports", "queue.fail_open", "monitor-only"})
            EXPECT_THAT(*script, HasSubstr(word)) << shell;
        EXPECT_THAT(*script, Not(HasSubstr("@KEYS@")));
        EXPECT_THAT(*script, Not(HasSubstr("@EQUALS@")));
    }
    EXPECT_FALSE(completion_script("tcsh"));
    FILE* bash = popen("bash -n", "w");
    ASSERT_TRUE(bash);
    std::fputs(completion_script("bash")->c_str(), bash);
    EXPECT_EQ(pclose(bash), 0);
}

// ------------------------------------------------------------------ small renderings

TEST(Render, NumbersAndTimes) {
    EXPECT_EQ(grouped(0), "0");
    EXPECT_EQ(grouped(999), "999");
    EXPECT_EQ(grouped(1000), "1,000");
    EXPECT_EQ(grouped(1234567), "1,234,567");
    EXPECT_EQ(counted(1, "ban", "bans"), "1 ban");
    EXPECT_EQ(utc_time(clocks.wall_ns), "2026-11-23T01:00:00Z");
    EXPECT_EQ(parse_utc_time("2026-11-23T01:00:00Z"), clocks.wall_ns);
    for (const char* text : {"", "2026-11-23", "2026-11-23T01:00:00", "2026-11-23T01:00:00Zx", "1950-01-01T00:00:00Z"})
        EXPECT_EQ(parse_utc_time(text), std::nullopt) << text;
    EXPECT_EQ(clocks.to_wall(clocks.monotonic_ns + 5), clocks.wall_ns + 5);
    EXPECT_EQ(clocks.to_wall(clocks.monotonic_ns - 5), clocks.wall_ns - 5);
    EXPECT_EQ(clocks.to_wall(never), never);
    EXPECT_EQ(clocks.to_monotonic(clocks.to_wall(12345)), 12345u);
    EXPECT_EQ(clocks.to_monotonic(0), 0u); // before the machine started
    EXPECT_EQ(seconds_left(10 * second + 1, 9 * second), 2u);
    EXPECT_EQ(seconds_left(9 * second, 9 * second), 0u);
}

TEST(Render, TablesAlignAndTellNoLies) {
    Table table({{"name"}, {"n", Table::Align::right}, {"note"}});
    table.row({"a", "1", ""});
    table.row({"b\x1b[31m", "22", "x"});
    table.row({"\xc3\xa4", "3", "y"});
    EXPECT_EQ(table.text(), "name     n  note\n"
                            "a        1\n"
                            "b?[31m  22  x\n"
                            "\xc3\xa4        3  y\n");
    EXPECT_EQ(table.text(80), table.text());
    EXPECT_EQ(wrapped("aa bb cc", 5, 0), "aa bb\ncc");
    EXPECT_EQ(wrapped("aa bb cc", 7, 2), "aa bb\n  cc");
    EXPECT_EQ(wrapped("toolongword x", 5, 0), "toolongword\nx");
}

TEST(Render, TablesFitTheTerminal) {
    Table table({{"address"}, {"n", Table::Align::right}, {"comment"}});
    table.row({"2001:db8:1234:5678::1", "1,234,567", "a long comment with \xc3\xa4 in it and more"});
    table.row({"192.0.2.7", "1", "short"});
    for (const std::size_t width : {70u, 50u, 45u, 36u, 31u}) {
        std::istringstream lines(table.text(width));
        for (std::string line; std::getline(lines, line);) {
            const auto columns =
                std::count_if(line.begin(), line.end(), [](unsigned char c) { return (c & 0xc0) != 0x80; });
            EXPECT_LE(static_cast<std::size_t>(columns), width) << line;
        }
    }
    // the last column first, the number never
    EXPECT_EQ(table.text(50), "address                        n  comment\n"
                              "2001:db8:1234:5678::1  1,234,567  a long comment \u2026\n"
                              "192.0.2.7                      1  short\n");
    EXPECT_EQ(table.text(31), "address             n  comment\n"
                              "2001:db8:\u2026  1,234,567  a long \u2026\n"
                              "192.0.2.7           1  short\n");
}

TEST(Progress, ShowsOnlyWhatTakesLong) {
    using namespace std::chrono_literals;
    const Progress::Clock::time_point start{};
    std::ostringstream out;
    {
        Progress quiet(out, false, start);
        quiet.show("a.pcap", 5, start + 1h);
    }
    EXPECT_EQ(out.str(), "");
    Progress progress(out, true, start);
    progress.show("a.pcap", 5, start + 999ms);
    progress.clear();
    EXPECT_EQ(out.str(), "");
    progress.show("a.pcap", 1234567, start + 1000ms);
    progress.show("a.pcap", 1234568, start + 1100ms); // not that often
    EXPECT_EQ(out.str(), "\ra.pcap: 1,234,567 packets, 1 s\x1b[K");
    progress.clear();
    progress.clear();
    EXPECT_EQ(out.str(), "\ra.pcap: 1,234,567 packets, 1 s\x1b[K\r\x1b[K");
}

TEST(Watch, Intervals) {
    EXPECT_EQ(*parse_interval("2"), 2.0);
    EXPECT_EQ(*parse_interval("0.5"), 0.5);
    for (const char* bad : {"", "0", "0.01", "-1", "2s", "nan", "inf", "1e9", "x"}) {
        const auto interval = parse_interval(bad);
        ASSERT_FALSE(interval) << bad;
        EXPECT_EQ(interval.error().exit_code, ExitCode::usage);
        EXPECT_THAT(interval.error().message, HasSubstr("'" + std::string(bad) + "'"));
    }
}

TEST_F(CliTest, StatusTakesAnInterval) {
    EXPECT_THAT(run({"status", "--watch=soon"}).err, HasSubstr("'soon' is not a number of seconds"));
    for (const std::vector<std::string>& arguments :
         std::initializer_list<std::vector<std::string>>{{"status", "--watch"},
                                                         {"status", "--watch=5"},
                                                         {"status", "--watch", "5"},
                                                         {"status", "--watch", "-o", "json"}}) {
        auto all = arguments;
        all.insert(all.end(), {"--instance", absent});
        EXPECT_EQ(run(all).code, 3) << arguments.back(); // not installed: it does not wait for that
    }
}

TEST(Render, CsvBothWays) {
    EXPECT_EQ(csv_line({"a", "b,c", "d\"e", ""}), "a,\"b,c\",\"d\"\"e\",\n");
    EXPECT_THAT(*parse_csv_line("a,\"b,c\",\"d\"\"e\","), ElementsAre("a", "b,c", "d\"e", ""));
    EXPECT_THAT(*parse_csv_line(""), ElementsAre(""));
    for (const char* bad : {"\"a", "a\"b", "\"a\"b", "\"a\"\"", "\"\"\"\""}) {
        const bool good = static_cast<bool>(parse_csv_line(bad));
        EXPECT_EQ(good, std::string(bad) == "\"\"\"\"") << bad;
    }
}

// ------------------------------------------------------------------ status

MapsSummary busy_gateway() {
    MapsSummary maps;
    maps.counters[BT_S_SEEN] = 1'000'000;
    maps.counters[BT_S_DROP_BAN] = 10;
    maps.counters[BT_S_DROP_SOCKET] = 20;
    maps.counters[BT_S_DROP_PEER] = 30;
    maps.counters[BT_S_DROP_FLOW] = 40;
    maps.counters[BT_S_DROP_DETECTED] = 50;
    maps.counters[BT_S_QUEUE_DROPPED] = 5;
    maps.counters[BT_S_PUNTED] = 77;
    maps.counters[BT_S_EVENTS_SENT] = 8;
    maps.counters[BT_S_EVENTS_LOST] = 9;
    maps.counters[BT_S_LEAKED_DHT] = 1;
    maps.counters[BT_S_LEAKED_HTTP] = 2;
    maps.counters[std::size_t{BT_S_DETECTIONS} + BT_EV_DHT_QUERY] = 12;
    maps.counters[std::size_t{BT_S_DETECTIONS} + BT_EV_BAN] = 1;
    maps.bans = 3;
    maps.bans_capacity = 65536;
    maps.flows = 100;
    maps.flows_capacity = 262144;
    maps.sockets = 2;
    maps.sockets_capacity = 65536;
    return maps;
}

StatusExtras running() {
    StatusExtras extras;
    extras.instance = "main";
    extras.daemon = true;
    extras.interfaces = {{"eth0", 2, "ethernet", "native", "tcx"}, {"wg0", 5, "ip", "off", "tcx"}};
    extras.queue_depth = 4;
    extras.queue_dropped = 6;
    extras.queue_failed_open = 7;
    return extras;
}

TEST(Status, JsonHasTheContractsFields) {
    const json status = json::parse(status_json(busy_gateway(), running()).dump());
    EXPECT_EQ(status["version"], BTBLOCK_VERSION);
    EXPECT_EQ(status["instance"], "main");
    EXPECT_EQ(status["mode"], "enforce");
    EXPECT_EQ(status["daemon"], true);
    EXPECT_EQ(status["interfaces"][1], json::parse(R"({"name":"wg0","ifindex":5,"link":"ip","xdp":"off","tc":"tcx"})"));
    EXPECT_EQ(status["packets"]["seen"], 1000000);
    EXPECT_EQ(status["packets"]["dropped"], 155);
    EXPECT_EQ(status["packets"]["passed"], 999845);
    EXPECT_EQ(status["packets"]["punted"], 77);
    EXPECT_EQ(status["drops"], json::parse(R"({"ban":10,"socket":20,"peer":30,"flow":40,"detected":55})"));
    EXPECT_EQ(status["detections"]["dht.query"], 12);
    EXPECT_EQ(status["detections"]["ban"], 1);
    EXPECT_EQ(status["detections"].size(), static_cast<std::size_t>(BT_EV_COUNT));
    EXPECT_EQ(status["bans"], json::parse(R"({"entries":3,"capacity":65536})"));
    EXPECT_EQ(status["flows"]["entries"], 100);
    EXPECT_EQ(status["flows"]["capacity"], 262144);
    EXPECT_EQ(status["sockets"]["entries"], 2);
    EXPECT_EQ(status["sockets"]["capacity"], 65536);
    EXPECT_EQ(status["queue"]["depth"], 4);
    EXPECT_EQ(status["queue"]["dropped"], 6);
    EXPECT_EQ(status["queue"]["failed_open"], 7);
    EXPECT_EQ(status["events"]["sent"], 8);
    EXPECT_EQ(status["events"]["lost"], 9);
    EXPECT_EQ(status["announce_leaked"], 3);
    EXPECT_EQ(status["announce_leaked_by"], json::parse(R"({"dht":1,"udp_tracker":0,"http":2,"lsd":0})"));
    EXPECT_EQ(status_exit_code(status), 0);
}

TEST(Status, MonitorModeAndDegradation) {
    MapsSummary maps = busy_gateway();
    maps.config.flags = BT_C_MONITOR;
    maps.counters[BT_S_MONITORED] = 42;
    StatusExtras extras = running();
    extras.daemon = false;
    extras.problems = {"the daemon is not running"};
    const ordered_json status = status_json(maps, extras);
    EXPECT_EQ(status["mode"], "monitor");
    EXPECT_EQ(status_exit_code(status), 4);
    const std::string text = status_text(status);
    EXPECT_THAT(text, HasSubstr("only watching (monitor mode), daemon NOT running"));
    EXPECT_THAT(text, HasSubstr("problem      the daemon is not running"));
    EXPECT_THAT(text, HasSubstr("would drop   42 packets"));
    extras.daemon = true;
    EXPECT_EQ(status_exit_code(status_json(maps, extras)), 4); // the daemon runs, but has problems
    extras.problems.clear();
    EXPECT_EQ(status_exit_code(status_json(maps, extras)), 0);
}

TEST(Status, CountersThatRunAheadNeverUnderflow) {
    MapsSummary maps = busy_gateway();
    maps.counters[BT_S_SEEN] = 1;
    EXPECT_EQ(status_json(maps, running())["packets"]["passed"], 0);
}

TEST(Status, TextIsReadable) {
    MapsSummary maps = busy_gateway();
    for (std::size_t i = 0; i < BT_EV_COUNT; ++i)
        maps.counters[BT_S_DETECTIONS + i] = 1234567890;
    const std::string text = status_text(status_json(maps, running()));
    EXPECT_LE(widest_line(text), 80u) << text;
    for (const char* part : {"enforcing, daemon running", "eth0", "native", "seen 1,000,000", "passed 999,845",
                             "ban 10, socket 20, peer 30, flow 40, detected 55", "utp.pair 1,234,567,890",
                             "3 of 65,536", "4 waiting, 6 lost, 7 passed unseen"})
        EXPECT_THAT(text, HasSubstr(part));
    EXPECT_THAT(status_text(status_json(MapsSummary{}, StatusExtras{})), HasSubstr("none attached"));
}

TEST(Status, WithoutColorNothingIsPainted) {
    EXPECT_EQ(Screen{}.red("x"), "x");
    EXPECT_EQ((Screen{.terminal = true, .color = true, .width = 80}.red("x")), "\x1b[31mx\x1b[0m");
    StatusExtras extras = running();
    extras.problems.emplace_back("no daemon");
    const auto status = status_json(busy_gateway(), extras);
    EXPECT_THAT(status_text(status), Not(HasSubstr("\x1b")));
    EXPECT_THAT(status_text(status, {.color = true}), HasSubstr("\x1b[31mproblem     \x1b[0m no daemon"));
}

TEST(Status, TextOfAStrangeAnswer) {
    for (const char* answer : {"{}", R"({"daemon":true,"packets":7,"interfaces":[1,{}],"problems":[3]})",
                               R"({"detections":{"a":"x"},"announce_leaked":-1,"drops":[]})"})
        EXPECT_FALSE(status_text(ordered_json::parse(answer)).empty());
    EXPECT_THAT(status_text(ordered_json::parse(R"({"instance":"\u001b[2J"})")), Not(HasSubstr("\x1b")));
}

// ------------------------------------------------------------------ bans

TEST(Bans, TargetsInAllForms) {
    const std::pair<const char*, const char*> good[] = {{"192.0.2.7", "192.0.2.7"},
                                                        {"192.0.2.7/32", "192.0.2.7"},
                                                        {"2001:DB8::1", "2001:db8::1"},
                                                        {"2001:db8::1/128", "2001:db8::1"},
                                                        {"2001:db8::5/64", "2001:db8::/64"},
                                                        {"192.0.2.7:6881", "192.0.2.7:6881"},
                                                        {"[2001:db8::1]:80", "[2001:db8::1]:80"},
                                                        {"::ffff:192.0.2.7", "192.0.2.7"}};
    for (const auto& [text, shown] : good) {
        const auto target = parse_ban_target(text);
        ASSERT_TRUE(target) << text << ": " << target.error().message;
        EXPECT_EQ((ListedBan{*target, {}}).text(), shown);
    }
    EXPECT_TRUE(parse_ban_target("2001:db8::5/64")->subnet64);
    EXPECT_EQ(parse_ban_target("192.0.2.7:6881")->port, 6881);
    for (const char* text :
         {"", "x", "192.0.2.7:", "192.0.2.7:65536", "192.0.2.7:-1", "192.0.2.0/24", "[::1]", "[::1]:", "[192.0.2.1",
          "2001:db8::/63", "::ffff:192.0.2.7/64", "192.0.2.7/32:80", "[2001:db8::/64]:80"}) {
        const auto target = parse_ban_target(text);
        EXPECT_FALSE(target) << text;
        if (!target) {
            EXPECT_EQ(target.error().exit_code, ExitCode::usage);
        }
    }
}

std::vector<std::pair<bt_addr, bt_ban>> sample_bans() {
    bt_ban endpoint = ban_until(clocks.monotonic_ns + 90 * second);
    endpoint.ports[0] = 6881;
    endpoint.ports[1] = 51413;
    endpoint.port_count = 2;
    endpoint.evidence = BT_EV_BIT(BT_EV_TCP_HANDSHAKE) | BT_EV_BIT(BT_EV_UTP_PAIR);
    endpoint.hits = 1234;
    bt_ban subnet = ban_until(never, "bad, \"very\" bad");
    subnet.flags = BT_BAN_SUBNET64 | BT_BAN_MANUAL;
    bt_ban v6 = ban_until(clocks.monotonic_ns + 7200 * second);
    v6.ports[0] = 80;
    v6.port_count = 1;
    return {{addr("192.0.2.7"), endpoint},
            {addr("2001:db8::"), subnet},
            {addr("2001:db8:1::5"), v6},
            {addr("192.0.2.8"), ban_until(clocks.monotonic_ns)}}; // expired
}

TEST(Bans, ListLeavesOutWhatHasExpired) {
    const auto bans = live_bans(sample_bans(), clocks);
    ASSERT_EQ(bans.size(), 3u);
    EXPECT_EQ(bans[0]["address"], "2001:db8::/64");
    EXPECT_EQ(bans[0]["expires"], nullptr);
    EXPECT_EQ(bans[0]["manual"], true);
    EXPECT_EQ(bans[0]["comment"], "bad, \"very\" bad");
    EXPECT_EQ(bans[2]["address"], "192.0.2.7");
    EXPECT_EQ(bans[2]["remaining"], 90);
    EXPECT_EQ(bans[2]["created"], "2026-11-23T00:59:00Z");
    EXPECT_EQ(bans[2]["evidence"], ordered_json::parse(R"(["tcp.handshake","utp.pair"])"));
    const std::string text = bans_text(bans);
    EXPECT_THAT(text, HasSubstr("192.0.2.7 port 6881,51413     1m 30s  1,234  tcp.handshake+utp.pair"));
    EXPECT_THAT(text, HasSubstr("for ever"));
    EXPECT_EQ(bans_text({}), "no bans\n");
    EXPECT_EQ(bans_csv({}), "address,ports,created,expires,evidence,hits,manual,comment\n");
    EXPECT_EQ(bans_plain(bans), "2001:db8::/64\n[2001:db8:1::5]:80\n192.0.2.7:6881\n192.0.2.7:51413\n");
}

TEST(Bans, EveryExportImportsToTheSame) {
    const auto bans = live_bans(sample_bans(), clocks);
    for (const auto& text : {bans_json(bans), bans_csv(bans)}) {
        const auto back = parse_bans(text, "x");
        ASSERT_TRUE(back) << back.error().message;
        ASSERT_EQ(back->size(), bans.size());
        for (std::size_t i = 0; i < bans.size(); ++i) {
            const json entry = (*back)[i].to_json();
            EXPECT_EQ(entry["address"], bans[i]["address"].get<std::string>());
            EXPECT_EQ(entry["ports"].dump(), bans[i]["ports"].dump());
            EXPECT_EQ(entry["comment"].dump(), bans[i]["comment"].dump());
            EXPECT_EQ(entry["manual"].dump(), bans[i]["manual"].dump());
            EXPECT_EQ(entry["evidence"].dump(), bans[i]["evidence"].dump());
            EXPECT_EQ(entry["expires"].dump(), bans[i]["expires"].dump());
        }
    }
    const auto plain = parse_bans(bans_plain(bans), "x");
    ASSERT_TRUE(plain);
    EXPECT_EQ(plain->size(), 4u); // an endpoint a line
    EXPECT_TRUE((*plain)[0].target.subnet64);
    EXPECT_THAT((*plain)[2].ports, ElementsAre(6881));
}

TEST(Bans, ImportNamesTheLine) {
    const auto problem = [](const std::string& text) {
        const auto bans = parse_bans(text, "f");
        EXPECT_FALSE(bans) << text;
        if (bans)
            return std::string();
        EXPECT_EQ(bans.error().exit_code, ExitCode::usage);
        return bans.error().message;
    };
    EXPECT_EQ(problem("192.0.2.1\n\n# comment\nnonsense # x\n192.0.2.2 192.0.2.3\n"),
              "f:4: 'nonsense' is not an address, a prefix or an endpoint\nf:5: more than one address in a line");
    EXPECT_THAT(problem("address,expires\n192.0.2.1,never\n192.0.2.2,tomorrow\n192.0.2.3\n"),
                testing::AllOf(HasSubstr("f:3: \"expires\" must be a time"), HasSubstr("f:4: 1 fields")));
    EXPECT_THAT(problem("address,ports\n192.0.2.1,70000\n"), HasSubstr("f:2: a port must be"));
    EXPECT_THAT(problem("address,ports\n192.0.2.1,http\n"), HasSubstr("f:2: 'http' is not a port"));
    EXPECT_THAT(problem("address,comment\n192.0.2.1,\"open\n"), HasSubstr("f:2: a quote is not closed"));
    EXPECT_THAT(problem("{\"bans\":[\n{\"address\":\"192.0.2.1\"},\n{\"address\":\"x\",\n\"ports\":[1]},\n7]}"),
                testing::AllOf(HasSubstr("f:3: 'x' is not an address"), HasSubstr("f:5: a ban must be an object")));
    EXPECT_THAT(problem("[{\"address\":\"192.0.2.1\"},\n\n{\"address\":\"192.0.2.2\",\"evidence\":[\"tea\"]}]"),
                HasSubstr("f:3: unknown evidence \"tea\""));
    EXPECT_THAT(problem("{\"bans\":\n[}"), HasSubstr("f:2: this is not JSON"));
    EXPECT_THAT(problem("{\"other\":[]}"), HasSubstr("f:1: neither a list"));
    EXPECT_THAT(problem("[{\"address\":\"2001:db8::/64\",\"ports\":[1]}]"), HasSubstr("only an address has ports"));
    std::string many;
    for (int i = 0; i < 50; ++i)
        many += "bad\n";
    EXPECT_THAT(problem(many), HasSubstr("... and 30 more; nothing was imported"));
    EXPECT_EQ(parse_bans("", "f")->size(), 0u);
    EXPECT_EQ(parse_bans("\xef\xbb\xbf# only\r\n192.0.2.1\r\n[2001:db8::1]:80\r\n", "f")->size(), 2u);
    EXPECT_EQ(parse_bans("[2001:db8::1]:80\n192.0.2.1\n", "f")->size(), 2u);
    EXPECT_EQ(parse_bans("[]", "f")->size(), 0u);
}

// ------------------------------------------------------------------ allow, flows, clients, explain, events

TEST(Allow, ListsByPrefix) {
    const auto key = [](const char* prefix) { return net::Prefix::parse(prefix)->lpm(); };
    bt_allow office{never, {}};
    std::string("office, north").copy(office.comment, BT_COMMENT_LEN - 1);
    const auto list = live_allow({{key("2001:db8::/32"), {clocks.monotonic_ns + 60 * second, {}}},
                                  {key("10.0.0.0/8"), office},
                                  {key("192.0.2.0/24"), {clocks.monotonic_ns - 1, {}}}},
                                 clocks);
    ASSERT_EQ(list.size(), 2u);
    EXPECT_EQ(list[0]["prefix"], "10.0.0.0/8");
    EXPECT_EQ(list[1]["remaining"], 60);
    EXPECT_THAT(allow_text(list), HasSubstr("10.0.0.0/8      for ever  office, north"));
    EXPECT_EQ(allow_csv(list), "prefix,expires,comment\n10.0.0.0/8,never,\"office, north\"\n"
                               "2001:db8::/32,2026-11-23T01:01:00Z,\n");
}

std::vector<std::pair<bt_tuple, bt_flow>> sample_flows() {
    bt_tuple one{addr("10.0.0.2"), addr("192.0.2.7"), 50000, 6881, IPPROTO_TCP, {}};
    bt_tuple two{addr("fd00::2"), addr("2001:db8::1"), 6881, 6882, IPPROTO_UDP, {}};
    bt_flow blocked{}, clean{};
    blocked.verdict = BT_V_BLOCKED;
    blocked.evidence = BT_EV_BIT(BT_EV_TCP_HANDSHAKE);
    blocked.last_seen_ns = clocks.monotonic_ns - 90 * second;
    blocked.owner = 2 << 1;
    clean.verdict = BT_V_CLEAN;
    clean.last_seen_ns = clocks.monotonic_ns - second;
    clean.owner = 3 << 1 | 1;
    return {{one, blocked}, {two, clean}};
}

TEST(Flows, FilterAndForms) {
    const auto blocked = listed_flows(sample_flows(), {}, clocks);
    ASSERT_EQ(blocked.size(), 1u);
    EXPECT_EQ(blocked[0]["idle"], 90);
    EXPECT_EQ(blocked[0]["ifindex"], 2);
    EXPECT_EQ(blocked[0]["direction"], "ingress");
    const auto all = listed_flows(sample_flows(), {.all = true, .limit = 0}, clocks);
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0]["src"], "fd00::2"); // the most recent first
    EXPECT_EQ(all[0]["direction"], "egress");
    EXPECT_EQ(listed_flows(sample_flows(), {.all = true, .limit = 1}, clocks).size(), 1u);
    EXPECT_THAT(flows_text(all), HasSubstr("udp    [fd00::2]:6881  [2001:db8::1]:6882  clean        1s"));
    EXPECT_THAT(
        flows_csv(blocked),
        HasSubstr("tcp,10.0.0.2,50000,192.0.2.7,6881,blocked,tcp.handshake,0,2,ingress,2026-11-23T00:58:30Z\n"));
}

TEST(Clients, OnlyThoseThatShowedSomething) {
    bt_client active{}, old{}, suspect{};
    active.active_until_ns = clocks.monotonic_ns + BT_CLIENT_TTL_NS - 30 * second;
    active.detections = 3;
    active.evidence = BT_EV_BIT(BT_EV_DHT_QUERY);
    old.active_until_ns = clocks.monotonic_ns - 1;
    old.detections = 1;
    suspect.random_until_ns = never;
    const auto clients =
        listed_clients({{addr("10.0.0.3"), old}, {addr("10.0.0.2"), active}, {addr("10.0.0.4"), suspect}},
                       {{"10.0.0.2", {2, 5}}}, clocks);
    ASSERT_EQ(clients.size(), 2u);
    EXPECT_EQ(clients[0]["address"], "10.0.0.2");
    EXPECT_EQ(clients[0]["active"], true);
    EXPECT_EQ(clients[0]["idle"], 30);
    EXPECT_EQ(clients[0]["sockets"], 2);
    EXPECT_EQ(clients[0]["peers"], 5);
    EXPECT_EQ(clients[1]["active"], false);
    EXPECT_THAT(clients_text(clients), HasSubstr("10.0.0.2  yes        30s ago      3        2      5  dht.query"));
    EXPECT_THAT(clients_csv(clients), HasSubstr("10.0.0.2,true,"));
    EXPECT_EQ(clients_text({}), "no client has shown BitTorrent\n");
}

TEST(Explain, SaysWhatFollows) {
    const auto address = *net::Address::parse("10.0.0.2");
    Findings found;
    found.inside = true;
    bt_client client{};
    client.active_until_ns = clocks.monotonic_ns + BT_CLIENT_TTL_NS;
    client.detections = 1;
    client.evidence = BT_EV_BIT(BT_EV_DHT_QUERY);
    found.client = client;
    found.sockets = {{{address.raw(), 6881, IPPROTO_UDP, 0}, {clocks.monotonic_ns + 60 * second, 17, 0, 0}}};
    found.peers = {{{address.raw(), addr("192.0.2.7"), 6881, 0}, {clocks.monotonic_ns + second, 0, 0, 0}}};
    found.flows = sample_flows();
    const auto explanation = explain_json(address, found, clocks);
    EXPECT_EQ(explanation["inside"], true);
    EXPECT_EQ(explanation["ban"], nullptr);
    EXPECT_EQ(explanation["condemned_sockets"][0]["port"], 6881);
    EXPECT_EQ(explanation["learned_peers"][0]["peer"], "192.0.2.7:6881");
    EXPECT_EQ(explanation["flows"]["blocked"], 1);
    const std::string text = explain_text(explanation);
    for (const char* part : {"10.0.0.2 is an inside address", "Not banned.", "active now: 1 detection", "dht.query",
                             "UDP port 6881 is condemned: all its datagrams are dropped, 17 so far",
                             "may not connect to 1 endpoint", "2 half-flows known, 1 blocked"})
        EXPECT_THAT(text, HasSubstr(part));

    Findings peer;
    peer.ban = {addr("192.0.2.7"), ban_until(never, "abuse")};
    peer.ban->second.flags = BT_BAN_MANUAL;
    peer.allowed = {net::Prefix::parse("192.0.2.0/24")->lpm(), bt_allow{never, "mirror"}};
    const std::string other = explain_text(explain_json(*net::Address::parse("192.0.2.7"), peer, clocks));
    EXPECT_THAT(other, HasSubstr("outside address"));
    EXPECT_THAT(other, HasSubstr("Nothing is blocked: 192.0.2.0/24 is allowed for ever, 'mirror'."));
    EXPECT_THAT(other, HasSubstr("Banned: 192.0.2.7 for ever, by the operator ('abuse'); 0 packets dropped."));
}

TEST(Events, OneLineForPeople) {
    EXPECT_EQ(event_text(json::parse(R"({"timestamp":"2026-11-23T01:12:00.123456+0000","event_type":"detection",
        "src_ip":"10.0.0.2","src_port":51413,"dest_ip":"2001:db8::1","dest_port":6881,"proto":"UDP","in_iface":"wg0",
        "btblock":{"evidence":["dht.query","utp.syn"],"action":"drop","hook":"ingress"}})")),
              "2026-11-23 01:12:00 detection drop dht.query+utp.syn UDP 10.0.0.2:51413 -> [2001:db8::1]:6881 on wg0");
    EXPECT_EQ(event_text(json::parse(R"({"timestamp":"2026-11-23T01:12:00.1+0000","event_type":"ban",
        "btblock":{"evidence":[],"action":"ban","target":"192.0.2.7","ban_expires":"never","message":"a\u001b[2Jb"}})")),
              "2026-11-23 01:12:00 ban       192.0.2.7 for ever a?[2Jb");
    EXPECT_EQ(event_text(json::parse(R"({"timestamp":"2026-11-23T01:12:00.1+0000","event_type":"suppressed",
        "btblock":{"evidence":["dht.query"],"action":"drop","client":"10.0.0.2","count":7,"message":"7 more events"}})")),
              "2026-11-23 01:12:00 suppressed drop dht.query 10.0.0.2 7 more events");
    for (const char* strange : {"{}", R"({"timestamp":7,"btblock":3})", R"({"btblock":{"evidence":[1]},"src_ip":"x"})"})
        EXPECT_EQ(event_text(json::parse(strange)).find('\n'), std::string::npos);
}

// ------------------------------------------------------------------ doctor

TEST(Doctor, Kernel) {
    EXPECT_EQ(kernel_version("6.1.0-13-amd64"), (std::pair{6u, 1u}));
    EXPECT_EQ(kernel_version("6.18.44-fc-v769"), (std::pair{6u, 18u}));
    EXPECT_EQ(kernel_version("5.10"), (std::pair{5u, 10u}));
    EXPECT_EQ(kernel_version("linux"), std::nullopt);
    EXPECT_EQ(check_kernel("5.9.16").level, Check::Level::fail);
    EXPECT_EQ(check_kernel("5.10.0").level, Check::Level::ok);
    EXPECT_EQ(check_kernel("4.19").level, Check::Level::fail);
    EXPECT_EQ(check_kernel("?").level, Check::Level::warn);
}

TEST(Doctor, Capabilities) {
    EXPECT_EQ(effective_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\nCapBnd:\t0\n"), 0x1ffffffffffull);
    EXPECT_EQ(effective_capabilities("Name:\tx\n"), std::nullopt);
    constexpr std::uint64_t net_admin = 1ull << 12, sys_admin = 1ull << 21, perfmon = 1ull << 38, bpf = 1ull << 39;
    EXPECT_EQ(check_capabilities(net_admin | perfmon | bpf).level, Check::Level::ok);
    EXPECT_EQ(check_capabilities(net_admin | sys_admin).level, Check::Level::ok);
    EXPECT_EQ(check_capabilities(0).text, "missing: CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON");
    EXPECT_EQ(check_capabilities(net_admin | bpf).text, "missing: CAP_PERFMON");
}

TEST(Doctor, RenderingAndExitCode) {
    std::vector<Check> checks{{"kernel", Check::Level::ok, "Linux 6.1", ""}};
    EXPECT_EQ(checks_exit_code(checks), 0);
    checks.push_back(
        {"firewall", Check::Level::fail, std::string(100, 'a') + " " + std::string(40, 'b'), "install it"});
    EXPECT_EQ(checks_exit_code(checks), 4);
    const std::string text = checks_text(checks);
    EXPECT_THAT(text, HasSubstr("ok    kernel            Linux 6.1\n"));
    EXPECT_THAT(text, HasSubstr("\n                        -> install it\n"));
    const auto object = checks_json(checks);
    EXPECT_EQ(object["degraded"], true);
    EXPECT_EQ(object["checks"][1]["level"], "fail");
}

TEST_F(CliTest, DoctorAnswersOnThisMachine) {
    const auto outcome = run({"doctor", "-i", "lo,unit-test-x0", "-o", "json", "--instance", absent});
    EXPECT_EQ(outcome.code, 4) << outcome.err; // there is no unit-test-x0
    const json report = json::parse(outcome.out);
    EXPECT_EQ(report["degraded"], true);
    std::vector<std::string> names;
    for (const json& check : report["checks"])
        names.push_back(check["name"]);
    EXPECT_THAT(names, testing::IsSupersetOf({"kernel", "capabilities", "bpffs", "firewall", "nfqueue", "mark",
                                              "conntrack", "interface lo", "interface unit-test-x0"}));
}

} // namespace
} // namespace btblock::app
