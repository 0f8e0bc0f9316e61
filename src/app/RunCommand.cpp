// SPDX-License-Identifier: MIT
#include "app/RunCommand.h"

#include "app/Command.h"
#include "core/Config.h"

namespace btblock::app {

void add_run(CommandLine& line, const Actions& actions) {
    auto options = std::make_shared<RunOptions>();
    CLI::App* sub = line.command("run", "Block BitTorrent: the daemon, in the foreground");
    sub->add_option("-c,--config", options->config_file, std::string("Instead of ") + default_config_file)
        ->type_name("FILE");
    sub->add_option("-i,--interface", options->interfaces, "Interfaces to guard")
        ->type_name("IF,IF...")
        ->delimiter(',');
    sub->add_flag("--monitor-only", options->monitor_only, "Detect and report, drop nothing");
    sub->add_option("--set", options->set, "Set a key of the configuration, may be repeated")
        ->type_name("KEY=VALUE")
        ->expected(1)
        ->take_all();
    sub->footer("Needs root, or CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON. Prints a line with `ready` once\n"
                "it is enforcing. SIGTERM removes everything again unless `persist = true`; SIGHUP reads\n"
                "the configuration again.\n\n"
                "Examples:\n"
                "  btblock run -i eth0,wg0 --monitor-only\n"
                "  btblock run --set ban.duration=2h --set 'whitelist_ports=22,443'");
    line.on(sub, [&line, options, run = actions.run](Io&) {
        options->instance = line.instance();
        return run(*options);
    });
}

void add_analyze(CommandLine& line, const Actions& actions) {
    struct Parsed {
        AnalyzeOptions options;
        Format format = Format::human;
    };
    auto parsed = std::make_shared<Parsed>();
    CLI::App* sub = line.command("analyze", "Judge the flows of capture files, without privileges");
    sub->add_option("FILE", parsed->options.files, "pcap or pcapng files; - is standard input")->required();
    sub->add_flag("--all", parsed->options.all, "Also the flows that are not BitTorrent");
    add_format(sub, parsed->format, {Format::human, Format::json, Format::csv});
    sub->footer("Examples:\n  btblock analyze trace.pcapng\n  tcpdump -w - | btblock analyze -o csv --all -");
    line.on(sub, [parsed, analyze = actions.analyze](Io& io) {
        switch (parsed->format) {
        case Format::json: parsed->options.format = AnalyzeFormat::json; break;
        case Format::csv: parsed->options.format = AnalyzeFormat::csv; break;
        default: parsed->options.format = AnalyzeFormat::human; break;
        }
        parsed->options.progress = io.err_is_terminal;
        parsed->options.width = io.screen.width;
        return analyze(parsed->options, io.out, io.err);
    });
}

void add_detach(CommandLine& line, const Actions& actions) {
    auto all = std::make_shared<bool>(false);
    CLI::App* sub = line.command("detach", "Remove every program, rule and pin of btblock");
    sub->add_flag("--all", *all, "Of every instance on this machine");
    sub->footer("Works whatever version left them. A running daemon of the instance is stopped first.\n\n"
                "Examples:\n  btblock detach\n  btblock --instance lab detach");
    line.on(sub, [&line, all, detach = actions.detach](Io&) { return detach(line.instance(), *all); });
}

} // namespace btblock::app
