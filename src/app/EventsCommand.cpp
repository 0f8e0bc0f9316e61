// SPDX-License-Identifier: MIT
#include "app/EventsCommand.h"

#include "app/Command.h"
#include "app/Render.h"
#include "control/Client.h"

#include <spdlog/fmt/fmt.h>

namespace btblock::app {

namespace {

std::string word(const nlohmann::json& object, const char* name) {
    if (!object.is_object())
        return {};
    const auto found = object.find(name);
    return found != object.end() && found->is_string() ? printable(found->get<std::string>()) : std::string();
}

std::string endpoint(const nlohmann::json& event, const char* address, const char* port) {
    std::string host = word(event, address);
    const auto number = event.find(port);
    if (host.empty() || number == event.end() || !number->is_number_unsigned())
        return host;
    return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + number->dump();
}

struct EventOptions {
    bool follow = false;
    unsigned last = 20;
    Format format = Format::human;
};

int events_command(const std::string& instance, const EventOptions& options, Io& io) {
    const nlohmann::json request{{"command", "events"}, {"last", options.last}, {"follow", options.follow}};
    const auto print = [&](const nlohmann::json& event) {
        if (options.format == Format::json)
            io.out << event.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
        else
            io.out << event_text(event) << "\n";
    };
    const auto print_answer = [&](const nlohmann::json& answer) {
        const auto events = answer.find("events");
        if (events != answer.end() && events->is_array())
            for (const nlohmann::json& event : *events)
                print(event);
        io.out.flush();
        return static_cast<bool>(io.out);
    };
    if (!options.follow) {
        const auto answer = control::request(instance, request);
        if (!answer)
            return fail(io, answer.error());
        print_answer(*answer);
        return 0;
    }
    const auto followed = control::follow_at(
        control::socket_path(instance), instance, request, print_answer, [&](const std::string& line) {
            if (options.format == Format::json) {
                io.out << line << "\n";
            } else {
                const nlohmann::json event = nlohmann::json::parse(line, nullptr, false);
                io.out << (event.is_object() ? event_text(event) : printable(line)) << "\n";
            }
            io.out.flush();
            return static_cast<bool>(io.out);
        });
    return followed ? 0 : fail(io, followed.error());
}

} // namespace

std::string event_text(const nlohmann::json& event) {
    static const nlohmann::json nothing = nlohmann::json::object();
    const auto found = event.find("btblock");
    const nlohmann::json& own = found != event.end() && found->is_object() ? *found : nothing;
    std::string time = word(event, "timestamp");
    if (time.size() >= 19) { // seconds are enough for people
        time.resize(19);
        time[10] = ' ';
    }
    std::string evidence;
    if (const auto list = own.find("evidence"); list != own.end() && list->is_array())
        for (const nlohmann::json& name : *list)
            if (name.is_string())
                evidence += (evidence.empty() ? "" : "+") + printable(name.get<std::string>());
    std::string text = fmt::format("{} {:<9}", time, word(event, "event_type"));
    const auto add = [&](const std::string& part) {
        if (!part.empty())
            text += " " + part;
    };
    add(word(own, "action") == word(event, "event_type") ? "" : word(own, "action"));
    add(evidence);
    const std::string source = endpoint(event, "src_ip", "src_port"), sink = endpoint(event, "dest_ip", "dest_port");
    if (!source.empty() || !sink.empty())
        add(fmt::format("{} {} -> {}", word(event, "proto"), source, sink));
    else if (word(own, "target").empty())
        add(word(own, "client"));
    add(word(own, "target"));
    if (const std::string until = word(own, "ban_expires"); !until.empty())
        add(until == "never" ? "for ever" : "until " + until);
    if (const std::string interface = word(event, "in_iface"); !interface.empty())
        add("on " + interface);
    add(word(own, "message"));
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
}

void add_events(CommandLine& line) {
    auto options = std::make_shared<EventOptions>();
    CLI::App* sub = line.command("events", "Show what happened, and what happens");
    sub->add_flag("-f,--follow", options->follow, "Go on with new events until interrupted");
    sub->add_option("-n,--last", options->last, "Begin with so many past events, default 20")
        ->type_name("N")
        ->check(CLI::Range(0, 100000));
    add_format(sub, options->format, {Format::human, Format::json});
    sub->footer("JSON is one object a line, in the shape of Suricata's EVE. Needs the daemon.\n\n"
                "Examples:\n"
                "  btblock events\n"
                "  btblock events --follow -o json | jq -r .src_ip");
    line.on(sub, [&line, options](Io& io) { return events_command(line.instance(), *options, io); });
}

} // namespace btblock::app
