// SPDX-License-Identifier: MIT
// The fields of the Elastic Common Schema that are written, against what its reference says about each of them.
#include "unit/event_samples.h"

#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <regex>
#include <set>

namespace {

using namespace btblock::event;
using Json = nlohmann::ordered_json;

enum class EcsType { keyword, text, date, ip, whole_number };

struct EcsField {
    EcsType type;
    bool list = false;              // "Note: this field should contain an array of values"
    std::set<std::string> values{}; // where the reference allows no other
};

// https://www.elastic.co/docs/reference/ecs/ecs-field-reference, of version 8.11 and the same in 9.x
const std::map<std::string, EcsField> reference{
    {"@timestamp", {EcsType::date}},
    {"ecs.version", {EcsType::keyword}},
    {"message", {EcsType::text}},
    {"event.kind",
     {EcsType::keyword,
      false,
      {"alert", "asset", "enrichment", "event", "metric", "state", "pipeline_error", "signal"}}},
    {"event.category",
     {EcsType::keyword, true, {"api",      "authentication", "configuration", "database",      "driver",
                               "email",    "file",           "host",          "iam",           "intrusion_detection",
                               "library",  "malware",        "network",       "package",       "process",
                               "registry", "session",        "threat",        "vulnerability", "web"}}},
    {"event.type",
     {EcsType::keyword,
      true,
      {"access", "admin", "allowed", "change", "connection", "creation", "deletion", "denied", "end", "error", "group",
       "indicator", "info", "installation", "protocol", "start", "user"}}},
    {"event.action", {EcsType::keyword}},
    {"event.outcome", {EcsType::keyword, false, {"failure", "success", "unknown"}}},
    {"event.module", {EcsType::keyword}},
    {"event.dataset", {EcsType::keyword}},
    {"source.ip", {EcsType::ip}},
    {"source.port", {EcsType::whole_number}},
    {"destination.ip", {EcsType::ip}},
    {"destination.port", {EcsType::whole_number}},
    {"network.transport", {EcsType::keyword}},
    {"network.type", {EcsType::keyword}},
    {"network.protocol", {EcsType::keyword}},
    {"network.direction",
     {EcsType::keyword, false, {"ingress", "egress", "inbound", "outbound", "internal", "external", "unknown"}}},
    {"network.community_id", {EcsType::keyword}},
    {"observer.type", {EcsType::keyword}},
    {"observer.vendor", {EcsType::keyword}},
    {"observer.product", {EcsType::keyword}},
    {"observer.version", {EcsType::keyword}},
    {"observer.ingress.interface.name", {EcsType::keyword}},
    {"observer.egress.interface.name", {EcsType::keyword}},
    {"rule.name", {EcsType::keyword}},
    {"rule.ruleset", {EcsType::keyword}},
    {"related.ip", {EcsType::ip, true}},
};

// Which types the reference expects with a category ("expected event types").
const std::map<std::string, std::set<std::string>> types_of_category{
    {"host", {"access", "change", "end", "info", "start"}},
    {"intrusion_detection", {"allowed", "denied", "info"}},
    {"network", {"access", "allowed", "connection", "denied", "end", "info", "protocol", "start"}},
};

// Empty, or what is wrong with the value.
std::string complaint(const EcsField& field, const Json& value) {
    static const std::regex date(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d)");
    if (field.type == EcsType::whole_number)
        return value.is_number_unsigned() && value <= 65535 ? "" : "is not a port";
    if (!value.is_string())
        return "is not text";
    const auto text = value.get<std::string>();
    if (text.empty() || (field.type == EcsType::keyword && text.size() > 1024))
        return "is empty, or longer than what is indexed";
    if (field.type == EcsType::date && !std::regex_match(text, date))
        return "is not a date";
    if (field.type == EcsType::ip && !btblock::net::Address::parse(text))
        return "is not an address";
    return field.values.empty() || field.values.count(text) ? "" : "is not an allowed value: " + text;
}

// Every leaf by its name with points, and what is wrong with it.
void check(const std::string& path, const Json& node, std::set<std::string>& seen, std::vector<std::string>& problems) {
    if (node.is_object()) {
        for (const auto& [name, inner] : node.items())
            check(path.empty() ? name : path + "." + name, inner, seen, problems);
        return;
    }
    const auto field = reference.find(path);
    if (field == reference.end()) {
        problems.push_back(path + " is not in the schema");
        return;
    }
    seen.insert(path);
    if (node.is_array() != field->second.list) {
        problems.push_back(path + (field->second.list ? " is no list" : " is a list"));
        return;
    }
    for (const Json& value : node.is_array() ? node : Json::array({node}))
        if (const std::string wrong = complaint(field->second, value); !wrong.empty())
            problems.push_back(path + " " + wrong);
}

std::vector<std::string> problems_of(Json document, std::set<std::string>& seen) {
    std::vector<std::string> problems;
    document.erase("btblock"); // of our own: the schema leaves such names to whoever writes
    check("", document, seen, problems);
    for (const char* needed : {"@timestamp", "ecs", "event", "message"})
        if (!document.contains(needed))
            problems.push_back(std::string(needed) + " is missing");
    return problems;
}

TEST(Ecs, EveryFieldIsInTheReferenceWithItsType) {
    std::set<std::string> seen;
    for (const Event& event : event_samples::all()) {
        const Json document = Json::parse(to_ecs_line(event));
        EXPECT_EQ(problems_of(document, seen), std::vector<std::string>{}) << document.dump(1);
        std::set<std::string> expected;
        for (const auto& category : document["event"]["category"])
            expected.insert(types_of_category.at(category).begin(), types_of_category.at(category).end());
        for (const auto& type : document["event"]["type"])
            EXPECT_TRUE(expected.count(type)) << document["event"].dump();
        EXPECT_EQ(document["event"]["action"], type_name(event.type));
        EXPECT_EQ(document["ecs"]["version"], "8.11.0");
        EXPECT_EQ(document["btblock"], Json::parse(to_json_line(event))["btblock"]);
    }
    for (const auto& [name, field] : reference)
        EXPECT_TRUE(seen.count(name)) << name << " is in the table and in no event";
}

TEST(Ecs, TheTableNoticesWhatIsWrong) {
    std::set<std::string> seen;
    const Json good = to_ecs(event_samples::all().front());
    ASSERT_TRUE(problems_of(good, seen).empty());
    const auto spoilt = [&](const char* pointer, Json value) {
        Json bad = good;
        bad[Json::json_pointer(pointer)] = std::move(value);
        return problems_of(bad, seen).size();
    };
    EXPECT_EQ(spoilt("/source/name", "x"), 1u); // no such field
    EXPECT_EQ(spoilt("/source/ip", "10.8.0.2:1"), 1u);
    EXPECT_EQ(spoilt("/source/port", "51413"), 1u);
    EXPECT_EQ(spoilt("/event/kind", "detection"), 1u);
    EXPECT_EQ(spoilt("/event/category", "network"), 1u); // a list
    EXPECT_EQ(spoilt("/event/type", Json::array({"blocked"})), 1u);
    EXPECT_EQ(spoilt("/@timestamp", "2025-11-23T04:05:06.000007+0000"), 1u);
}

// For the check against the JSON Schema (ctest -R package.schema), which says where to write.
TEST(EventSamples, AreWritten) {
    const auto events = event_samples::all();
    std::set<EventType> types;
    const char* path = std::getenv("BTBLOCK_EVENT_SAMPLES");
    std::ofstream file(path ? path : "/dev/null");
    for (const Event& event : events) {
        types.insert(event.type);
        const std::string line = to_json_line(event);
        EXPECT_TRUE(Json::accept(line)) << line;
        file << line << "\n";
    }
    EXPECT_NE(type_name(*types.rbegin()), "unknown");
    EXPECT_EQ(type_name(EventType(static_cast<int>(*types.rbegin()) + 1)), "unknown") << "a type has no sample";
    EXPECT_TRUE(file.flush());
}

} // namespace
