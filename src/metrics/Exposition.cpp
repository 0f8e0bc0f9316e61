// SPDX-License-Identifier: MIT
#include "metrics/Exposition.h"

#include "btblock/abi.h"

#include <spdlog/fmt/fmt.h>
#include <string_view>
#include <utility>
#include <vector>

namespace btblock::metrics {

namespace {

using Json = nlohmann::ordered_json;
using Labels = std::vector<std::pair<std::string_view, std::string>>;

std::string escaped(const std::string& value) {
    std::string out;
    for (const char c : value) {
        if (c == '\n') {
            out += "\\n";
            continue;
        }
        if (c == '\\' || c == '"')
            out += '\\';
        out += c;
    }
    return out;
}

class Text {
public:
    // Starts a metric; its samples follow.
    void metric(std::string_view name, std::string_view type, std::string_view help) {
        name_ = name;
        out += fmt::format("# HELP btblock_{} {}\n# TYPE btblock_{} {}\n", name, help, name, type);
    }
    void sample(std::uint64_t value, const Labels& labels = {}) {
        std::string inside;
        for (const auto& [label, text] : labels)
            inside += fmt::format("{}{}=\"{}\"", inside.empty() ? "" : ",", label, escaped(text));
        out += inside.empty() ? fmt::format("btblock_{} {}\n", name_, value)
                              : fmt::format("btblock_{}{{{}}} {}\n", name_, inside, value);
    }
    std::string out;

private:
    std::string_view name_;
};

std::uint64_t number(const Json& value) {
    return value.is_number_unsigned() ? value.get<std::uint64_t>() : 0;
}

std::uint64_t number(const Json& status, const char* section, const char* name) {
    const auto part = status.find(section);
    if (part == status.end() || !part->is_object())
        return 0;
    const auto found = part->find(name);
    return found == part->end() ? 0 : number(*found);
}

// One number of the status. Not "passed": a difference of counters read at different moments can go down.
struct Plain {
    const char* metric;
    const char* type;
    const char* help;
    const char* section;
    const char* name;
};

constexpr Plain plain[] = {
    {"packets_seen_total", "counter", "Packets that reached a hook.", "packets", "seen"},
    {"packets_punted_total", "counter", "Packets handed to the daemon for deep inspection.", "packets", "punted"},
    {"packets_not_punted_total", "counter", "Packets for the daemon that passed because none was there.", "packets",
     "not_punted"},
    {"packets_rejected_total", "counter", "Dropped packets that were answered (action = reject).", "packets",
     "rejected"},
    {"packets_monitored_total", "counter", "Packets that only passed because of monitor mode.", "packets", "monitored"},
    {"packets_not_parsed_total", "counter", "Packets that are neither TCP nor UDP over IP, or are cut short.",
     "packets", "not_parsed"},
    {"packets_fragments_total", "counter", "Fragments after the first: only bans hold for them.", "packets",
     "fragments"},
    {"flows_new_total", "counter", "Half-flows that began.", "flows", "new"},
    {"flows_clean_early_total", "counter", "Half-flows known as another protocol by their first packet.", "flows",
     "clean_early"},
    {"flows_skipped_total", "counter", "Half-flows not remembered: flood guard, or the table was full.", "flows",
     "skipped"},
    {"sockets_condemned_total", "counter", "UDP sockets of clients that were condemned.", "sockets", "condemned"},
    {"peers_learned_total", "counter", "Peers learned from clients.", "peers", "learned"},
    {"map_memory_bytes", "gauge", "Kernel memory of the maps.", "memory", "maps"},
    {"queue_depth", "gauge", "Packets that wait for the daemon now.", "queue", "depth"},
    {"queue_lost_total", "counter", "Packets lost because a queue or its socket was full.", "queue", "dropped"},
    {"queue_failed_open_total", "counter", "Packets that passed unseen for the same reason.", "queue", "failed_open"},
};

// Members of one section under one label.
struct Labelled {
    const char* metric;
    const char* help;
    const char* section;
    const char* label;
};

constexpr Labelled labelled[] = {
    {"packets_dropped_total", "Packets dropped, by what decided it.", "drops", "reason"},
    {"detections_total", "Flows recognised, by evidence code.", "detections", "evidence"},
    {"events_total", "Events of the kernel: sent, lost, told by number only.", "events", "state"},
    {"announces_leaked_total", "Control packets recognised only after an earlier one of their flow had passed.",
     "announce_leaked_by", "protocol"},
};

} // namespace

std::string exposition(const Json& status, std::uint64_t start_time) {
    Text text;
    text.metric("build_info", "gauge", "Version of the daemon and layout of its maps.");
    text.sample(1, {{"version", status.value("version", "")}, {"abi", std::to_string(BT_ABI)}});
    text.metric("start_time_seconds", "gauge", "When the daemon started, in seconds since the epoch.");
    text.sample(start_time);
    text.metric("enforcing", "gauge", "1: BitTorrent is dropped; 0: monitor mode.");
    text.sample(status.value("mode", "") == "enforce");
    text.metric("problems", "gauge", "Problems that `btblock status` tells about.");
    const auto problems = status.find("problems");
    text.sample(problems == status.end() ? 0 : problems->size());

    text.metric("interface_attached", "gauge", "1 where a program of ours sits at the interface's hook.");
    if (const auto interfaces = status.find("interfaces"); interfaces != status.end())
        for (const Json& interface : *interfaces)
            for (const char* hook : {"tc", "xdp"}) {
                const std::string state = interface.value(hook, "off");
                text.sample(state != "off" && state != "foreign",
                            {{"interface", interface.value("name", "")}, {"hook", hook}});
            }

    for (const Plain& p : plain) {
        text.metric(p.metric, p.type, p.help);
        text.sample(number(status, p.section, p.name));
    }
    for (const Labelled& l : labelled) {
        text.metric(l.metric, "counter", l.help);
        if (const auto section = status.find(l.section); section != status.end())
            for (const auto& [name, value] : section->items())
                text.sample(number(value), {{l.label, name}});
    }

    text.metric("queue_verdicts_total", "counter", "Verdicts of the daemon.");
    text.sample(number(status, "queue", "verdicts_drop"), {{"verdict", "drop"}});
    text.sample(number(status, "queue", "verdicts_pass"), {{"verdict", "pass"}});

    text.metric("table_entries", "gauge", "Entries in force, by table.");
    for (const char* table : {"bans", "flows", "sockets", "peers", "allow"})
        text.sample(number(status, table, "entries"), {{"table", table}});
    text.sample(number(status, "clients", "active"), {{"table", "clients"}});
    text.metric("table_capacity", "gauge", "Entries that a table has room for.");
    for (const char* table : {"bans", "flows", "sockets", "peers", "clients", "allow"})
        text.sample(number(status, table, "capacity"), {{"table", table}});
    return std::move(text.out);
}

} // namespace btblock::metrics
