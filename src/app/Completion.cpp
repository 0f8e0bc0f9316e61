// SPDX-License-Identifier: MIT
#include "app/Completion.h"

#include "app/Command.h"
#include "app/Render.h"
#include "core/Config.h"
#include "core/Suggest.h"

namespace btblock::app {

namespace {

constexpr const char* bash_script = R"sh(# bash completion for btblock
_btblock() {
    local cur prev words cword i command='' sub=''
    cur=${COMP_WORDS[COMP_CWORD]}
    prev=${COMP_WORDS[COMP_CWORD-1]}
    local commands='run analyze status bans allow clients flows explain events doctor detach config version completion'
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --instance) ((i++)) ;;
        -*) ;;
        *)
            if [[ -z $command ]]; then command=${COMP_WORDS[i]}
            elif [[ -z $sub ]]; then sub=${COMP_WORDS[i]}; fi ;;
        esac
    done
    local interfaces=''
    [[ -d /sys/class/net ]] && interfaces=$(cd /sys/class/net && echo *)
    case $prev in
    -i | --interface) COMPREPLY=($(compgen -W "$interfaces" -- "$cur")); return ;;
    -o | --output) COMPREPLY=($(compgen -W 'human json csv' -- "$cur")); return ;;
    -c | --config) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    --set) compopt -o nospace 2>/dev/null
        COMPREPLY=($(compgen -S = -W '@KEYS@' -- "$cur")); return ;;
    --for) COMPREPLY=($(compgen -W '10m 1h 5h 1d 7d forever' -- "$cur")); return ;;
    --instance)
        COMPREPLY=($(compgen -W "$(ls /run/btblock 2>/dev/null)" -- "$cur")); return ;;
    esac
    case $command/$sub in
    /) COMPREPLY=($(compgen -W "$commands --instance --version --help" -- "$cur")) ;;
    run/*) COMPREPLY=($(compgen -W '--config --interface --monitor-only --set --help' -- "$cur")) ;;
    analyze/*)
        COMPREPLY=($(compgen -W '--all --output --help' -- "$cur") $(compgen -f -- "$cur")) ;;
    bans/) COMPREPLY=($(compgen -W 'list add del flush import export' -- "$cur")) ;;
    bans/add) COMPREPLY=($(compgen -W '--for --comment --force --help' -- "$cur")) ;;
    bans/import) COMPREPLY=($(compgen -W '--force --help' -- "$cur") $(compgen -f -- "$cur")) ;;
    bans/export) COMPREPLY=($(compgen -W '--output --help' -- "$cur") $(compgen -f -- "$cur")) ;;
    allow/) COMPREPLY=($(compgen -W 'list add del' -- "$cur")) ;;
    allow/add) COMPREPLY=($(compgen -W '--for --comment --help' -- "$cur")) ;;
    config/) COMPREPLY=($(compgen -W 'check dump' -- "$cur")) ;;
    config/*) COMPREPLY=($(compgen -W '--config --interface --set --monitor-only --output --help' -- "$cur")) ;;
    status/*) COMPREPLY=($(compgen -W '--watch --output --help' -- "$cur")) ;;
    flows/*) COMPREPLY=($(compgen -W '--all --limit --output --help' -- "$cur")) ;;
    events/*) COMPREPLY=($(compgen -W '--follow --last --output --help' -- "$cur")) ;;
    doctor/*) COMPREPLY=($(compgen -W '--config --interface --output --help' -- "$cur")) ;;
    detach/*) COMPREPLY=($(compgen -W '--all --help' -- "$cur")) ;;
    completion/) COMPREPLY=($(compgen -W 'bash zsh fish' -- "$cur")) ;;
    *) COMPREPLY=($(compgen -W '--output --help' -- "$cur")) ;;
    esac
}
complete -F _btblock btblock
)sh";

constexpr const char* zsh_script = R"sh(#compdef btblock
_btblock() {
    local context state line
    local -a commands formats
    commands=(
        'run:block BitTorrent, the daemon in the foreground'
        'analyze:judge the flows of capture files'
        'status:show maps, counters, attachments, mode and health'
        'bans:list and change banned addresses'
        'allow:list and change addresses that are never blocked'
        'clients:show inside hosts that use BitTorrent'
        'flows:show half-flows and their verdicts'
        'explain:tell what is known about an address'
        'events:show what happened and what happens'
        'doctor:tell what this machine can do'
        'detach:remove every program, rule and pin'
        'config:check and show the configuration'
        'version:print the version'
        'completion:print a completion script'
    )
    formats=(human json csv)
    _arguments -C '--instance[which of several side by side]:name:' '--version[print the version]' \
        '--help[print help]' '1: :->command' '*:: :->rest'
    case $state in
    command) _describe command commands ;;
    rest)
        case $words[1] in
        run) _arguments '(-c --config)'{-c,--config}'[configuration file]:file:_files' \
            '(-i --interface)'{-i,--interface}'[interfaces]:interface:_net_interfaces' \
            '--monitor-only[drop nothing]' '*--set[set a key]:key:(@EQUALS@)' ;;
        analyze) _arguments '--all[also other flows]' '(-o --output)'{-o,--output}'[format]:format:($formats)' '*:capture:_files' ;;
        bans) _arguments '1:action:(list add del flush import export)' '--for[duration]:duration:(10m 1h 5h 1d 7d forever)' \
            '--comment[text]:text:' '--force[also protected addresses]' \
            '(-o --output)'{-o,--output}'[format]:format:(human json csv plain)' '*:file:_files' ;;
        allow) _arguments '1:action:(list add del)' '--for[duration]:duration:(10m 1h 5h 1d 7d)' '--comment[text]:text:' \
            '(-o --output)'{-o,--output}'[format]:format:($formats)' ;;
        config) _arguments '1:action:(check dump)' '(-c --config)'{-c,--config}'[file]:file:_files' '*--set[set a key]:key:(@EQUALS@)' ;;
        status) _arguments '--watch=-[again and again]::seconds:(1 2 5 10)' \
            '(-o --output)'{-o,--output}'[format]:format:(human json)' ;;
        flows) _arguments '--all[also other flows]' '(-n --limit)'{-n,--limit}'[at most]:number:' \
            '(-o --output)'{-o,--output}'[format]:format:($formats)' ;;
        events) _arguments '(-f --follow)'{-f,--follow}'[go on]' '(-n --last)'{-n,--last}'[begin with]:number:' \
            '(-o --output)'{-o,--output}'[format]:format:(human json)' ;;
        doctor) _arguments '(-i --interface)'{-i,--interface}'[interfaces]:interface:_net_interfaces' \
            '(-o --output)'{-o,--output}'[format]:format:(human json)' ;;
        detach) _arguments '--all[every instance]' ;;
        completion) _arguments '1:shell:(bash zsh fish)' ;;
        *) _arguments '(-o --output)'{-o,--output}'[format]:format:($formats)' ;;
        esac ;;
    esac
}
_btblock "$@"
)sh";

constexpr const char* fish_script = R"sh(# fish completion for btblock
complete -c btblock -f
set -l commands run analyze status bans allow clients flows explain events doctor detach config version completion
complete -c btblock -n "not __fish_seen_subcommand_from $commands" -a run -d 'Block BitTorrent: the daemon'
complete -c btblock -n "not __fish_seen_subcommand_from $commands" -a analyze -d 'Judge the flows of capture files'
complete -c btblock -n "not __fish_seen_subcommand_from $commands" -a status -d 'Show state and health'
complete -c btblock -n "not __fish_seen_subcommand_from $commands" -a bans -d 'Banned addresses'
complete -c btblock -n "not __fish_seen_subcommand_from $commands" -a allow -d 'Addresses that are never blocked'
complete -c btblock -n "not __fish_seen_subcommand_from $commands" -a clients -d 'Inside hosts that use BitTorrent'
complete -c btblock -n "not __fish_seen_subcommand_from $commands" -a flows -d 'Half-flows and their verdicts'
complete -c btblock -n "not __fish_seen_subcommand_from $commands" -a explain -d 'What is known about an address'
complete -c btblock -n "not __fish_seen_subcommand_from $commands" -a events -d 'What happened and what happens'
complete -c btblock -n "not __fish_seen_subcommand_from $commands" -a doctor -d 'What this machine can do'
complete -c btblock -n "not __fish_seen_subcommand_from $commands" -a detach -d 'Remove everything'
complete -c btblock -n "not __fish_seen_subcommand_from $commands" -a config -d 'Check and show the configuration'
complete -c btblock -n "not __fish_seen_subcommand_from $commands" -a version -d 'Print the version'
complete -c btblock -n "not __fish_seen_subcommand_from $commands" -a completion -d 'Print a completion script'
complete -c btblock -l instance -x -d 'Which of several side by side'
complete -c btblock -n "__fish_seen_subcommand_from bans" -a 'list add del flush import export'
complete -c btblock -n "__fish_seen_subcommand_from allow" -a 'list add del'
complete -c btblock -n "__fish_seen_subcommand_from config" -a 'check dump'
complete -c btblock -n "__fish_seen_subcommand_from completion" -a 'bash zsh fish'
complete -c btblock -n "__fish_seen_subcommand_from analyze" -F
complete -c btblock -n "__fish_seen_subcommand_from bans; and __fish_seen_subcommand_from import export" -F
complete -c btblock -n "__fish_seen_subcommand_from run config doctor" -s c -l config -r -F -d 'Configuration file'
complete -c btblock -n "__fish_seen_subcommand_from run config doctor" -s i -l interface -x -a '(__fish_print_interfaces)'
complete -c btblock -n "__fish_seen_subcommand_from run config" -l set -x -a '@EQUALS@'
complete -c btblock -n "__fish_seen_subcommand_from run config" -l monitor-only -d 'Drop nothing'
complete -c btblock -n "__fish_seen_subcommand_from bans allow" -l for -x -a '10m 1h 5h 1d 7d'
complete -c btblock -n "__fish_seen_subcommand_from bans allow" -l comment -x
complete -c btblock -n "__fish_seen_subcommand_from bans" -l force -d 'Also protected addresses'
complete -c btblock -n "__fish_seen_subcommand_from analyze flows detach" -l all
complete -c btblock -n "__fish_seen_subcommand_from status" -l watch -d 'Again and again'
complete -c btblock -n "__fish_seen_subcommand_from events" -s f -l follow -d 'Go on with new events'
complete -c btblock -n "__fish_seen_subcommand_from $commands" -s o -l output -x -a 'human json csv'
)sh";

void replace_all(std::string& text, const std::string& what, const std::string& by) {
    for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size()))
        text.replace(at, what.size(), by);
}

} // namespace

std::optional<std::string> completion_script(std::string_view shell) {
    std::string script = shell == "bash"   ? bash_script
                         : shell == "zsh"  ? zsh_script
                         : shell == "fish" ? fish_script
                                           : "";
    if (script.empty())
        return std::nullopt;
    std::string keys, equals;
    for (const std::string& key : config_keys()) {
        keys += (keys.empty() ? "" : " ") + key;
        equals += (equals.empty() ? "" : " ") + key + "=";
    }
    replace_all(script, "@KEYS@", keys);
    replace_all(script, "@EQUALS@", equals);
    return script;
}

void add_completion(CommandLine& line) {
    auto shell = std::make_shared<std::string>();
    CLI::App* sub = line.command("completion", "Print a completion script for a shell");
    sub->add_option("SHELL", *shell, "bash, zsh or fish")->required();
    sub->footer("Examples:\n"
                "  btblock completion bash > /usr/share/bash-completion/completions/btblock\n"
                "  btblock completion zsh > /usr/share/zsh/site-functions/_btblock\n"
                "  btblock completion fish > /usr/share/fish/vendor_completions.d/btblock.fish");
    line.on(sub, [shell](Io& io) {
        const auto script = completion_script(*shell);
        if (!script)
            return fail(io, error("no completion for '" + printable(*shell) + "'" +
                                      did_you_mean(*shell, {"bash", "zsh", "fish"}) + "; there is bash, zsh, fish",
                                  ExitCode::usage));
        io.out << *script;
        return 0;
    });
}

} // namespace btblock::app
