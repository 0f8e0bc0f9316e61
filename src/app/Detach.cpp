// SPDX-License-Identifier: MIT
#include "app/Detach.h"

#include "app/InstanceLock.h"
#include "bpf/Attachment.h"
#include "bpf/Pins.h"
#include "firewall/RuleSet.h"

#include <chrono>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <set>
#include <spdlog/fmt/fmt.h>
#include <thread>

namespace btblock::app {

namespace {

// Ends the daemon of the instance, so that it does not attach again what is removed here.
Result<void> stop_daemon(const std::string& run_dir) {
    const int pid = lock_holder(run_dir);
    if (pid <= 1)
        return {};
    if (kill(pid, SIGTERM) < 0)
        return errno_error("stopping the daemon, pid " + std::to_string(pid));
    for (int tries = 0; tries < 100; ++tries) {
        if (lock_holder(run_dir) != pid)
            return {};
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    kill(pid, SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    return {};
}

} // namespace

Result<Detached> detach_instance(const std::string& instance) {
    const bpf::Pins pins{instance};
    Detached done;
    bpf::quiet_libbpf();
    if (auto stopped = stop_daemon(pins.run_dir()); !stopped)
        return stopped.error();
    std::set<std::string> interfaces;
    for (const bpf::PinnedLink& link : bpf::pinned_links(pins)) {
        interfaces.insert(link.interface);
        done.links += link.hook != "qdisc";
    }
    for (const std::string& interface : interfaces)
        if (auto detached = bpf::detach(interface, pins); !detached)
            return detached.error();
    auto filters = bpf::remove_clsact_filters(pins);
    if (!filters)
        return filters.error();
    done.links += *filters;
    auto rules = firewall::remove_all_rules(instance);
    if (!rules)
        return rules.error();
    done.rules = *rules;
    auto removed = bpf::remove_pins(pins);
    if (!removed)
        return removed.error();
    done.pins = *removed;
    std::error_code ignored;
    std::filesystem::remove_all(pins.run_dir(), ignored);
    std::filesystem::remove("/run/btblock", ignored); // stays while another instance lives there
    return done;
}

int detach_main(const std::string& instance, bool all) {
    std::set<std::string> names{instance};
    if (all)
        for (const std::string& name : bpf::pinned_instances())
            names.insert(name);
    for (const std::string& name : names) {
        auto done = detach_instance(name);
        if (!done) {
            std::cerr << "btblock: " << done.error().message << "\n";
            return static_cast<int>(done.error().exit_code);
        }
        if (done->links + done->pins + done->rules == 0)
            std::cout << fmt::format("instance '{}': nothing to remove\n", name);
        else
            std::cout << fmt::format(
                "instance '{}': removed {} program attachment{}, {} pinned map{}, {} firewall table{} or chain{}\n",
                name, done->links, done->links == 1 ? "" : "s", done->pins, done->pins == 1 ? "" : "s", done->rules,
                done->rules == 1 ? "" : "s", done->rules == 1 ? "" : "s");
    }
    return 0;
}

} // namespace btblock::app
