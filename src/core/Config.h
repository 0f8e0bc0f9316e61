// SPDX-License-Identifier: MIT
// The configuration: every key with its default, and where it may come from.
#pragma once

#include "core/Defaults.h"
#include "core/Log.h"
#include "core/Result.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace btblock {

enum class Scope { forward, input, output };
enum class XdpMode { automatic, native, generic, offload, off };
enum class FirewallChoice { automatic, nftables, iptables, none };
enum class DropAction { drop, reject };
enum class BanTarget { peer, client, source, none };
enum class BanScope { address, endpoint };
enum class EventFormat { eve, ecs };

unsigned default_queue_count(); // usable CPUs, at most 4

// Times are seconds, ports in host byte order. Addresses and prefixes are checked, but kept as text.
struct Config {
    struct Queue {
        std::uint16_t first = 0;
        std::uint16_t count = static_cast<std::uint16_t>(default_queue_count());
        bool fail_open = true;
    };
    struct Ban {
        BanTarget target = BanTarget::peer;
        BanScope scope = BanScope::address;
        std::uint64_t duration = 18000;
        std::uint32_t after = 1;                // findings about the same target before it is banned
        std::uint32_t growth = 1;               // each further ban of a target lasts so many times as long,
        std::uint64_t max_duration = 7 * 86400; // up to this
    };
    // Many unrecognised flows of one client to distinct hosts and ports in a minute: such a client counts as active.
    struct Fanout {
        std::uint16_t hosts = default_fanout_hosts; // 0: do not look
        std::uint16_t ports = default_fanout_ports;
        std::vector<std::string> exclude; // prefixes of relay networks (games, calls)
    };
    // Host names in TLS hellos and DNS queries.
    struct Names {
        bool watch = false; // user space is given them; known trackers weigh
        std::vector<std::string>
            block; // hosts, and what is below them; in lower case. Not empty: they are watched, too
    };
    struct Allow {
        std::string prefix;
        std::string comment;

        friend bool operator==(const Allow&, const Allow&) = default;
    };
    struct Capacity {
        std::uint32_t bans = 65536;
        std::uint32_t flows = 262144;
        std::uint32_t sockets = 65536;
    };
    struct Events {
        std::string file; // empty: none
        EventFormat format = EventFormat::eve;
        bool journal = false;
    };
    struct Metrics {
        std::string listen; // "ADDRESS:PORT" of this host; empty: none
        std::string file;   // path; empty: none
    };

    std::vector<std::string> interfaces{"eth0"};
    std::vector<std::string> inside; // prefixes; empty: found out from the network set-up
    Scope scope = Scope::forward;
    XdpMode xdp = XdpMode::automatic;
    Queue queue;
    unsigned mark_bit = 29;
    FirewallChoice firewall = FirewallChoice::automatic;
    bool monitor_only = false;
    DropAction action = DropAction::drop;
    Ban ban;
    Fanout fanout;
    Names names;
    std::vector<std::uint16_t> whitelist_ports{default_whitelist_ports.begin(), default_whitelist_ports.end()};
    bool strict_whitelist = false;
    std::vector<Allow> allow;
    bool block_socks = false;
    std::string detection_log; // path; empty: none
    LogLevel log_level = LogLevel::info;
    std::uint64_t cleanup_interval = 300;
    bool persist = false;
    Capacity capacity;
    Events events;
    Metrics metrics;

    [[nodiscard]] std::uint32_t mark() const noexcept { return std::uint32_t{1} << mark_bit; }
};

inline constexpr const char* default_config_file = "/etc/btblock/btblock.toml";

// In the order of precedence, the last wins: built-in values, the file, the *.toml in the directory FILE.d by name,
// `environment`, `set`, the flags. A key replaces the whole value that it had before, lists too.
struct ConfigSources {
    std::optional<std::string> file; // must exist; none: default_file, if that exists
    std::string default_file = default_config_file;
    std::map<std::string, std::string> environment; // the predecessor's names; empty values count as absent
    std::vector<std::string> set;                   // "KEY=VALUE"
    std::vector<std::string> interfaces;            // flag -i
    bool monitor_only = false;                      // flag --monitor-only
};

// What the environment of this process says under the predecessor's names.
std::map<std::string, std::string> predecessor_environment();

struct LoadedConfig {
    Config config;
    std::map<std::string, std::string> origins; // key -> "FILE:LINE", "environment variable X", ...; absent: built in
    std::vector<std::string> files;             // those that were read
};

// All problems together, one a line: "FILE:LINE:COLUMN: what is wrong", ExitCode::usage.
Result<LoadedConfig> load_config(const ConfigSources& sources);

// Names of every key, in the order of the documentation.
std::vector<std::string> config_keys();

struct Setting {
    std::string key;
    std::string value;  // as a TOML value
    std::string origin; // "built in" where nothing set it
};
std::vector<Setting> effective_settings(const LoadedConfig& loaded);

// A file that gives the same configuration; comments name the origins.
std::string config_as_toml(const LoadedConfig& loaded);

} // namespace btblock
