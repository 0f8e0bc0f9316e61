// SPDX-License-Identifier: MIT
// What the daemon answers on its control socket; the requests are described in app/Operations.h.
#include "app/Daemon.h"
#include "app/Operations.h"
#include "app/Status.h"
#include "core/Clock.h"
#include "net/Inside.h"
#include "queue/NfQueue.h"

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
        e.ban_expires = ban.value.expires_ns == ~0ULL ? event::never : event::WallClock::now().at(ban.value.expires_ns);
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
            list.push_back(event::to_json(known[i].event));
        return {{"events", std::move(list)}};
    }
    auto never = net::never_ban_addresses();
    if (!never)
        return control::error_answer(never.error());
    const OperationContext context{
        .maps = maps_,
        .never_ban = std::move(*never),
        .default_seconds = config_.ban.duration,
        .banned = [this](const ListedBan& ban) { publish(ban_event(event::EventType::ban, ban, ban.value.comment)); },
        .unbanned = [this](const ListedBan& ban) { publish(ban_event(event::EventType::unban, ban, "by the operator")); },
    };
    return perform(context, request);
}

} // namespace btblock::app
