// SPDX-License-Identifier: MIT
#include "app/Bans.h"

#include "app/Command.h"
#include "app/InstanceLock.h"
#include "app/StateFile.h"
#include "bpf/Pins.h"
#include "control/Client.h"
#include "core/Clock.h"
#include "core/Config.h"
#include "core/Duration.h"
#include "net/Inside.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <spdlog/fmt/fmt.h>
#include <utility>

namespace btblock::app {

namespace {

constexpr std::size_t largest_import = 512 << 20; // bytes of a file
constexpr std::string_view csv_header = "address,ports,created,expires,evidence,hits,manual,comment";

std::string text_of(const Json& ban, const char* name) {
    const auto found = ban.find(name);
    return found != ban.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string joined(const Json& list, char separator) {
    std::string text;
    for (const Json& item : list)
        text += (text.empty() ? "" : std::string(1, separator)) +
                (item.is_string() ? item.get<std::string>() : item.dump());
    return text;
}

// ------------------------------------------------------------------ reading an import

struct Line {
    std::size_t number;
    std::string_view text;
};

std::vector<Line> lines_of(std::string_view text) {
    std::vector<Line> lines;
    lines.reserve(static_cast<std::size_t>(std::ranges::count(text, '\n')) + 1);
    for (std::size_t number = 1; !text.empty(); ++number) {
        const auto end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        if (line.ends_with('\r'))
            line.remove_suffix(1);
        lines.push_back({number, line});
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return lines;
}

std::vector<std::string> split(std::string_view text, std::string_view separators) {
    std::vector<std::string> parts;
    while (!text.empty()) {
        const auto end = std::min(text.find_first_of(separators), text.size());
        if (end > 0)
            parts.emplace_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return parts;
}

class Importer {
public:
    Importer(std::string name, std::string* skipped) : name_(std::move(name)), skipped_(skipped) {}

    void expect(std::size_t count) { bans_.reserve(count); }
    void take(std::size_t line, const nlohmann::json& entry) {
        auto ban = imported_ban(entry);
        if (ban)
            bans_.push_back(std::move(*ban));
        else
            complain(line, ban.error().message);
    }
    void take(std::size_t line, std::string_view address) {
        auto target = parse_ban_target(address);
        if (!target) {
            complain(line, target.error().message);
            return;
        }
        ImportedBan& ban = bans_.emplace_back();
        ban.target = *target;
        if (ban.target.port)
            ban.ports.push_back(*std::exchange(ban.target.port, std::nullopt));
    }
    void complain(std::size_t line, const std::string& message) {
        if (++complaints_ > most_complaints)
            return;
        problems_ += fmt::format("{}{}:{}: {}", problems_.empty() ? "" : "\n", name_, line, message);
    }
    Result<ImportedBans> result() && {
        if (complaints_ == 0)
            return std::move(bans_);
        if (complaints_ > most_complaints)
            problems_ += fmt::format("\n... and {} more{}", complaints_ - most_complaints,
                                     skipped_ ? "" : "; nothing was imported");
        if (skipped_) {
            *skipped_ = std::move(problems_);
            return std::move(bans_);
        }
        return error(std::move(problems_), ExitCode::usage);
    }

private:
    static constexpr std::size_t most_complaints = 20;
    std::string name_;
    std::string* skipped_; // where complaints go when they are no reason to stop
    ImportedBans bans_;
    std::string problems_;
    std::size_t complaints_ = 0;
};

void parse_plain(const std::vector<Line>& lines, Importer& importer) {
    for (const auto& [number, line] : lines) {
        std::string_view word = line.substr(0, line.find('#'));
        word.remove_prefix(std::min(word.find_first_not_of(" \t"), word.size()));
        const auto rest = std::min(word.find_first_of(" \t"), word.size());
        if (word.find_first_not_of(" \t", rest) != std::string_view::npos)
            importer.complain(number, "more than one address in a line");
        else if (!word.empty())
            importer.take(number, word.substr(0, rest));
    }
}

void parse_csv(const std::vector<Line>& lines, Importer& importer) {
    std::vector<std::string> columns;
    for (const auto& [number, line] : lines) {
        if (line.find_first_not_of(" \t") == std::string::npos)
            continue;
        const auto fields = parse_csv_line(line);
        if (!fields) {
            importer.complain(number, fields.error().message);
            continue;
        }
        if (columns.empty()) {
            columns = *fields;
            continue;
        }
        if (fields->size() != columns.size()) {
            importer.complain(number, fmt::format("{} fields, but the header has {}", fields->size(), columns.size()));
            continue;
        }
        nlohmann::json entry = nlohmann::json::object();
        std::string problem;
        for (std::size_t i = 0; i < columns.size(); ++i) {
            const std::string& column = columns[i];
            const std::string& field = (*fields)[i];
            if (column == "address" || column == "comment") {
                entry[column] = field;
            } else if (column == "evidence") {
                entry[column] = split(field, "+ ");
            } else if (column == "expires") {
                entry[column] = field.empty() || field == "never" ? nlohmann::json() : nlohmann::json(field);
            } else if (column == "manual") {
                entry[column] = field == "true" || field.empty();
                if (field != "true" && field != "false" && !field.empty())
                    problem = "\"manual\" must be true or false";
            } else if (column == "ports") {
                entry[column] = nlohmann::json::array();
                for (const std::string& port : split(field, " ;")) {
                    unsigned value = 0;
                    const auto [end, failed] = std::from_chars(port.data(), port.data() + port.size(), value);
                    if (failed != std::errc{} || end != port.data() + port.size())
                        problem = "'" + printable(port) + "' is not a port";
                    entry[column].push_back(value);
                }
            }
        }
        if (problem.empty())
            importer.take(number, entry);
        else
            importer.complain(number, problem);
    }
}

// The line of a file in which the n-th byte stands.
std::size_t line_of(std::string_view text, std::size_t byte) {
    return 1 + static_cast<std::size_t>(std::count(
                   text.begin(), text.begin() + static_cast<std::ptrdiff_t>(std::min(byte, text.size())), '\n'));
}

// Elements of the list, with the line each starts in: the parser itself forgets where it was.
void parse_json(std::string_view text, Importer& importer) {
    nlohmann::json document;
    try {
        document = nlohmann::json::parse(text);
    } catch (const nlohmann::json::parse_error& failure) {
        importer.complain(line_of(text, failure.byte ? failure.byte - 1 : 0), "this is not JSON");
        return;
    }
    const nlohmann::json* list = &document;
    if (document.is_object() && document.contains("bans"))
        list = &document["bans"];
    if (!list->is_array()) {
        importer.complain(1, "neither a list of bans nor an object with a list \"bans\"");
        return;
    }
    std::vector<std::size_t> starts; // lines in which the elements, which are objects of depth `list` + 1, begin
    const int wanted = list == &document ? 1 : 2;
    int depth = 0;
    bool quoted = false, in_bans = list == &document;
    std::string last_string, current;
    std::size_t line = 1;
    bool element_open = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        line += c == '\n';
        if (quoted) {
            if (c == '\\')
                ++i;
            else if (c == '"')
                quoted = false, last_string = current;
            else
                current += c;
            continue;
        }
        const bool content =
            !(c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ',' || c == ']' || c == '}' || c == ':');
        if (in_bans && depth == wanted && content && !element_open) {
            starts.push_back(line);
            element_open = true;
        }
        if (c == '"')
            quoted = true, current.clear();
        else if (c == ',' && depth == wanted)
            element_open = false;
        else if (c == '[' || c == '{') {
            ++depth;
            if (wanted == 2 && depth == 2 && c == '[')
                in_bans = last_string == "bans";
        } else if (c == ']' || c == '}') {
            if (wanted == 2 && depth == 2)
                in_bans = element_open = false;
            --depth;
        }
    }
    for (std::size_t i = 0; i < list->size(); ++i)
        importer.take(i < starts.size() ? starts[i] : 1, (*list)[i]);
}

// ------------------------------------------------------------------ commands

// What a command changed without a daemon must outlive the maps, too.
Result<void> save_pinned(const bpf::Maps& maps, const std::string& instance) {
    const auto state = read_state(maps, Clocks::now().monotonic_ns);
    if (!state)
        return state.error();
    if (auto saved = save_state(*state, bpf::Pins{instance}.state_dir()); !saved)
        return error("done, but not kept for a reboot: " + saved.error().message);
    return {};
}

// What a command that works on the maps itself needs besides them.
Result<OperationContext> pinned_context(const bpf::Maps& maps) {
    auto never_ban = net::never_ban_addresses();
    if (!never_ban)
        return never_ban.error();
    OperationContext context{.maps = maps,
                             .never_ban = std::move(*never_ban),
                             .default_seconds = Config{}.ban.duration,
                             .banned = {},
                             .unbanned = {}};
    if (const auto loaded = load_config(ConfigSources{}))
        context.default_seconds = loaded->config.ban.duration;
    return context;
}

Result<nlohmann::json> change_pinned(const std::string& instance, const nlohmann::json& request) {
    const auto maps = bpf::open_pinned_maps(instance);
    if (!maps)
        return maps.error();
    const auto context = pinned_context(*maps);
    if (!context)
        return context.error();
    auto answer = perform(*context, request);
    if (answer["ok"] == true) {
        if (auto saved = save_pinned(*maps, instance); !saved)
            return saved.error();
        return answer;
    }
    return error(answer["error"].get<std::string>(), static_cast<ExitCode>(answer["exit_code"].get<int>()));
}

Result<std::string> slurp(const std::string& path) {
    std::ifstream file;
    if (path != "-") {
        errno = 0;
        file.open(path, std::ios::binary);
        if (!file)
            return errno_error(path);
    }
    std::istream& in = path == "-" ? std::cin : file;
    std::string text;
    char block[65536];
    while (in.read(block, sizeof block) || in.gcount() > 0) {
        text.append(block, static_cast<std::size_t>(in.gcount()));
        if (text.size() > largest_import)
            return error(path + ": is larger than 512 MiB");
    }
    if (in.bad() || (!in.eof() && in.fail()))
        return error(path + ": cannot be read");
    return text;
}

// "seconds" of a request; nothing for the default.
Result<void> put_seconds(nlohmann::json& request, const std::string& duration) {
    if (duration.empty())
        return {};
    if (duration == "forever" || duration == "never") {
        request["seconds"] = nullptr;
        return {};
    }
    const auto seconds = parse_duration(duration);
    if (!seconds)
        return error("--for: " + seconds.error().message, ExitCode::usage);
    if (*seconds == 0)
        return error("--for: must be at least 1s", ExitCode::usage);
    request["seconds"] = *seconds;
    return {};
}

struct BanOptions {
    std::string address, duration, comment, file;
    bool force = false;
    bool skip = false;
    Format format = Format::human;
};

int list_bans(const std::string& instance, Format format, Io& io) {
    const auto maps = bpf::open_pinned_maps(instance);
    if (!maps)
        return fail(io, maps.error());
    const auto bans = read_bans(*maps, Clocks::now());
    if (!bans)
        return fail(io, bans.error());
    switch (format) {
    case Format::human: io.out << bans_text(*bans, io.screen.width); break;
    case Format::json: io.out << bans_json(*bans); break;
    case Format::csv: io.out << bans_csv(*bans); break;
    case Format::plain: io.out << bans_plain(*bans); break;
    }
    return 0;
}

int add_command(const std::string& instance, const BanOptions& options, Io& io) {
    // Understood before anybody is asked, so that a wrong command line is one whether or not anything is installed.
    const auto target = parse_ban_target(options.address);
    if (!target)
        return fail(io, target.error());
    if (auto checked = check_comment(options.comment); !checked)
        return fail(io, checked.error());
    nlohmann::json request{{"command", "bans.add"}, {"address", options.address}, {"force", options.force}};
    if (auto put = put_seconds(request, options.duration); !put)
        return fail(io, put.error());
    if (!options.comment.empty())
        request["comment"] = options.comment;
    const auto answer = change(instance, request);
    if (!answer)
        return fail(io, answer.error());
    const nlohmann::json ban = answer->value("ban", nlohmann::json::object());
    const auto remaining = ban.find("remaining");
    io.out << ListedBan{*target, {}}.text() << " is banned "
           << (remaining != ban.end() && remaining->is_number_unsigned()
                   ? "for " + rough_duration(remaining->get<std::uint64_t>())
                   : "for ever")
           << "\n";
    return 0;
}

int delete_command(const std::string& instance, const BanOptions& options, Io& io) {
    const auto target = parse_ban_target(options.address);
    if (!target)
        return fail(io, target.error());
    const auto answer = change(instance, {{"command", "bans.del"}, {"address", options.address}});
    if (!answer)
        return fail(io, answer.error());
    io.out << ListedBan{*target, {}}.text() << " is no longer banned\n";
    return 0;
}

int flush_command(const std::string& instance, Io& io) {
    const auto answer = change(instance, {{"command", "bans.flush"}});
    if (!answer)
        return fail(io, answer.error());
    io.out << "removed " << counted(answer->value("removed", std::uint64_t{0}), "ban", "bans") << "\n";
    return 0;
}

int import_command(const std::string& instance, const BanOptions& options, Io& io) {
    const auto text = slurp(options.file);
    if (!text)
        return fail(io, text.error());
    const std::string name = options.file == "-" ? "standard input" : options.file;
    std::string skipped;
    const auto bans = parse_bans(*text, name, options.skip ? &skipped : nullptr);
    if (!bans) {
        io.err << bans.error().message << "\n";
        return static_cast<int>(bans.error().exit_code);
    }
    if (!skipped.empty())
        io.err << skipped << "\n";
    // Into the maps, whether or not there is a daemon: a million bans through its socket would keep it from its work.
    const auto maps = bpf::open_pinned_maps(instance);
    if (!maps)
        return fail(io, maps.error());
    const auto context = pinned_context(*maps);
    if (!context)
        return fail(io, context.error());
    const auto imported = import_bans(*context, *bans, options.force);
    if (!imported)
        return fail(io, imported.error());
    const std::string note = "imported " + counted(*imported, "ban", "bans") + " from " + printable(name);
    if (!control::request(instance, {{"command", "bans.imported"}, {"note", note}}, std::chrono::seconds(15)))
        if (auto saved = save_pinned(*maps, instance); !saved)
            return fail(io, saved.error());
    io.out << "imported " << counted(*imported, "ban", "bans");
    if (*imported < bans->size())
        io.out << ", " << bans->size() - *imported << " had expired";
    io.out << "\n";
    return 0;
}

int export_command(const std::string& instance, const BanOptions& options, Io& io) {
    if (options.file.empty() || options.file == "-")
        return list_bans(instance, options.format, io);
    std::ostringstream text;
    Io capture{text, io.err};
    if (const int code = list_bans(instance, options.format, capture); code != 0)
        return code;
    errno = 0;
    std::ofstream file(options.file, std::ios::binary | std::ios::trunc);
    file << text.str();
    file.close();
    if (!file)
        return fail(io, errno_error(options.file));
    return 0;
}

} // namespace

std::vector<Json> live_bans(std::vector<std::pair<bt_addr, bt_ban>> entries, const Clocks& clocks) {
    std::erase_if(entries, [&](const auto& entry) { return entry.second.expires_ns <= clocks.monotonic_ns; });
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
        if (a.second.expires_ns != b.second.expires_ns)
            return a.second.expires_ns > b.second.expires_ns;
        return net::Address(a.first) < net::Address(b.first);
    });
    std::vector<Json> bans;
    for (const auto& [key, ban] : entries)
        bans.push_back(ban_json(key, ban, clocks));
    return bans;
}

Result<std::vector<Json>> read_bans(const bpf::Maps& maps, const Clocks& clocks) {
    std::vector<std::pair<bt_addr, bt_ban>> entries;
    auto walked = maps.bans.for_each([&](const bt_addr& key, const bt_ban& ban) { entries.emplace_back(key, ban); });
    if (!walked)
        return walked.error();
    return live_bans(std::move(entries), clocks);
}

std::string bans_text(const std::vector<Json>& bans, std::size_t width) {
    if (bans.empty())
        return "no bans\n";
    Table table(
        {{"address"}, {"remaining", Table::Align::right}, {"hits", Table::Align::right}, {"evidence"}, {"comment"}});
    for (const Json& ban : bans) {
        std::string address = text_of(ban, "address");
        if (!ban["ports"].empty())
            address += " port " + joined(ban["ports"], ',');
        const std::string evidence = plus_joined(ban["evidence"]);
        table.row({address,
                   ban["remaining"].is_null() ? "for ever" : rough_duration(ban["remaining"].get<std::uint64_t>()),
                   grouped(ban["hits"].get<std::uint64_t>()),
                   !evidence.empty()       ? evidence
                   : ban["manual"] == true ? "manual"
                                           : "-",
                   text_of(ban, "comment")});
    }
    return table.text(width);
}

std::string bans_json(const std::vector<Json>& bans) {
    return Json{{"bans", bans}}.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string bans_csv(const std::vector<Json>& bans) {
    std::string text = std::string(csv_header) + "\n";
    for (const Json& ban : bans)
        text += csv_line({text_of(ban, "address"), joined(ban["ports"], ' '), text_of(ban, "created"),
                          ban["expires"].is_null() ? "never" : text_of(ban, "expires"), plus_joined(ban["evidence"]),
                          std::to_string(ban["hits"].get<std::uint64_t>()), ban["manual"] == true ? "true" : "false",
                          text_of(ban, "comment")});
    return text;
}

std::string bans_plain(const std::vector<Json>& bans) {
    std::string text;
    for (const Json& ban : bans) {
        const std::string address = text_of(ban, "address");
        const std::string host = address.find(':') == std::string::npos ? address : "[" + address + "]";
        for (const Json& port : ban["ports"])
            text += host + ":" + port.dump() + "\n";
        if (ban["ports"].empty())
            text += address + "\n";
    }
    return text;
}

Result<ImportedBans> parse_bans(std::string_view text, const std::string& name, std::string* skipped) {
    if (text.starts_with("\xef\xbb\xbf"))
        text.remove_prefix(3);
    Importer importer(name, skipped);
    const auto first = text.find_first_not_of(" \t\r\n");
    const std::vector<Line> lines = lines_of(text);
    importer.expect(lines.size());
    const auto header = std::find_if(lines.begin(), lines.end(), [](const Line& line) {
        return line.text.find_first_not_of(" \t") != std::string::npos;
    });
    // "[2001:db8::1]:6881" is a plain line, though it begins like a JSON list.
    const bool bracketed =
        first != std::string_view::npos && text[first] == '[' && parse_ban_target(split(header->text, " \t#").front());
    if (first != std::string_view::npos && (text[first] == '{' || text[first] == '[') && !bracketed)
        parse_json(text, importer);
    else if (header != lines.end() && (header->text == "address" || header->text.starts_with("address,")))
        parse_csv(lines, importer);
    else
        parse_plain(lines, importer);
    return std::move(importer).result();
}

Result<nlohmann::json> change(const std::string& instance, const nlohmann::json& request) {
    auto answer = control::request(instance, request, std::chrono::seconds(15));
    if (answer || answer.error().exit_code != ExitCode::daemon_unreachable)
        return answer;
    // A daemon that lives but does not answer would be worked around behind its back.
    if (const int pid = lock_holder(bpf::Pins{instance}.run_dir()); pid > 0)
        return answer.error();
    return change_pinned(instance, request);
}

void add_bans(CommandLine& line) {
    CLI::App* bans = line.command("bans", "List and change banned addresses");
    bans->footer("Works without the daemon, on the pinned maps; with it, every change is an event.\n\n"
                 "Examples:\n  btblock bans list\n  btblock bans add 203.0.113.7 --for 2h --comment 'abuse report 17'");
    auto options = std::make_shared<BanOptions>();

    CLI::App* list = line.command("list", "Show the bans", bans);
    add_format(list, options->format, {Format::human, Format::json, Format::csv});
    list->footer("Examples:\n  btblock bans list\n  btblock bans list -o csv > bans.csv");
    line.on(list, [&line, options](Io& io) { return list_bans(line.instance(), options->format, io); });

    CLI::App* add = line.command("add", "Ban an address, an IPv6 /64, or one port of an address", bans);
    add->add_option("ADDRESS", options->address, "192.0.2.7, 2001:db8::/64, 192.0.2.7:6881, [2001:db8::1]:6881")
        ->required();
    add->add_option("--for", options->duration, "How long: 90s, 30m, 2h, 7d, forever; default ban.duration (5h)")
        ->type_name("DURATION");
    add->add_option("--comment", options->comment, "Why, at most 47 bytes")->type_name("TEXT");
    add->add_flag("--force", options->force, "Also an own address, a gateway, a resolver, an allowed one");
    add->footer("Examples:\n"
                "  btblock bans add 192.0.2.7 --for 2h --comment 'abuse report 17'\n"
                "  btblock bans add 2001:db8:1:2::/64 --for forever");
    line.on(add, [&line, options](Io& io) { return add_command(line.instance(), *options, io); });

    CLI::App* del = line.command("del", "Lift a ban", bans);
    del->add_option("ADDRESS", options->address, "As `bans list` shows it, or one port of it")->required();
    del->footer("Example:\n  btblock bans del 192.0.2.7");
    line.on(del, [&line, options](Io& io) { return delete_command(line.instance(), *options, io); });

    CLI::App* flush = line.command("flush", "Lift all bans", bans);
    flush->footer("Example:\n  btblock bans flush");
    line.on(flush, [&line](Io& io) { return flush_command(line.instance(), io); });

    CLI::App* import = line.command("import", "Add the bans of a file", bans);
    import->add_option("FILE", options->file, "JSON, CSV (both as exported) or one address a line; - is stdin")
        ->required();
    import->add_flag("--force", options->force, "Also own addresses, gateways, resolvers, allowed ones");
    import->add_flag("--skip-bad", options->skip, "Leave out lines that are wrong, and say which");
    import->footer("Nothing is imported when any line is wrong or refused. Entries of a plain list last\n"
                   "for ever; '#' starts a comment.\n\n"
                   "Example:\n  btblock bans import bans.json");
    line.on(import, [&line, options](Io& io) { return import_command(line.instance(), *options, io); });

    auto exported = std::make_shared<BanOptions>();
    exported->format = Format::json;
    CLI::App* out = line.command("export", "Write the bans to a file", bans);
    out->add_option("FILE", exported->file, "Where to; standard output if absent");
    add_format(out, exported->format, {Format::json, Format::csv, Format::plain});
    out->footer("Example:\n  btblock bans export bans.json");
    line.on(out, [&line, exported](Io& io) { return export_command(line.instance(), *exported, io); });
}

} // namespace btblock::app
