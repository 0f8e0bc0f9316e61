// SPDX-License-Identifier: MIT
#include "app/Daemon.h"

#include "app/InstanceLock.h"
#include "app/Operations.h"
#include "app/StateFile.h"
#include "core/Clock.h"
#include "core/Evidence.h"
#include "event/DetectionLog.h"
#include "event/FileSink.h"
#include "event/JournalSink.h"
#include "event/LogSink.h"
#include "firewall/MarkCheck.h"
#include "firewall/PuntFilter.h"
#include "net/Inside.h"
#include "net/Packet.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <net/if.h>
#include <net/if_arp.h>
#include <set>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <systemd/sd-daemon.h>

namespace btblock::app {

namespace {

constexpr std::size_t max_waiting_findings = 65536;
constexpr bt_u32 event_rate = 1000; // of the kernel, a second and CPU

firewall::Backend backend_of(FirewallChoice choice) {
    switch (choice) {
    case FirewallChoice::nftables: return firewall::Backend::nftables;
    case FirewallChoice::iptables: return firewall::Backend::iptables;
    case FirewallChoice::none: return firewall::Backend::none;
    default: return firewall::Backend::automatic;
    }
}

std::string interface_name(unsigned ifindex) {
    char name[IF_NAMESIZE] = "";
    return if_indextoname(ifindex, name) ? name : "";
}

// The entries of a longest-prefix map are made equal to `wanted`: nothing is missing meanwhile.
template <class V, class Map>
Result<void> replace_prefixes(const Map& map, const std::vector<std::pair<net::Prefix, V>>& wanted,
                              const std::function<bool(const V&)>& is_ours) {
    for (const auto& [prefix, value] : wanted)
        if (auto done = map.update(prefix.lpm(), value); !done)
            return done;
    std::vector<bt_lpm_key> stale;
    auto walked = map.for_each([&](const bt_lpm_key& key, const V& value) {
        const net::Prefix prefix = net::Prefix::from_lpm(key);
        const auto same = [&](const auto& w) { return w.first == prefix; };
        if (is_ours(value) && std::none_of(wanted.begin(), wanted.end(), same))
            stale.push_back(key);
    });
    if (!walked)
        return walked.error();
    for (const bt_lpm_key& key : stale)
        if (auto gone = map.erase(key); !gone)
            return gone.error();
    return {};
}

bt_allow allow_entry(std::uint64_t expires_ns, const std::string& comment) {
    bt_allow entry{};
    entry.expires_ns = expires_ns;
    comment.copy(entry.comment, sizeof entry.comment - 1);
    return entry;
}

} // namespace

Daemon::Daemon(const Config& config, const ConfigSources& sources, const std::string& instance)
    : config_(config), sources_(sources), pins_{instance} {}

Result<std::unique_ptr<Daemon>> Daemon::start(const Config& config, const ConfigSources& sources,
                                              const std::string& instance) {
    std::unique_ptr<Daemon> daemon(new Daemon(config, sources, instance));
    if (auto done = daemon->set_up(); !done) {
        // The destructor undoes what was done; what a stopped or killed daemon left in force stays in force.
        daemon->keep_on_exit_ = daemon->pins_were_there_;
        return done.error();
    }
    return daemon;
}

Daemon::~Daemon() {
    tear_down();
}

// ---------------------------------------------------------------- start

Result<void> Daemon::set_up() {
    std::signal(SIGPIPE, SIG_IGN);
    if (auto valid = firewall::check_instance(pins_.instance); !valid)
        return valid;
    auto features = bpf::probe_features();
    if (!features)
        return features.error();
    features_ = *features;
    if (auto found = find_interfaces(); !found)
        return found;
    auto lock = lock_instance(pins_.instance, pins_.run_dir());
    if (!lock)
        return lock.error();
    lock_ = std::move(*lock);
    // Before anything can fail: what an earlier run left in force must outlive a start that does not succeed.
    pins_were_there_ = bpf::maps_pinned(pins_) || !bpf::other_abi_dirs(pins_).empty();
    if (auto free = firewall::check_mark_free(config_.mark()); !free)
        return free;

    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP})
        sigaddset(&set, signal);
    sigprocmask(SIG_BLOCK, &set, nullptr); // before any thread is started
    signals_ = Fd(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    timer_ = Fd(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    wake_ = Fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    epoll_ = Fd(epoll_create1(EPOLL_CLOEXEC));
    const itimerspec every_second{{1, 0}, {1, 0}};
    timerfd_settime(timer_.get(), 0, &every_second, nullptr);

    std::vector<std::unique_ptr<event::Sink>> sinks;
    sinks.push_back(std::make_unique<event::LogSink>());
    if (!config_.events.file.empty()) {
        auto sink = event::FileSink::open(config_.events.file, config_.events.format == EventFormat::ecs
                                                                   ? event::FileFormat::ecs
                                                                   : event::FileFormat::json);
        if (!sink)
            return sink.error();
        sinks.push_back(std::move(*sink));
    }
    if (config_.events.journal) {
        auto sink = event::JournalSink::open();
        if (!sink)
            return sink.error();
        sinks.push_back(std::move(*sink));
    }
    bus_ = std::make_unique<event::EventBus>(std::move(sinks));
    if (!config_.detection_log.empty()) {
        auto sink = event::DetectionLog::open(config_.detection_log);
        if (!sink)
            return sink.error();
        sinks.clear();
        sinks.push_back(std::move(*sink));
        packet_bus_ = std::make_unique<event::EventBus>(std::move(sinks));
    }

    started_wall_ns_ = wall_ns();
    if (!config_.metrics.listen.empty()) {
        auto listener = metrics::Listener::open(config_.metrics.listen, [this] { return exposition(); });
        if (!listener)
            return listener.error();
        metrics_ = std::move(*listener);
    }

    auto links = net::LinkWatcher::open();
    if (!links)
        return links.error();
    links_.emplace(std::move(*links));
    if (auto done = load_programs(); !done)
        return done;
    if (config_.action == DropAction::reject) {
        auto rejecter = queue::Rejecter::open(config_.mark());
        if (!rejecter)
            return rejecter.error();
        rejecter_ = std::move(*rejecter);
    }
    if (auto done = fill_maps(); !done)
        return done;
    if (auto done = open_queues(); !done)
        return done;
    auto server =
        control::Server::open(pins_.run_dir() + "/control.sock", [this](const nlohmann::json& r) { return answer(r); });
    if (!server)
        return server.error();
    server_.emplace(std::move(*server));
    auto ring = bpf::EventStream::open(maps_.events_fd.get(), [this](const bt_event& e) {
        handle_finding(e, true, {.size = e.payload_len, .bytes = {}}); // the record has no payload
    });
    if (!ring)
        return ring.error();
    ring_ = std::move(*ring);
    if (rejecter_)
        if (auto done = ring_->add_rejects(maps_.rejects_fd.get(),
                                           [this](const bt_reject& r) { rejected_ += rejecter_->answer(r) ? 1 : 0; });
            !done)
            return done;
    lease_ = std::make_unique<Lease>(maps_, config_.queue.fail_open || workers_.empty(), [this] {
        const auto alive = [now = monotonic_ns()](const auto& worker) { return worker->healthy(now); };
        return !workers_.empty() && std::all_of(workers_.begin(), workers_.end(), alive);
    });
    for (const std::string& name : config_.interfaces)
        if (if_nametoindex(name.c_str()))
            if (auto done = attach_interface(name); !done)
                return done;
    if (auto done = remove_stale_pins(); !done)
        return done;
    for (const int fd : {signals_.get(), timer_.get(), wake_.get(), links_->fd(), server_->fd(), ring_->fd()})
        if (!watch(fd))
            return errno_error("epoll");
    if (metrics_ && !watch(metrics_->fd()))
        return errno_error("epoll");
    if (auto written = write_metrics_file(); !written)
        return written;
    keeper_ = std::make_unique<StateKeeper>(maps_, pins_.state_dir());
    keeper_->changed(); // what came from other pins, or a file that is to go
    return {};
}

// Of interfaces that are not to be guarded any more, and of other versions.
Result<void> Daemon::remove_stale_pins() {
    std::set<std::string> stale;
    for (const bpf::PinnedLink& link : bpf::pinned_links(pins_))
        if (!is_guarded(link.interface))
            stale.insert(link.interface);
    for (const std::string& name : stale)
        if (auto detached = bpf::detach(name, pins_); !detached)
            return detached;
    return bpf::remove_other_abis(pins_);
}

bool Daemon::is_guarded(const std::string& name) const {
    return std::find(config_.interfaces.begin(), config_.interfaces.end(), name) != config_.interfaces.end();
}

Result<void> Daemon::find_interfaces() {
    std::optional<Error> unknown;
    std::size_t present = 0;
    for (const std::string& name : config_.interfaces) {
        auto found = net::find_interface(name);
        if (found)
            ++present;
        else if (!unknown)
            unknown = found.error();
    }
    if (config_.interfaces.empty())
        return error("no interface to guard: give one with -i, or set interfaces in the configuration",
                     ExitCode::usage);
    if (present == 0)
        return *unknown;
    if (unknown)
        spdlog::warn("{}; it will be guarded when it appears", unknown->message);
    return {};
}

Result<void> Daemon::load_programs() {
    if (auto mounted = bpf::ensure_bpffs(); !mounted)
        return mounted;
    if (auto made = bpf::make_pin_dirs(pins_); !made)
        return made;
    const bpf::Capacity capacity{config_.capacity.bans, config_.capacity.flows, config_.capacity.sockets};
    auto object = bpf::Object::load_pinned(features_, capacity, pins_);
    if (!object)
        return object.error();
    object_.emplace(std::move(*object));
    auto maps = object_->maps();
    if (!maps)
        return maps.error();
    maps_ = std::move(*maps);
    if (auto counters = maps_.stats()) {
        punted_before_ = (*counters)[BT_S_PUNTED];
        lost_told_ = (*counters)[BT_S_EVENTS_LIMITED] + (*counters)[BT_S_EVENTS_LOST];
    }
    tables_.emplace(maps_);
    bans_.emplace(maps_.bans);
    if (auto done = restore_state(); !done)
        return done;
    if (auto pinned = object_->pin_maps(pins_); !pinned)
        return pinned;
    return bpf::adopt_links(pins_);
}

// What pins hold is newer than the file: the file matters after a reboot, and after a stop that left no pins.
Result<void> Daemon::restore_state() {
    if (object_->inherited_bans() && object_->inherited_allow())
        return {};
    auto state = load_state(pins_.state_dir());
    if (!state) {
        health(state.error().message);
        return {};
    }
    if (!object_->inherited_bans()) {
        if (const std::size_t lost = keep_longest_bans(*state, maps_.bans.capacity()))
            health(fmt::format("capacity.bans is too small: {} of {} bans were not restored", lost,
                               lost + state->bans.size()));
        if (auto stored = maps_.bans.update_many(state->ban_keys, state->bans); !stored)
            return stored;
    }
    if (!object_->inherited_allow())
        if (auto stored = maps_.allow.update_many(state->allow_keys, state->allow); !stored)
            return stored;
    if (!state->empty())
        spdlog::info("{}: {} bans and {} allow entries are in force again", state_path(pins_.state_dir()),
                     state->bans.size(), state->allow.size());
    return {};
}

Result<void> Daemon::write_settings() {
    bt_config settings{};
    settings.mark = config_.mark();
    settings.event_rate = event_rate;
    settings.new_flow_rate = 100000;
    settings.fanout_hosts = config_.fanout.hosts;
    settings.fanout_ports = config_.fanout.ports;
    if (config_.monitor_only)
        settings.flags |= BT_C_MONITOR;
    if (rejecter_)
        settings.flags |= BT_C_REJECT;
    if (rules_ && rules_->filters())
        settings.flags |= BT_C_FILTERED;
    if (config_.names.watch || !config_.names.block.empty())
        settings.flags |= BT_C_NAMES;
    if (config_.strict_whitelist)
        settings.flags |= BT_C_STRICT_PORTS;
    for (const std::uint16_t port : config_.whitelist_ports)
        if (settings.port_count < BT_WHITELIST_PORTS)
            settings.ports[settings.port_count++] = port;
    return lease_ ? lease_->change_settings(settings) : maps_.write_config(settings);
}

Result<void> Daemon::fill_maps() {
    monitor_ = config_.monitor_only;
    block_socks_ = config_.block_socks;
    blocked_names_ = std::make_shared<const detect::HostList>(config_.names.block);
    if (config_.whitelist_ports.size() > BT_WHITELIST_PORTS)
        spdlog::warn("whitelist_ports: only the first {} of {} ports are used", static_cast<int>(BT_WHITELIST_PORTS),
                     config_.whitelist_ports.size());
    if (auto written = write_settings(); !written)
        return written;

    std::vector<std::pair<net::Prefix, bt_u32>> relays;
    for (const std::string& text : config_.fanout.exclude) {
        auto prefix = net::Prefix::parse(text);
        if (!prefix)
            return prefix.error();
        relays.emplace_back(*prefix, 1);
    }
    if (auto done = replace_prefixes<bt_u32>(maps_.relays, relays, [](const bt_u32&) { return true; }); !done)
        return done;

    std::vector<std::pair<net::Prefix, bt_allow>> allow;
    for (const Config::Allow& entry : config_.allow) {
        auto prefix = net::Prefix::parse(entry.prefix);
        if (!prefix)
            return prefix.error();
        bt_allow value = allow_entry(~0ULL, entry.comment);
        mark_as_configured(value);
        allow.emplace_back(*prefix, value);
    }
    if (auto done = replace_prefixes<bt_allow>(maps_.allow, allow, is_configured); !done)
        return done;
    return refresh_network();
}

// Also of bans: what has become an address of our own, or a gateway, must not stay cut off.
void Daemon::lift_harmful_bans(const std::vector<net::Prefix>& never) {
    for (const net::Prefix& prefix : never) {
        if (prefix.to_string().find('/') != std::string::npos)
            continue; // loopback, multicast: nobody bans those
        for (const net::Address& key : {prefix.address(), net::Prefix(prefix.address(), 64).address()}) {
            const auto ban = maps_.bans.lookup(key.raw());
            if (!ban || !*ban || (*ban)->flags & BT_BAN_MANUAL)
                continue;
            const bool subnet = (*ban)->flags & BT_BAN_SUBNET64;
            if (!subnet && key != prefix.address())
                continue;
            if (auto gone = maps_.bans.erase(key.raw()); gone && *gone)
                health(fmt::format("{}{} is no longer banned: it hits {}, which must not be", key.to_string(),
                                   subnet ? "/64" : "", prefix.to_string()));
        }
    }
}

Result<void> Daemon::refresh_network() {
    const std::uint64_t started = monotonic_ns();
    std::vector<net::Prefix> inside;
    auto never = net::never_ban_addresses();
    if (!never)
        return never.error();
    if (config_.inside.empty()) {
        auto found = net::default_inside();
        if (!found)
            return found.error();
        inside = std::move(*found);
    } else {
        for (const std::string& text : config_.inside) {
            auto prefix = net::Prefix::parse(text);
            if (!prefix)
                return prefix.error();
            inside.push_back(*prefix);
        }
    }
    for (const Config::Allow& entry : config_.allow)
        if (auto prefix = net::Prefix::parse(entry.prefix))
            never->push_back(*prefix);
    std::vector<std::pair<net::Prefix, bt_u32>> entries;
    for (const net::Prefix& prefix : inside)
        entries.emplace_back(prefix, 1u);
    if (auto done = replace_prefixes<bt_u32>(maps_.inside, entries, [](const bt_u32&) { return true; }); !done)
        return done;
    lift_harmful_bans(*never);
    if (policy_) {
        policy_->set_inside(std::move(inside));
        policy_->set_never(std::move(*never));
    } else {
        policy_.emplace(config_, std::move(inside), std::move(*never));
    }
    // A million routes take seconds to list: then the pause is longer.
    const std::uint64_t now = monotonic_ns();
    next_refresh_ns_ = now + std::max<std::uint64_t>(60 * BT_NSEC_PER_SEC, 600 * (now - started));
    return {};
}

Result<void> Daemon::open_queues() {
    if (config_.firewall == FirewallChoice::none && config_.queue.count == 0)
        return {};
    for (std::uint16_t i = 0; i < config_.queue.count; ++i) {
        auto queue = queue::NfQueue::open(
            {.number = static_cast<std::uint16_t>(config_.queue.first + i), .fail_open = config_.queue.fail_open});
        if (!queue)
            return queue.error();
        inspectors_.push_back(std::make_unique<detect::Inspector>());
        const std::size_t index = inspectors_.size() - 1;
        auto worker = queue::Worker::start(std::move(*queue), config_.mark(),
                                           [this, index](const queue::QueuedPacket& p) { return inspect(index, p); });
        if (!worker)
            return worker.error();
        workers_.push_back(std::move(*worker));
    }
    return install_rules();
}

// Rules that every forwarded packet passes cost more than all of the datapath, so they are there only where a packet
// can come in through a device that is not guarded. Without the daemon nobody would see such a device appear: then the
// rules matter where the queue holds packets.
bool Daemon::may_forward_unguarded() const {
    const auto interfaces = net::list_interfaces();
    if (!interfaces || !config_.queue.fail_open)
        return true;
    return std::any_of(interfaces->begin(), interfaces->end(), [this](const net::Interface& i) {
        return i.hardware_type != ARPHRD_LOOPBACK && !is_guarded(i.name) &&
               std::none_of(i.alternative_names.begin(), i.alternative_names.end(),
                            [this](const std::string& name) { return is_guarded(name); });
    });
}

firewall::RuleOptions Daemon::rule_options(bool forwarded) const {
    firewall::RuleOptions options{.instance = pins_.instance,
                                  .mark = config_.mark(),
                                  .queue_first = config_.queue.first,
                                  .queue_count = config_.queue.count,
                                  .bypass = config_.queue.fail_open};
    options.filter = {.devices = config_.interfaces,
                      .pass_program = pins_.map(bpf::program_name(bpf::Program::pass_filter)),
                      .drop_program = pins_.map(bpf::program_name(bpf::Program::drop_filter)),
                      .forwarded = forwarded,
                      .own_programs = config_.scope == Scope::output};
    return options;
}

Result<void> Daemon::install_rules() {
    filters_forwarded_ = may_forward_unguarded();
    auto rules = firewall::make_rule_set(backend_of(config_.firewall), rule_options(filters_forwarded_));
    if (!rules)
        return rules.error();
    rules_ = std::move(*rules);
    if (auto installed = rules_->install(); !installed)
        return installed;
    for (const std::string& note : rules_->notes())
        spdlog::warn("firewall: {}", note);
    return write_settings(); // they say whether the rules filter
}

Result<void> Daemon::attach_interface(const std::string& name) {
    auto interface = net::find_interface(name);
    if (!interface)
        return interface.error();
    auto attached = bpf::attach(*object_, *interface, config_.xdp, features_, pins_);
    if (!attached)
        return attached.error();
    spdlog::info("{}: guarded at TC ({}), XDP {}{}", name, attached->tc, attached->xdp,
                 attached->note.empty() ? "" : "; " + attached->note);
    attached_[name] = std::move(*attached);
    return {};
}

bool Daemon::watch(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

// ---------------------------------------------------------------- stop

void Daemon::tear_down() {
    if (!lock_)
        return; // nothing was made: another instance may be at work here
    // From here on no packet is marked for user space; then the rule goes, so that none waits for a queue that nobody
    // reads.
    lease_.reset();
    if (rules_)
        if (auto removed = rules_->remove(); !removed)
            spdlog::warn("{}", removed.error().message);
    workers_.clear();
    if (server_)
        server_.reset();
    metrics_.reset();
    if (wrote_metrics_file_)
        unlink(config_.metrics.file.c_str()); // or it would be believed for ever
    // A stop that leaves nothing in the kernel ends what was decided there, too; what the operator said stays.
    if (keeper_ && !keep_on_exit_)
        keeper_->forget_automatic();
    keeper_.reset(); // while the maps are still there
    if (!keep_on_exit_) {
        std::set<std::string> names;
        for (const auto& [name, state] : attached_)
            names.insert(name);
        for (const bpf::PinnedLink& link : bpf::pinned_links(pins_))
            names.insert(link.interface);
        for (const std::string& name : names)
            if (auto detached = bpf::detach(name, pins_); !detached)
                spdlog::warn("{}", detached.error().message);
        if (auto removed = bpf::remove_pins(pins_); !removed)
            spdlog::warn("{}", removed.error().message);
    }
    ring_.reset();
    if (bus_ && tables_)
        tell_suppressed(); // the last second's
    bus_.reset();
    packet_bus_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(pins_.run_dir(), ignored);
    std::filesystem::remove("/run/btblock", ignored); // stays while another instance lives there
    lock_.reset();
}

// ---------------------------------------------------------------- the loop

int Daemon::run() {
    std::string where;
    for (const auto& [name, state] : attached_)
        where += (where.empty() ? "" : ", ") + name + " (" + state.tc +
                 (state.xdp == "off" ? "" : ", xdp " + state.xdp) + ")";
    std::cout << fmt::format("btblock {} ready: {} on {}, queues {}-{} through {}", BTBLOCK_VERSION,
                             config_.monitor_only ? "monitoring (nothing is dropped)" : "enforcing", where,
                             config_.queue.first, config_.queue.first + config_.queue.count - 1,
                             rules_ ? rules_->name() : "none")
              << std::endl;
    sd_notify(0, "READY=1");
    while (!stopping_) {
        epoll_event events[16];
        const int count = epoll_wait(epoll_.get(), events, std::size(events), -1);
        if (count < 0 && errno != EINTR) {
            spdlog::error("epoll: {}", std::strerror(errno));
            return static_cast<int>(ExitCode::failure);
        }
        for (int i = 0; i < count; ++i) {
            const int fd = events[i].data.fd;
            std::uint64_t ticks = 0;
            if (fd == signals_.get()) {
                handle_signal();
            } else if (fd == timer_.get()) {
                if (read(fd, &ticks, sizeof ticks) > 0) {
                    watch_queues();
                    collect_counters();
                    tell_suppressed();
                    sweep_bans();
                    if (metrics_)
                        metrics_->process();
                    write_metrics_file_or_warn();
                    filter_forwarded();
                    if (monotonic_ns() >= next_refresh_ns_) // resolvers and sessions change without a message
                        refresh_or_warn();
                }
            } else if (fd == wake_.get()) {
                if (read(fd, &ticks, sizeof ticks) > 0)
                    handle_deep_findings();
            } else if (fd == links_->fd()) {
                handle_links();
            } else if (fd == server_->fd()) {
                server_->process();
            } else if (metrics_ && fd == metrics_->fd()) {
                metrics_->process();
            } else if (fd == ring_->fd()) {
                ring_->drain();
            }
        }
    }
    sd_notify(0, "STOPPING=1");
    keep_on_exit_ = config_.persist;
    if (keep_on_exit_)
        spdlog::info("stopped; bans and kernel detection stay in force (persist = true; `btblock detach` ends them)");
    return static_cast<int>(ExitCode::ok);
}

void Daemon::watch_queues() {
    const bool healthy = lease_->healthy();
    if (!healthy && !stalled_)
        health(config_.queue.fail_open
                   ? "a queue worker does not answer: packets are no longer handed to user space"
                   : "a queue worker does not answer: packets that wait for it are held (queue.fail_open = false)");
    if (healthy && stalled_)
        health("all queue workers answer again");
    stalled_ = !healthy;
    // An overload is told at its beginning and, with what it cost, at its end.
    const QueueTotals queue = queue_totals();
    const std::uint64_t lost = queue.dropped + queue.failed_open;
    constexpr std::uint64_t noise = 16; // packets on their way while the counters are read
    if (lost > lost_before_ + noise && !overloaded_) {
        health(config_.queue.fail_open ? "the queue is full: packets pass without being looked at"
                                       : "the queue is full: packets are dropped (queue.fail_open = false)");
        lost_at_start_ = lost_before_;
        overloaded_ = true;
    } else if (lost <= lost_before_ + noise && overloaded_ && healthy) {
        health(fmt::format("the queue has room again; {} packets {} meanwhile", lost - lost_at_start_,
                           config_.queue.fail_open ? "passed unseen or were lost" : "were dropped"));
        overloaded_ = false;
    }
    lost_before_ = std::max(lost, lost_before_);
    sd_notify(0, "WATCHDOG=1");
}

void Daemon::collect_counters() {
    std::uint64_t dropped = 0;
    std::uint64_t passed = 0;
    for (const auto& worker : workers_) {
        const queue::WorkerCounters c = worker->counters();
        dropped += c.dropped;
        passed += c.accepted;
    }
    const auto add = [this](bt_stat which, std::uint64_t total, std::uint64_t& known) {
        if (total > known && maps_.add_stat(which, total - known))
            known = total;
    };
    add(BT_S_QUEUE_DROPPED, dropped, queue_dropped_);
    add(BT_S_QUEUE_PASSED, passed, queue_passed_);
    add(BT_S_LEAKED_HTTP, tables_->leaked_http(), leaked_http_);
    add(BT_S_REJECTED, rejected_, rejected_counted_);
    add(BT_S_EVENTS_LOST, bus_->totals().lost + (packet_bus_ ? packet_bus_->totals().lost : 0) + findings_lost_,
        bus_lost_);
}

void Daemon::sweep_bans() {
    const std::uint64_t now = monotonic_ns();
    if (now - last_sweep_ns_ < config_.cleanup_interval * BT_NSEC_PER_SEC)
        return;
    last_sweep_ns_ = now;
    auto gone = bans_->sweep(now);
    if (!gone) {
        spdlog::warn("{}", gone.error().message);
        return;
    }
    if (!gone->empty())
        keeper_->changed();
    for (const ListedBan& ban : *gone) {
        event::Event e;
        e.type = event::EventType::unban;
        e.time_ns = wall_ns();
        e.evidence = ban.value.evidence;
        e.action = "unban";
        e.peer = ban.target.address;
        e.target = ban.text();
        e.message = "expired";
        publish(std::move(e));
    }
}

void Daemon::handle_signal() {
    signalfd_siginfo info{};
    while (read(signals_.get(), &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGHUP)
            reload();
        else
            stopping_ = true;
    }
}

void Daemon::reload() {
    sd_notify(0, fmt::format("RELOADING=1\nMONOTONIC_USEC={}", monotonic_ns() / 1000).c_str());
    bus_->reopen();
    if (packet_bus_)
        packet_bus_->reopen();
    if (auto loaded = load_config(sources_))
        apply(loaded->config);
    else
        health("the configuration is left as it was: " + loaded.error().message);
    sd_notify(0, "READY=1");
}

void Daemon::apply(const Config& wanted) {
    Config next = config_;
    next.interfaces = wanted.interfaces;
    next.inside = wanted.inside;
    next.monitor_only = wanted.monitor_only;
    next.ban = wanted.ban;
    next.fanout = wanted.fanout;
    next.names = wanted.names;
    next.whitelist_ports = wanted.whitelist_ports;
    next.strict_whitelist = wanted.strict_whitelist;
    next.allow = wanted.allow;
    next.block_socks = wanted.block_socks;
    next.log_level = wanted.log_level;
    next.cleanup_interval = wanted.cleanup_interval;
    next.persist = wanted.persist;
    // The rest needs new sockets, maps or rules.
    std::string waiting;
    const auto now = effective_settings({next, {}, {}});
    const auto then = effective_settings({wanted, {}, {}});
    for (std::size_t i = 0; i < now.size(); ++i)
        if (now[i].value != then[i].value)
            waiting += fmt::format("{}{} = {}", waiting.empty() ? "" : ", ", now[i].key, now[i].value);

    const Config before = std::exchange(config_, std::move(next));
    set_log_level(config_.log_level);
    if (policy_)
        policy_->reconfigure(config_);
    if (auto done = fill_maps(); !done)
        spdlog::error("{}", done.error().message);
    // What was decided about addresses that are now allowed, or no longer, does not hold any more.
    const auto missing_in = [](const std::vector<Config::Allow>& list) {
        return [&list](const Config::Allow& entry) { return std::find(list.begin(), list.end(), entry) == list.end(); };
    };
    std::vector<Config::Allow> changed;
    std::copy_if(before.allow.begin(), before.allow.end(), std::back_inserter(changed), missing_in(config_.allow));
    std::copy_if(config_.allow.begin(), config_.allow.end(), std::back_inserter(changed), missing_in(before.allow));
    for (const Config::Allow& entry : changed)
        if (auto prefix = net::Prefix::parse(entry.prefix))
            if (auto forgotten = forget_flows(maps_, *prefix); !forgotten)
                spdlog::error("{}", forgotten.error().message);
    for (const std::string& name : config_.interfaces)
        if (if_nametoindex(name.c_str()))
            if (auto done = attach_interface(name); !done)
                spdlog::error("{}", done.error().message);
    for (const std::string& name : before.interfaces)
        if (!is_guarded(name)) {
            attached_.erase(name);
            if (auto detached = bpf::detach(name, pins_); !detached)
                spdlog::warn("{}", detached.error().message);
        }
    // Other interfaces; or a firewall that was loaded anew has flushed all rules.
    if (rules_)
        if (auto done = install_rules(); !done)
            spdlog::error("{}", done.error().message);
    health("configuration reloaded" + (waiting.empty() ? "" : "; until a restart these stay as they were: " + waiting));
}

void Daemon::handle_links() {
    bool addresses = false;
    for (const net::LinkEvent& e : links_->read()) {
        const bool ours = is_guarded(e.name);
        switch (e.kind) {
        case net::LinkEvent::Kind::appeared:
            addresses = true;
            if (ours) {
                if (auto done = attach_interface(e.name); done)
                    health(e.name + " appeared and is guarded");
                else
                    spdlog::error("{}", done.error().message);
            }
            break;
        case net::LinkEvent::Kind::gone:
            addresses = true;
            if (ours && attached_.erase(e.name)) {
                if (auto detached = bpf::detach(e.name, pins_); !detached)
                    spdlog::warn("{}", detached.error().message);
                health(e.name + " is gone; it will be guarded again when it comes back");
            }
            break;
        case net::LinkEvent::Kind::addresses_changed: addresses = true; break;
        case net::LinkEvent::Kind::resync:
            addresses = true;
            for (const std::string& name : config_.interfaces)
                if (if_nametoindex(name.c_str()))
                    if (auto done = attach_interface(name); !done)
                        spdlog::error("{}", done.error().message);
            break;
        }
    }
    if (addresses && rules_ && rules_->filters() && !filters_forwarded_ && may_forward_unguarded()) {
        filter_tries_ = 10;
        filter_forwarded();
    }
    if (addresses)
        refresh_or_warn();
}

// The rest of the rules stays as it is: installing them anew loses the packets that wait in a queue. Once there, these
// stay, too, when the device goes: what comes once comes again.
void Daemon::filter_forwarded() {
    if (filter_tries_ == 0)
        return;
    const auto done = firewall::install_punt_filter(rule_options(true));
    filters_forwarded_ = static_cast<bool>(done);
    filter_tries_ = done ? 0 : filter_tries_ - 1;
    if (!done && filter_tries_ == 0) // somebody may hold the lock of iptables for a while
        health("what unguarded interfaces bring in is judged by the kernel alone, HTTP requests are not read there: " +
               done.error().message);
}

void Daemon::refresh_or_warn() {
    if (auto done = refresh_network(); !done)
        spdlog::warn("{}", done.error().message);
}

// ---------------------------------------------------------------- findings

// Runs in the thread of a queue.
queue::QueueVerdict Daemon::inspect(std::size_t queue, const queue::QueuedPacket& packet) {
    const auto parsed = net::parse_packet(packet.ip, packet.ip.size());
    if (!parsed || parsed->later_fragment)
        return queue::QueueVerdict::accept;
    detect::Payload payload;
    payload.tuple = parsed->tuple;
    payload.bytes = parsed->payload;
    payload.seq = parsed->seq;
    payload.has_seq = parsed->tuple.proto == 6;
    payload.ack = parsed->ack;
    const std::uint64_t now = monotonic_ns();
    detect::Inspector& inspector = *inspectors_[queue];
    detect::Finding finding = inspector.inspect(payload, now);
    if (block_socks_ && finding.judgement == detect::Judgement::weighs &&
        finding.evidence & BT_EV_BIT(BT_EV_SOCKS_CONNECT))
        finding.judgement = detect::Judgement::proves; // the operator forbids proxies as such
    if (!inspector.host().empty() && finding.judgement != detect::Judgement::proves &&
        blocked_names_.load()->contains(inspector.host()))
        finding = {.judgement = detect::Judgement::proves, .evidence = BT_EV_BIT(BT_EV_TRACKER_SNI), .listed = true};
    finding.unasked = finding.judgement == detect::Judgement::proves && is_unasked(*tables_, payload);
    const std::uint32_t activated =
        detect::write_back(*tables_, scorer_, payload.tuple, finding, inspector.named_peers(), now);
    const bool proves = finding.judgement == detect::Judgement::proves;
    if (activated)
        finding.evidence = activated; // told like a fan-out: nothing is dropped
    else if (!proves)
        return queue::QueueVerdict::accept;
    const bool drop = proves && !monitor_;

    DeepFinding found{};
    found.host_evidence = proves && finding.host_evidence;
    found.event.unasked = finding.unasked;
    found.event.time_ns = now;
    found.event.ifindex = packet.in_ifindex;
    found.event.evidence = finding.evidence;
    found.event.tuple = payload.tuple;
    found.event.payload_len = static_cast<bt_u16>(std::min<std::size_t>(payload.bytes.size(), 0xffff));
    found.event.kind = BT_K_DETECTION;
    found.event.hook = BT_HOOK_QUEUE;
    found.event.monitor = monitor_ ? 1 : 0;
    found.event.action = drop ? BT_ACT_DROP : BT_ACT_PASS;
    found.event.client_is = tables_->is_inside(payload.tuple.src) ? 1 : tables_->is_inside(payload.tuple.dst) ? 2 : 0;
    if (packet_bus_) {
        found.packet.size = parsed->payload_length;
        const auto start = payload.bytes.first(std::min(payload.bytes.size(), event::PacketStart::most));
        found.packet.bytes.assign(start.begin(), start.end());
    }
    {
        const std::lock_guard lock(findings_mutex_);
        if (findings_.size() < max_waiting_findings)
            findings_.push_back(std::move(found));
        else
            ++findings_lost_;
    }
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof one); // full: it will wake anyway
    if (!drop)
        return queue::QueueVerdict::accept;
    if (rejecter_) {
        bt_reject told{};
        told.tuple = parsed->tuple;
        told.seq = parsed->seq;
        told.ack = parsed->ack;
        told.payload_len = parsed->payload_length;
        told.tcp_flags = parsed->tcp_flags;
        rejected_ += rejecter_->answer(told) ? 1 : 0;
    }
    return queue::QueueVerdict::drop;
}

void Daemon::handle_deep_findings() {
    std::vector<DeepFinding> found;
    {
        const std::lock_guard lock(findings_mutex_);
        found.swap(findings_);
    }
    for (DeepFinding& f : found) {
        for (bt_u32 code = 0; code < BT_EV_COUNT; ++code)
            if (f.event.evidence & BT_EV_BIT(code))
                if (auto counted = maps_.add_stat(static_cast<bt_stat>(static_cast<bt_u32>(BT_S_DETECTIONS) + code), 1);
                    !counted)
                    spdlog::warn("{}", counted.error().message);
        handle_finding(f.event, f.host_evidence, std::move(f.packet));
    }
}

void Daemon::handle_finding(const bt_event& event, bool host_evidence, event::PacketStart packet) {
    event::Event told = event::from_kernel(event, event::WallClock::now(), interface_name);
    if (packet_bus_ && told.type == event::EventType::detection)
        packet_bus_->publish(told, std::move(packet));
    publish(std::move(told), event.hook != BT_HOOK_QUEUE);
    if (config_.monitor_only)
        return;
    // The peer of a proxied connection is the proxy, which serves others too; and a sender can be forged.
    const auto flow = maps_.flows.lookup(event.tuple);
    if ((flow && *flow && (*flow)->flags & BT_F_PROXY) || event.unasked)
        host_evidence = false;
    const std::uint64_t now = monotonic_ns();
    const auto decision = policy_->decide(event, host_evidence, now);
    if (!decision)
        return;
    auto ban = bans_->add(*decision, policy_->duration(*decision, now), event.evidence, "", false, now);
    if (!ban) {
        health("ban failed: " + ban.error().message);
        return;
    }
    keeper_->changed();
    event::Event e = event::from_kernel(event, event::WallClock::now(), interface_name);
    e.type = event::EventType::ban;
    e.action = "ban";
    e.ban_expires = event::WallClock::now().at(ban->value.expires_ns);
    e.target = ban->text();
    publish(std::move(e));
}

void Daemon::publish(event::Event event, bool counted) {
    if (!counted && maps_.user_stats.fd() >= 0)
        if (auto added = maps_.add_stat(BT_S_EVENTS_SENT, 1); !added)
            spdlog::warn("{}", added.error().message);
    if (!flood_guard_.pass(event))
        return;
    event.mode = config_.monitor_only ? "monitor" : "enforce";
    if (server_ && server_->subscribers() > 0)
        server_->broadcast(event::to_json_line(event));
    bus_->publish(std::move(event));
}

// What was not told one by one is told by number: like events, what the kernel held back, what could not be written.
void Daemon::tell_suppressed() {
    const std::uint64_t now = wall_ns();
    for (event::Event& e : flood_guard_.next_second(now))
        publish(std::move(e));
    const auto counters = maps_.stats();
    if (!counters)
        return;
    const std::uint64_t lost = (*counters)[BT_S_EVENTS_LIMITED] + (*counters)[BT_S_EVENTS_LOST];
    if (lost <= lost_told_)
        return;
    event::Event e;
    e.type = event::EventType::suppressed;
    e.time_ns = now;
    e.count = lost - std::exchange(lost_told_, lost);
    e.message = fmt::format("{} events of any client: more than {} a second and CPU, or than could be written", e.count,
                            event_rate);
    publish(std::move(e));
}

void Daemon::health(const std::string& message) {
    event::Event e;
    e.type = event::EventType::health;
    e.time_ns = wall_ns();
    e.message = message;
    publish(std::move(e));
}

} // namespace btblock::app
