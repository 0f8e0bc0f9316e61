// SPDX-License-Identifier: MIT
#include "event/JournalSink.h"

#include "core/Evidence.h"
#include "event/CommunityId.h"

#include <syslog.h>

#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>

namespace btblock::event {
namespace {

constexpr const char* journal_socket = "/run/systemd/journal/socket";

void add(std::vector<std::string>& fields, const char* name, std::string_view value) {
    if (!value.empty())
        fields.push_back(std::string(name).append("=").append(value));
}

void add(std::vector<std::string>& fields, const char* name, const std::optional<net::Address>& address) {
    if (address)
        add(fields, name, address->to_string());
}

} // namespace

std::vector<std::string> journal_fields(const Event& event) {
    std::vector<std::string> fields;
    add(fields, "MESSAGE", describe(event));
    add(fields, "PRIORITY", std::to_string(event.type == EventType::health ? LOG_WARNING : LOG_INFO));
    add(fields, "SYSLOG_IDENTIFIER", "btblock");
    add(fields, "BTBLOCK_EVENT", type_name(event.type));
    add(fields, "BTBLOCK_EVIDENCE", evidence_string(event.evidence));
    add(fields, "BTBLOCK_ACTION", event.action);
    add(fields, "BTBLOCK_MODE", event.mode);
    add(fields, "BTBLOCK_HOOK", event.hook);
    add(fields, "BTBLOCK_CLIENT", event.client);
    add(fields, "BTBLOCK_PEER", event.peer);
    add(fields, "BTBLOCK_TARGET", event.target);
    if (event.count)
        add(fields, "BTBLOCK_COUNT", std::to_string(event.count));
    add(fields, "BTBLOCK_PROTO", proto_name(event.proto));
    add(fields, "BTBLOCK_SRC_IP", event.src);
    if (event.src)
        add(fields, "BTBLOCK_SRC_PORT", std::to_string(event.src_port));
    add(fields, "BTBLOCK_DEST_IP", event.dst);
    if (event.dst)
        add(fields, "BTBLOCK_DEST_PORT", std::to_string(event.dst_port));
    add(fields, "BTBLOCK_IN_IFACE", event.in_iface);
    if (event.ban_expires)
        add(fields, "BTBLOCK_BAN_EXPIRES", *event.ban_expires == never ? "never" : timestamp(*event.ban_expires));
    if (event.src && event.dst)
        add(fields, "BTBLOCK_COMMUNITY_ID",
            community_id(*event.src, event.src_port, *event.dst, event.dst_port, event.proto));
    return fields;
}

Result<std::unique_ptr<JournalSink>> JournalSink::open() {
    struct stat info {};
    if (stat(journal_socket, &info) != 0 || !S_ISSOCK(info.st_mode))
        return error(std::string("no systemd journal on this machine (") + journal_socket +
                     " is missing); set events.journal = false");
    return std::unique_ptr<JournalSink>(new JournalSink);
}

void JournalSink::write(const Event& event) {
    std::vector<std::string> fields = journal_fields(event);
    std::vector<iovec> parts;
    parts.reserve(fields.size());
    for (std::string& field : fields)
        parts.push_back({field.data(), field.size()});
    const int done = sd_journal_sendv(parts.data(), static_cast<int>(parts.size()));
    if (done >= 0) {
        failing_ = false;
        return;
    }
    failed_.fetch_add(1, std::memory_order_relaxed);
    if (!failing_)
        spdlog::error("cannot write to the journal: {}; events are lost until this is mended",
                      std::generic_category().message(-done));
    failing_ = true;
}

} // namespace btblock::event
