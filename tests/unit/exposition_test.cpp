// SPDX-License-Identifier: MIT
// metrics::exposition: Prometheus' text format.
#include "metrics/Exposition.h"

#include "app/Status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <regex>
#include <set>
#include <sstream>

namespace btblock::test {
namespace {

using testing::HasSubstr;
using Json = nlohmann::ordered_json;

Json busy_status() {
    app::MapsSummary maps;
    for (std::size_t i = 0; i < maps.counters.size(); ++i)
        maps.counters[i] = 1000 + i;
    maps.bans = 7;
    maps.bans_capacity = 65536;
    maps.peers_capacity = 4096;
    app::StatusExtras extras;
    extras.daemon = true;
    extras.interfaces.push_back({"wg0", 3, "ip", "off", "tcx"});
    extras.interfaces.push_back({"a\"b\\c\n", 4, "ethernet", "native", "off"});
    extras.problems.emplace_back("something");
    return app::status_json(maps, extras);
}

TEST(Exposition, EveryLineIsOfTheFormat) {
    const std::regex comment(R"(# (HELP btblock_[a-z_]+ [^\n]+\.|TYPE btblock_[a-z_]+ (counter|gauge)))");
    const std::regex sample(R"rx(btblock_[a-z_]+(\{[a-z_]+="([^"\\]|\\.)*"(,[a-z_]+="([^"\\]|\\.)*")*\})? \d+)rx");
    std::istringstream text(metrics::exposition(busy_status(), 1'700'000'000));
    std::set<std::string> seen;
    std::string type_of;
    for (std::string line; std::getline(text, line);) {
        if (line.starts_with("#")) {
            EXPECT_TRUE(std::regex_match(line, comment)) << line;
            if (line.starts_with("# TYPE ")) {
                type_of = line.substr(7, line.rfind(' ') - 7);
                EXPECT_TRUE(seen.insert(type_of).second) << "twice: " << type_of;
                EXPECT_EQ(type_of.ends_with("_total"), line.ends_with(" counter")) << line;
            }
            continue;
        }
        EXPECT_TRUE(std::regex_match(line, sample)) << line;
        EXPECT_EQ(line.substr(0, line.find_first_of("{ ")), type_of) << "samples follow their TYPE";
    }
    EXPECT_GT(seen.size(), 20u);
}

TEST(Exposition, SaysWhatTheStatusSays) {
    const Json status = busy_status();
    const std::string text = metrics::exposition(status, 1'700'000'000);
    EXPECT_THAT(text, HasSubstr("\nbtblock_start_time_seconds 1700000000\n"));
    EXPECT_THAT(text, HasSubstr("\nbtblock_enforcing 1\n"));
    EXPECT_THAT(text, HasSubstr("\nbtblock_problems 1\n"));
    EXPECT_THAT(text, HasSubstr("\nbtblock_table_entries{table=\"bans\"} 7\n"));
    EXPECT_THAT(text, HasSubstr("\nbtblock_table_capacity{table=\"bans\"} 65536\n"));
    EXPECT_THAT(text, HasSubstr("\nbtblock_table_capacity{table=\"peers\"} 4096\n"));
    EXPECT_THAT(text, HasSubstr("btblock_interface_attached{interface=\"wg0\",hook=\"tc\"} 1\n"));
    EXPECT_THAT(text, HasSubstr("btblock_interface_attached{interface=\"wg0\",hook=\"xdp\"} 0\n"));
    EXPECT_THAT(text, HasSubstr(R"(btblock_interface_attached{interface="a\"b\\c\n",hook="xdp"} 1)"));
    // each number of these sections under its own name
    for (const auto& [section, metric, label] :
         {std::tuple{"detections", "detections_total", "evidence"},
          std::tuple{"drops", "packets_dropped_total", "reason"}, std::tuple{"events", "events_total", "state"},
          std::tuple{"announce_leaked_by", "announces_leaked_total", "protocol"}})
        for (const auto& [name, value] : status[section].items())
            EXPECT_THAT(text, HasSubstr(std::string("btblock_") + metric + "{" + label + "=\"" + name + "\"} " +
                                        value.dump() + "\n"));
    for (const char* name : {"seen", "punted", "rejected", "monitored", "not_punted", "not_parsed"})
        EXPECT_THAT(text, HasSubstr(std::string("\nbtblock_packets_") + name + "_total " +
                                    status["packets"][name].dump() + "\n"));
}

TEST(Exposition, MissingNumbersReadAsNothing) {
    const std::string text = metrics::exposition(Json::object(), 0);
    EXPECT_THAT(text, HasSubstr("\nbtblock_queue_depth 0\n"));
    EXPECT_THAT(text, HasSubstr("\nbtblock_enforcing 0\n"));
}

} // namespace
} // namespace btblock::test
