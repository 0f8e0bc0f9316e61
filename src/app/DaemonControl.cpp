// SPDX-License-Identifier: MIT
// What the daemon answers on its control socket; the requests are described in app/Operations.h.
#include "app/Daemon.h"
#include "app/Operations.h"
#include "app/Status.h"
#include "core/Clock.h"
#include "core/ReplaceFile.h"
#include "metrics/Exposition.h"
#include "net/Inside.h"
#include "queue/NfQueue.h"

#include <spdlog/spdlog.h>

namespace btblock::app {

namespace {

event::Event ban_event(event::EventType type, const ListedBan& ban, const std::string& message) {
    event::Event e;
    e.type = type;
    e.time_ns = wall_ns();
    e.evidence = ban.value.evidence;
    e.action = type == event::EventType::ban ? "ban" : "unban";
    e.peer = ban.target.address;
    e.target = ban.text();
    e.message = message;
    if (type == event::EventType::ban)
        e.ban_expires = ban.value.expires_ns == ~0ULL ? never : event::WallClock::now().at(ban.value.expires_ns);
    return e;
}

} // namespace

nlohmann::json Daemon::answer(const nlohmann::json& request) {
    const std::string command = request.value("command", "");
    if (command == "status")
        return {{"status", status()}};
    if (command == "version")
        return {{"version", BTBLOCK_VERSION}, {"abi", BT_ABI}};
    if (command == "events") {
        nlohmann::json list = nlohmann::json::array();
        const auto known = bus_->since(0);
        const std::size_t wanted = request.value("last", event::EventBus::kept);
        for (std::size_t i = known.size() > wanted ? known.size() - wanted : 0; i < known.size(); ++i)
            list.push_back(nlohmann::json(event::to_json(known[i].event)));
        return {{"events", std::move(list)}};
    }
    if (command == "bans.imported") { // by a command, into the maps; events of each would drown the others
        keeper_->changed();
        health(request.value("note", "bans were imported"));
        return {{"ok", true}};
    }
    auto never = net::never_ban_addresses();
    if (!never)
        return control::error_answer(never.error());
    const OperationContext context{
        .maps = maps_,
        .never_ban = std::move(*never),
        .default_seconds = config_.ban.duration,
        .banned = [this](const ListedBan& ban) { publish(ban_event(event::EventType::ban, ban, ban.value.comment)); },
        .unbanned =
            [this](const ListedBan& ban) { publish(ban_event(event::EventType::unban, ban, "by the operator")); },
    };
    auto answer = perform(context, request);
    if (answer["ok"] == true)
        keeper_->changed();
    return answer;
}

nlohmann::json Daemon::status() {
    collect_counters();
    StatusExtras extras;
    extras.instance = pins_.instance;
    extras.daemon = true;
    for (const std::string& name : config_.interfaces) {
        const auto at = attached_.find(name);
        if (at == attached_.end()) {
            extras.interfaces.push_back({name, 0, "", "off", "off"});
            extras.problems.push_back("interface '" + name + "' does not exist now");
            continue;
        }
        const bpf::Attached& a = at->second;
        extras.interfaces.push_back({name, a.ifindex, a.link, a.xdp, a.tc});
        if (a.xdp == "foreign")
            extras.problems.push_back(a.note);
    }
    const QueueTotals queue = queue_totals();
    extras.queue_depth = queue.depth;
    extras.queue_dropped = queue.dropped;
    extras.queue_failed_open = queue.failed_open;
    extras.events_suppressed = flood_guard_.suppressed();
    if (stalled_)
        extras.problems.emplace_back("a queue worker does not answer");
    if (overloaded_)
        extras.problems.emplace_back(config_.queue.fail_open ? "the queue is full: packets pass without being looked at"
                                                             : "the queue is full: packets are dropped");
    if (!metrics_file_problem_.empty())
        extras.problems.push_back(metrics_file_problem_);
    return status_json(maps_, extras);
}

std::string Daemon::exposition() {
    // It walks whole tables: however often it is asked for, it is made once a second.
    if (const auto now = monotonic_ns(); exposition_.empty() || now - exposition_ns_ >= BT_NSEC_PER_SEC) {
        exposition_ = metrics::exposition(nlohmann::ordered_json(status()), started_wall_ns_ / BT_NSEC_PER_SEC);
        exposition_ns_ = now;
    }
    return exposition_;
}

Result<void> Daemon::write_metrics_file() {
    constexpr std::uint64_t every_ns = 15 * BT_NSEC_PER_SEC;
    if (config_.metrics.file.empty())
        return {};
    next_metrics_file_ns_ = monotonic_ns() + every_ns;
    if (auto written = replace_file(config_.metrics.file, exposition(), 0644, Durable::no); !written)
        return error("metrics.file: " + written.error().message);
    wrote_metrics_file_ = true;
    return {};
}

// A full disk lasts: it is told when it begins and when it ends, and by the status meanwhile.
void Daemon::write_metrics_file_or_warn() {
    if (config_.metrics.file.empty() || monotonic_ns() < next_metrics_file_ns_)
        return;
    const auto written = write_metrics_file();
    const std::string problem = written ? "" : written.error().message;
    if (!problem.empty() && problem != metrics_file_problem_)
        spdlog::warn("{}", problem);
    else if (problem.empty() && !metrics_file_problem_.empty())
        spdlog::info("metrics.file: {} is written again", config_.metrics.file);
    metrics_file_problem_ = problem;
}

Daemon::QueueTotals Daemon::queue_totals() const {
    QueueTotals totals;
    const auto counters = maps_.stats(); // first: what comes meanwhile must not look lost
    std::uint64_t received = 0;
    for (const auto& worker : workers_) {
        if (const auto queue = queue::read_queue_stats(worker->number())) {
            totals.depth += queue->waiting;
            totals.dropped += queue->dropped + queue->user_dropped;
        }
        const queue::WorkerCounters c = worker->counters();
        received += c.received;
        if (config_.queue.fail_open)
            totals.failed_open += c.missed;
    }
    // The kernel does not count what passes a full queue: it is what was punted and neither waits nor came.
    if (counters && config_.queue.fail_open) {
        const std::uint64_t punted = (*counters)[BT_S_PUNTED] - punted_before_;
        const std::uint64_t known = received + totals.depth + totals.dropped;
        totals.failed_open += punted > known ? punted - known : 0;
    }
    return totals;
}

} // namespace btblock::app
