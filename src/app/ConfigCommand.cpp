// SPDX-License-Identifier: MIT
#include "app/ConfigCommand.h"

#include "app/Command.h"
#include "app/Render.h"

#include <toml++/toml.h>

namespace btblock::app {

namespace {

Json from_toml(const toml::node& node) {
    if (const auto text = node.value_exact<std::string>())
        return *text;
    if (const auto number = node.value_exact<std::int64_t>())
        return *number;
    if (const auto flag = node.value_exact<bool>())
        return *flag;
    if (const toml::array* list = node.as_array()) {
        Json array = Json::array();
        for (const toml::node& element : *list)
            array.push_back(from_toml(element));
        return array;
    }
    Json object = Json::object();
    if (const toml::table* table = node.as_table())
        for (auto&& [key, value] : *table)
            object[std::string(key.str())] = from_toml(value);
    return object;
}

struct ConfigOptions {
    std::string file;
    std::vector<std::string> interfaces, set;
    bool monitor_only = false;
    Format format = Format::human;
};

ConfigSources sources_of(const ConfigOptions& options) {
    ConfigSources sources;
    if (!options.file.empty())
        sources.file = options.file;
    sources.environment = predecessor_environment();
    sources.interfaces = options.interfaces;
    sources.set = options.set;
    sources.monitor_only = options.monitor_only;
    return sources;
}

// Lines that editors understand, so without the program's name in front.
int complain(const Error& failure, Io& io) {
    io.err << failure.message << "\n";
    return static_cast<int>(failure.exit_code);
}

int check_command(const ConfigOptions& options, Io& io) {
    const auto loaded = load_config(sources_of(options));
    if (!loaded)
        return complain(loaded.error(), io);
    if (loaded->files.empty())
        io.out << "ok: no configuration file, built-in values\n";
    for (const std::string& file : loaded->files)
        io.out << "ok: " << file << "\n";
    return 0;
}

int dump_command(const ConfigOptions& options, Io& io) {
    const auto loaded = load_config(sources_of(options));
    if (!loaded)
        return complain(loaded.error(), io);
    if (options.format == Format::json)
        io.out << config_json(*loaded).dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
    else
        io.out << config_as_toml(*loaded);
    return 0;
}

void add_sources(CLI::App* sub, ConfigOptions& options) {
    sub->add_option("-c,--config", options.file, std::string("Instead of ") + default_config_file)->type_name("FILE");
    sub->add_option("-i,--interface", options.interfaces, "As of `btblock run`")->type_name("IF,IF...")->delimiter(',');
    sub->add_option("--set", options.set, "As of `btblock run`")->type_name("KEY=VALUE")->expected(1)->take_all();
    sub->add_flag("--monitor-only", options.monitor_only, "As of `btblock run`");
}

} // namespace

Json config_json(const LoadedConfig& loaded) {
    Json config = Json::object(), origins = Json::object();
    for (const Setting& setting : effective_settings(loaded)) {
        const toml::table parsed = toml::parse("value = " + setting.value); // our own writing, so it parses
        Json* place = &config;
        std::string name = setting.key;
        if (const auto dot = name.find('.'); dot != std::string::npos) {
            place = &config[name.substr(0, dot)];
            name = name.substr(dot + 1);
        }
        (*place)[name] = from_toml(*parsed.get("value"));
        origins[setting.key] = setting.origin;
    }
    return {{"config", std::move(config)}, {"origins", std::move(origins)}, {"files", loaded.files}};
}

void add_config(CommandLine& line) {
    CLI::App* config = line.command("config", "Check and show the configuration");
    config->footer("Examples:\n  btblock config check\n  btblock config dump --set ban.duration=2h");
    auto options = std::make_shared<ConfigOptions>();
    CLI::App* check = line.command("check", "Read the configuration and tell everything that is wrong", config);
    add_sources(check, *options);
    check->footer("Prints FILE:LINE:COLUMN: MESSAGE for each problem; exit code 2 if there is any.\n\n"
                  "Example:\n  btblock config check -c new.toml");
    line.on(check, [options](Io& io) { return check_command(*options, io); });

    CLI::App* dump = line.command("dump", "Show every effective value and where it comes from", config);
    add_sources(dump, *options);
    add_format(dump, options->format, {Format::human, Format::json});
    dump->footer("The human form is a configuration file itself.\n\nExamples:\n"
                 "  btblock config dump\n"
                 "  btblock config dump --set ban.duration=2h -o json");
    line.on(dump, [options](Io& io) { return dump_command(*options, io); });
}

} // namespace btblock::app
