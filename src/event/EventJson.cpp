// SPDX-License-Identifier: MIT
#include "event/Event.h"

#include "core/Evidence.h"
#include "event/CommunityId.h"

#include <algorithm>
#include <netinet/in.h>

namespace btblock::event {
namespace {

using Json = nlohmann::ordered_json;

void put(Json& object, const char* key, std::string_view text) {
    if (!text.empty())
        object[key] = text;
}

void put(Json& object, const char* key, const std::optional<net::Address>& address) {
    if (address)
        object[key] = address->to_string();
}

Json evidence_array(const Event& event) {
    Json names = Json::array();
    for (const std::string_view name : evidence_list(event.evidence))
        names.push_back(name);
    return names;
}

std::string flow_hash(const Event& event) {
    if (!event.src || !event.dst)
        return {};
    return community_id(*event.src, event.src_port, *event.dst, event.dst_port, event.proto);
}

std::string expiry(const Event& event) {
    if (!event.ban_expires)
        return {};
    return *event.ban_expires == never ? "never" : timestamp(*event.ban_expires);
}

// What only we know, the same in both shapes.
Json own_fields(const Event& event) {
    Json own;
    own["evidence"] = evidence_array(event);
    put(own, "action", event.action);
    put(own, "client", event.client);
    put(own, "peer", event.peer);
    put(own, "target", event.target);
    put(own, "ban_expires", expiry(event));
    put(own, "hook", event.hook);
    put(own, "mode", event.mode);
    if (event.count)
        own["count"] = event.count;
    put(own, "message", event.message);
    own["schema"] = event_schema;
    return own;
}

Json ecs_category(EventType type) {
    switch (type) {
    case EventType::detection: return Json::array({"intrusion_detection", "network"});
    case EventType::health: return Json::array({"host"});
    default: return Json::array({"network"});
    }
}

const char* ecs_type(const Event& event) {
    if (event.action == "drop")
        return "denied";
    return event.action == "pass" ? "allowed" : "info";
}

std::string line(const Json& object) {
    return object.dump(-1, ' ', false, Json::error_handler_t::replace);
}

} // namespace

nlohmann::ordered_json to_json(const Event& event) {
    Json object;
    object["timestamp"] = timestamp(event.time_ns);
    object["event_type"] = type_name(event.type);
    put(object, "src_ip", event.src);
    if (event.src)
        object["src_port"] = event.src_port;
    put(object, "dest_ip", event.dst);
    if (event.dst)
        object["dest_port"] = event.dst_port;
    put(object, "proto", proto_name(event.proto));
    put(object, "in_iface", event.in_iface);
    put(object, "community_id", flow_hash(event));
    object["btblock"] = own_fields(event);
    return object;
}

// Fields and their allowed values: https://www.elastic.co/docs/reference/ecs; tests/unit/ecs_test.cpp holds the table.
nlohmann::ordered_json to_ecs(const Event& event) {
    const bool noticed = event.type == EventType::detection;
    Json object;
    std::string time = timestamp(event.time_ns);
    time.insert(time.size() - 2, 1, ':'); // the schema's dates have a colon in the offset
    object["@timestamp"] = time;
    object["ecs"]["version"] = "8.11.0";
    object["message"] = describe(event);
    Json& what = object["event"];
    what["kind"] = noticed ? "alert" : "event";
    what["category"] = ecs_category(event.type);
    what["type"] = Json::array({ecs_type(event)});
    what["action"] = type_name(event.type);
    if ((event.action == "drop" && event.type != EventType::suppressed) || event.action == "ban" ||
        event.action == "unban")
        what["outcome"] = "success";
    what["module"] = "btblock";
    what["dataset"] = "btblock.events";
    if (event.src)
        object["source"] = {{"ip", event.src->to_string()}, {"port", event.src_port}};
    if (event.dst)
        object["destination"] = {{"ip", event.dst->to_string()}, {"port", event.dst_port}};
    if (const auto proto = proto_name(event.proto); !proto.empty()) {
        Json& network = object["network"];
        network["transport"] = event.proto == IPPROTO_TCP ? "tcp" : "udp";
        if (event.src)
            network["type"] = event.src->is_v4() ? "ipv4" : "ipv6";
        if (event.client)
            network["direction"] = event.client == event.src ? "outbound" : "inbound";
        if (noticed)
            network["protocol"] = "bittorrent";
        put(network, "community_id", flow_hash(event));
    }
    Json& observer = object["observer"];
    observer["type"] = "ips";
    observer["vendor"] = "btblock";
    observer["product"] = "btblock";
    observer["version"] = BTBLOCK_VERSION;
    if (!event.in_iface.empty())
        observer[event.hook == "egress" ? "egress" : "ingress"]["interface"]["name"] = event.in_iface;
    if (event.evidence) {
        object["rule"]["name"] = evidence_string(event.evidence);
        object["rule"]["ruleset"] = "btblock";
    }
    Json related = Json::array();
    for (const auto* end : {&event.src, &event.dst, &event.client, &event.peer})
        if (*end && std::find(related.begin(), related.end(), Json((*end)->to_string())) == related.end())
            related.push_back((*end)->to_string());
    if (!related.empty())
        object["related"]["ip"] = std::move(related);
    object["btblock"] = own_fields(event);
    return object;
}

std::string to_json_line(const Event& event) {
    return line(to_json(event));
}
std::string to_ecs_line(const Event& event) {
    return line(to_ecs(event));
}

} // namespace btblock::event
