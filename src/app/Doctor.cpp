// SPDX-License-Identifier: MIT
#include "app/Doctor.h"

#include "app/Command.h"
#include "app/InstanceLock.h"
#include "app/Render.h"
#include "bpf/Features.h"
#include "bpf/Pins.h"
#include "core/Config.h"
#include "core/Fd.h"
#include "firewall/MarkCheck.h"
#include "firewall/RuleSet.h"
#include "net/Interface.h"
#include "queue/NfQueue.h"

#include <algorithm>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <charconv>
#include <fstream>
#include <iterator>
#include <linux/capability.h>
#include <linux/if_link.h>
#include <linux/magic.h>
#include <spdlog/fmt/fmt.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace btblock::app {

namespace {

using Level = Check::Level;

// Not in the headers of older distributions.
constexpr unsigned cap_perfmon = 38;
constexpr unsigned cap_bpf = 39;
constexpr unsigned tcx_ingress = 46, tcx_egress = 47;

bool has(std::uint64_t mask, unsigned capability) {
    return mask & (std::uint64_t{1} << capability);
}

std::string read_text(const char* path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
}

Check check_bpffs() {
    struct statfs info {};
    if (statfs(bpf::bpffs_root, &info) == 0 && static_cast<unsigned long>(info.f_type) == BPF_FS_MAGIC)
        return {"bpffs", Level::ok, std::string("mounted at ") + bpf::bpffs_root, ""};
    return {"bpffs", Level::warn, std::string("no BPF file system at ") + bpf::bpffs_root,
            "`btblock run` mounts it; in a container mount the host's there"};
}

void check_bpf(std::vector<Check>& checks, std::string_view release) {
    const auto features = bpf::probe_features();
    if (!features) {
        checks.push_back({"bpf", Level::fail, features.error().message, "grant what is missing"});
        return;
    }
    checks.push_back({"bpf", Level::ok, "programs can be loaded", ""});
    checks.push_back({"tc hooks", Level::ok,
                      features->tcx ? "tcx links: updated in place, without a gap"
                                    : "no tcx links (Linux 6.6); clsact filters do the same work",
                      ""});
    checks.push_back(
        {"btf", Level::ok, features->kernel_btf ? "the kernel has type information" : "none; it is not needed", ""});
    const auto version = kernel_version(release);
    if (version && *version >= std::pair(5u, 11u)) {
        checks.push_back({"memlock", Level::ok, "maps count against the memory of the cgroup, not RLIMIT_MEMLOCK", ""});
        return;
    }
    rlimit limit{};
    getrlimit(RLIMIT_MEMLOCK, &limit);
    constexpr rlim_t enough = 128 << 20;
    if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= enough)
        checks.push_back({"memlock", Level::ok, "enough memory may be locked for the maps", ""});
    else
        checks.push_back({"memlock", Level::warn,
                          fmt::format("only {} KiB of memory may be locked", limit.rlim_cur >> 10),
                          "set LimitMEMLOCK=infinity in the unit"});
}

Check check_firewall(const Config& config, const std::string& instance) {
    if (config.firewall == FirewallChoice::none)
        return {"firewall", Level::warn, "firewall = \"none\": nothing reaches the deep detectors by itself",
                "only right when your own rules queue packets with the mark"};
    firewall::RuleOptions options;
    options.instance = instance;
    options.mark = config.mark();
    options.queue_first = config.queue.first;
    options.queue_count = config.queue.count;
    const auto nft = firewall::probe(firewall::Backend::nftables, options);
    const auto iptables = firewall::probe(firewall::Backend::iptables, options);
    const auto why = [](const Result<void>& result) { return result ? std::string() : result.error().message; };
    const bool nft_wanted = config.firewall != FirewallChoice::iptables;
    const bool iptables_wanted = config.firewall != FirewallChoice::nftables;
    if (nft && nft_wanted)
        return {"firewall", Level::ok, "nftables with the queue expression", ""};
    if (iptables && iptables_wanted)
        return {"firewall", Level::ok,
                "iptables with NFQUEUE" + (nft_wanted ? " (nftables: " + why(nft) + ")" : std::string()), ""};
    std::string text;
    if (nft_wanted)
        text += "nftables: " + why(nft);
    if (iptables_wanted)
        text += (text.empty() ? "" : "; ") + ("iptables: " + why(iptables));
    return {"firewall", Level::fail, text,
            "install nftables (kernel: CONFIG_NFT_QUEUE) or iptables (CONFIG_NETFILTER_XT_TARGET_NFQUEUE)"};
}

Check check_queues(const Config& config, int daemon) {
    if (access("/proc/net/netfilter/nfnetlink_queue", F_OK) < 0)
        return {"nfqueue", Level::warn, "the kernel's NFQUEUE is not loaded or not visible",
                "`modprobe nfnetlink_queue`; without it only the kernel's own detectors work"};
    const unsigned last = config.queue.first + config.queue.count - 1u;
    for (unsigned number = config.queue.first; number <= last; ++number) {
        const auto stats = queue::read_queue_stats(static_cast<std::uint16_t>(number));
        if (!stats)
            continue;
        // Only the first netlink socket of a process has its pid as port id, so a running daemon's are not told apart.
        if (daemon > 0)
            return {"nfqueue", Level::ok,
                    fmt::format("queues {} to {} in use, the daemon runs", config.queue.first, last), ""};
        return {"nfqueue", Level::fail,
                fmt::format("queue {} is taken by another program (port id {})", number, stats->port_id),
                "set queue.first to a free range"};
    }
    return {"nfqueue", Level::ok, fmt::format("queues {} to {} are free", config.queue.first, last), ""};
}

Check check_mark(const Config& config) {
    if (auto free = firewall::check_mark_free(config.mark()); !free)
        return {"mark", Level::fail, free.error().message, "set mark_bit to another bit"};
    return {"mark", Level::ok, fmt::format("no routing rule uses bit {} ({:#x})", config.mark_bit, config.mark()), ""};
}

Check check_conntrack() {
    const std::string count = read_text("/proc/sys/net/netfilter/nf_conntrack_count");
    if (count.empty())
        return {"conntrack", Level::ok, "not in use; it is not needed", ""};
    const std::string limit = read_text("/proc/sys/net/netfilter/nf_conntrack_max");
    std::uint64_t used = 0, most = 0;
    std::from_chars(count.data(), count.data() + count.size(), used);
    std::from_chars(limit.data(), limit.data() + limit.size(), most);
    Check check{"conntrack", Level::ok, fmt::format("{} of {} entries", grouped(used), grouped(most)), ""};
    if (most && used > most / 10 * 9) {
        check.level = Level::warn;
        check.advice = "the table is nearly full, new connections will fail: raise net.netfilter.nf_conntrack_max";
    }
    return check;
}

// Names of programs on a hook that are not ours; ids when the names are not to be had.
std::vector<std::string> foreign_programs(const std::vector<__u32>& ids) {
    std::vector<std::string> names;
    for (const __u32 id : ids) {
        const Fd fd(bpf_prog_get_fd_by_id(id));
        bpf_prog_info info{};
        __u32 length = sizeof info;
        if (!fd || bpf_obj_get_info_by_fd(fd.get(), &info, &length) < 0)
            continue; // needs CAP_SYS_ADMIN; ours cannot be told from others then
        const std::string name(info.name, strnlen(info.name, sizeof info.name));
        if (!name.starts_with("bt_"))
            names.push_back((name.empty() ? "program" : name) + fmt::format(" (id {})", id));
    }
    return names;
}

std::vector<__u32> tcx_programs(unsigned ifindex, unsigned hook) {
    std::vector<__u32> ids(64);
    __u32 count = static_cast<__u32>(ids.size()), flags = 0;
    // The descriptor and the ifindex are one member of the kernel's structure.
    if (bpf_prog_query(static_cast<int>(ifindex), static_cast<bpf_attach_type>(hook), 0, &flags, ids.data(), &count) <
        0)
        count = 0; // older than 6.6, or not permitted
    ids.resize(count);
    return ids;
}

std::string xdp_text(const net::Interface& interface, const Config& config) {
    LIBBPF_OPTS(bpf_xdp_query_opts, opts);
    if (config.xdp == XdpMode::off)
        return "XDP off";
    if (interface.kind != net::LinkKind::ethernet)
        return "no XDP on such links, TC does the work";
    if (bpf_xdp_query(static_cast<int>(interface.ifindex), 0, &opts) < 0)
        return "XDP cannot be queried";
    const __u32 id = opts.prog_id ? opts.prog_id : opts.drv_prog_id ? opts.drv_prog_id : opts.skb_prog_id;
    if (id == 0)
        return "XDP slot free";
    const auto foreign = foreign_programs({id});
    return foreign.empty() ? "XDP in use by btblock" : "XDP slot taken by " + foreign.front() + ", TC does the work";
}

Check check_interface(const std::string& name, const Config& config) {
    const auto found = net::find_interface(name);
    if (!found)
        return {"interface " + name, Level::fail, found.error().message, "name existing ones in `interfaces`"};
    std::string text =
        fmt::format("{}, {}", found->kind == net::LinkKind::ethernet ? "ethernet" : "ip", xdp_text(*found, config));
    std::vector<std::string> others;
    for (const unsigned hook : {tcx_ingress, tcx_egress})
        for (const std::string& program : foreign_programs(tcx_programs(found->ifindex, hook)))
            others.push_back(program);
    if (!others.empty()) {
        text += "; also on its TC hooks:";
        for (const std::string& other : others)
            text += " " + other;
    }
    if (!found->up)
        return {"interface " + name, Level::warn, text + "; it is down", "`ip link set " + name + " up`"};
    return {"interface " + name, Level::ok, text, ""};
}

int doctor_command(const std::string& instance, const ConfigSources& sources, Format format, Io& io) {
    const auto loaded = load_config(sources);
    if (!loaded)
        return fail(io, loaded.error());
    const Config& config = loaded->config;
    utsname system{};
    uname(&system);
    std::vector<Check> checks;
    checks.push_back(check_kernel(system.release));
    checks.push_back(check_capabilities(effective_capabilities(read_text("/proc/self/status")).value_or(0)));
    checks.push_back(check_bpffs());
    check_bpf(checks, system.release);
    checks.push_back(check_firewall(config, instance));
    checks.push_back(check_queues(config, lock_holder(bpf::Pins{instance}.run_dir())));
    checks.push_back(check_mark(config));
    checks.push_back(check_conntrack());
    for (const std::string& interface : config.interfaces)
        checks.push_back(check_interface(interface, config));
    if (format == Format::json)
        io.out << checks_json(checks).dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n";
    else
        io.out << checks_text(checks, io.screen);
    return checks_exit_code(checks);
}

const char* level_name(Level level) {
    switch (level) {
    case Level::ok: return "ok";
    case Level::warn: return "warn";
    case Level::fail: break;
    }
    return "fail";
}

} // namespace

std::optional<std::pair<unsigned, unsigned>> kernel_version(std::string_view release) {
    unsigned major = 0, minor = 0;
    const char* const end = release.data() + release.size();
    const auto first = std::from_chars(release.data(), end, major);
    if (first.ec != std::errc{} || first.ptr == end || *first.ptr != '.')
        return std::nullopt;
    const auto second = std::from_chars(first.ptr + 1, end, minor);
    if (second.ec != std::errc{})
        return std::nullopt;
    return std::pair(major, minor);
}

Check check_kernel(std::string_view release) {
    const auto version = kernel_version(release);
    const std::string text = "Linux " + printable(release);
    if (!version)
        return {"kernel", Level::warn, text + ": version not understood", "at least 5.10 is needed"};
    if (*version < std::pair(5u, 10u))
        return {"kernel", Level::fail, text, "at least 5.10 is needed"};
    return {"kernel", Level::ok, text, ""};
}

Check check_capabilities(std::uint64_t effective) {
    const bool admin = has(effective, CAP_SYS_ADMIN); // includes the two younger ones
    std::string missing;
    const auto need = [&](bool there, const char* name) {
        if (!there)
            missing += (missing.empty() ? "" : ", ") + std::string(name);
    };
    need(has(effective, CAP_NET_ADMIN), "CAP_NET_ADMIN");
    need(admin || has(effective, cap_bpf), "CAP_BPF");
    need(admin || has(effective, cap_perfmon), "CAP_PERFMON");
    if (missing.empty())
        return {"capabilities", Level::ok, "CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON", ""};
    return {"capabilities", Level::fail, "missing: " + missing, "run as root, or grant them"};
}

std::optional<std::uint64_t> effective_capabilities(std::string_view status) {
    constexpr std::string_view label = "\nCapEff:\t";
    const auto at = status.find(label);
    if (at == std::string_view::npos)
        return std::nullopt;
    std::uint64_t mask = 0;
    const char* const start = status.data() + at + label.size();
    const auto [end, failed] = std::from_chars(start, status.data() + status.size(), mask, 16);
    if (failed != std::errc{} || end == start)
        return std::nullopt;
    return mask;
}

std::string checks_text(const std::vector<Check>& checks, const Screen& screen) {
    constexpr std::size_t indent = 24;
    std::string out;
    for (const Check& check : checks) {
        const std::string level = fmt::format("{:<5}", level_name(check.level));
        switch (check.level) {
        case Level::ok: out += screen.green(level); break;
        case Level::warn: out += screen.yellow(level); break;
        case Level::fail: out += screen.red(level); break;
        }
        out += fmt::format(" {:<17} ", printable(check.name));
        if (check.name.size() > 17)
            out += "\n" + std::string(indent, ' ');
        out += wrapped(printable(check.text), 79, indent) + "\n";
        if (!check.advice.empty())
            out += std::string(indent, ' ') + "-> " + wrapped(check.advice, 79, indent + 3) + "\n";
    }
    return out;
}

nlohmann::ordered_json checks_json(const std::vector<Check>& checks) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const Check& check : checks)
        list.push_back(
            {{"name", check.name}, {"level", level_name(check.level)}, {"text", check.text}, {"advice", check.advice}});
    return {{"degraded", checks_exit_code(checks) != 0}, {"checks", std::move(list)}};
}

int checks_exit_code(const std::vector<Check>& checks) {
    const bool good =
        std::all_of(checks.begin(), checks.end(), [](const Check& check) { return check.level == Level::ok; });
    return static_cast<int>(good ? ExitCode::ok : ExitCode::degraded);
}

void add_doctor(CommandLine& line) {
    struct Options {
        std::string file;
        std::vector<std::string> interfaces;
        Format format = Format::human;
    };
    auto options = std::make_shared<Options>();
    CLI::App* sub = line.command("doctor", "Tell what this machine can do, and what to change");
    sub->add_option("-c,--config", options->file, "Configuration file to check for")->type_name("FILE");
    sub->add_option("-i,--interface", options->interfaces, "Interfaces to look at instead")
        ->type_name("IF,IF...")
        ->delimiter(',');
    add_format(sub, options->format, {Format::human, Format::json});
    sub->footer("Nothing is changed: what is tried is undone at once. Exit code 4 when anything is\nnot ok.\n\n"
                "Examples:\n  btblock doctor\n  btblock doctor -i eth0,wg0 -o json");
    line.on(sub, [&line, options](Io& io) {
        ConfigSources sources;
        if (!options->file.empty())
            sources.file = options->file;
        sources.environment = predecessor_environment();
        sources.interfaces = options->interfaces;
        return doctor_command(line.instance(), sources, options->format, io);
    });
}

} // namespace btblock::app
