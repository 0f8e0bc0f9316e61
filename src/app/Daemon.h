// SPDX-License-Identifier: MIT
// Daemon: owns everything of a running instance and its event loop.
#pragma once

#include "app/BanTable.h"
#include "app/KernelTables.h"
#include "app/Lease.h"
#include "app/StateKeeper.h"
#include "bpf/Attachment.h"
#include "bpf/EventStream.h"
#include "bpf/Object.h"
#include "control/Server.h"
#include "core/Config.h"
#include "detect/Inspector.h"
#include "detect/Scorer.h"
#include "event/EventBus.h"
#include "event/FloodGuard.h"
#include "firewall/RuleSet.h"
#include "metrics/Listener.h"
#include "net/LinkWatcher.h"
#include "policy/BanPolicy.h"
#include "queue/Rejecter.h"
#include "queue/Worker.h"

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace btblock::app {

class Daemon {
public:
    // Everything up to enforcing. On an error nothing of this call is left; what an earlier run left pinned stays.
    static Result<std::unique_ptr<Daemon>> start(const Config& config, const ConfigSources& sources,
                                                 const std::string& instance);
    Daemon(const Daemon&) = delete;
    Daemon& operator=(const Daemon&) = delete;
    ~Daemon();

    // Until SIGTERM or SIGINT. Returns the exit code.
    int run();

private:
    // A proving finding of a queue worker, on its way to the main thread.
    struct DeepFinding {
        bt_event event;
        bool host_evidence;
        event::PacketStart packet; // with a detection log only
    };

    Daemon(const Config& config, const ConfigSources& sources, const std::string& instance);
    Result<void> set_up();
    Result<void> find_interfaces();
    [[nodiscard]] bool is_guarded(const std::string& name) const; // by the configuration, whether or not it exists
    Result<void> load_programs();
    Result<void> restore_state();
    Result<void> remove_stale_pins();
    Result<void> write_settings(); // of config_ and of what the firewall can do; the lease is kept
    Result<void> fill_maps();
    Result<void> refresh_network(); // inside, never-ban: at start and when addresses change
    Result<void> open_queues();
    Result<void> install_rules(); // again after another set of interfaces
    [[nodiscard]] firewall::RuleOptions rule_options(bool forwarded) const;
    [[nodiscard]] bool may_forward_unguarded() const;
    void filter_forwarded(); // if it is due
    Result<void> attach_interface(const std::string& name);
    void tear_down();

    void watch_queues();
    void collect_counters();
    void sweep_bans();
    void handle_signal();
    void handle_links();
    void handle_deep_findings();
    void handle_finding(const bt_event& event, bool host_evidence, event::PacketStart packet);
    void reload();
    void apply(const Config& wanted); // of a reload: what can change without a restart
    void refresh_or_warn();
    void lift_harmful_bans(const std::vector<net::Prefix>& never);
    void publish(event::Event event, bool counted = false); // counted: by the kernel already
    void health(const std::string& message);
    void tell_suppressed();
    bool watch(int fd);
    queue::QueueVerdict inspect(std::size_t queue, const queue::QueuedPacket& packet);

    struct QueueTotals {
        std::uint64_t depth = 0;       // packets that wait now
        std::uint64_t dropped = 0;     // lost because a queue or its socket was full
        std::uint64_t failed_open = 0; // passed unseen for the same reason
    };
    [[nodiscard]] QueueTotals queue_totals() const;
    nlohmann::json answer(const nlohmann::json& request);
    nlohmann::json status();
    std::string exposition();
    Result<void> write_metrics_file();
    void write_metrics_file_or_warn(); // if it is due

    Config config_;
    ConfigSources sources_;
    bpf::Pins pins_;
    bpf::Features features_;
    Fd lock_;
    bool pins_were_there_ = false;
    bool keep_on_exit_ = false;

    std::optional<bpf::Object> object_;
    bpf::Maps maps_;
    std::optional<KernelTables> tables_;
    std::optional<BanTable> bans_;
    std::unique_ptr<StateKeeper> keeper_;
    std::optional<policy::BanPolicy> policy_;
    std::map<std::string, bpf::Attached> attached_;
    std::unique_ptr<firewall::RuleSet> rules_;
    bool filters_forwarded_ = true; // rules_ see what comes in through devices that are not guarded
    unsigned filter_tries_ = 0;     // how often that is tried yet
    std::vector<std::unique_ptr<detect::Inspector>> inspectors_;
    detect::Scorer scorer_;
    std::unique_ptr<queue::Rejecter> rejecter_; // only with action = reject; before the workers, who use it
    std::vector<std::unique_ptr<queue::Worker>> workers_;
    std::unique_ptr<Lease> lease_;
    std::unique_ptr<bpf::EventStream> ring_;
    std::optional<net::LinkWatcher> links_;
    std::optional<control::Server> server_;
    std::unique_ptr<metrics::Listener> metrics_; // with metrics.listen only
    std::unique_ptr<event::EventBus> bus_;
    std::unique_ptr<event::EventBus> packet_bus_; // to the detection log, if there is one
    event::FloodGuard flood_guard_;
    std::uint64_t lost_told_ = 0; // events that were lost, and that it was told of

    Fd epoll_, signals_, timer_, wake_;
    std::mutex findings_mutex_;
    std::vector<DeepFinding> findings_;                                                   // under findings_mutex_
    std::atomic<bool> monitor_{false}, block_socks_{false};                               // of config_, for the workers
    std::atomic<std::shared_ptr<const detect::HostList>> blocked_names_;                  // alike
    std::uint64_t queue_dropped_ = 0, queue_passed_ = 0, leaked_http_ = 0, bus_lost_ = 0; // already in the counters
    std::atomic<std::uint64_t> rejected_{0}, findings_lost_{0};
    std::uint64_t rejected_counted_ = 0;
    std::uint64_t punted_before_ = 0; // by an earlier daemon on the same pins
    std::uint64_t last_sweep_ns_ = 0;
    std::uint64_t next_refresh_ns_ = 0;
    std::uint64_t next_metrics_file_ns_ = 0;
    bool wrote_metrics_file_ = false;
    std::string metrics_file_problem_; // why it could not be written; empty: it was
    std::string exposition_;           // of at most a second ago
    std::uint64_t exposition_ns_ = 0;
    std::uint64_t started_wall_ns_ = 0;
    bool stopping_ = false;
    bool stalled_ = false;
    bool overloaded_ = false;
    std::uint64_t lost_before_ = 0, lost_at_start_ = 0; // packets that the queues did not take
};

} // namespace btblock::app
