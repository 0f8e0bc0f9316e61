// SPDX-License-Identifier: MIT
// Kernel: the loaded programs and their maps, and one packet through one of them by BPF_PROG_TEST_RUN.
#pragma once

#include "bpf/EventStream.h"
#include "bpf/Features.h"
#include "bpf/Object.h"
#include "bpf/PacketBuilder.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <array>
#include <cerrno>
#include <ctime>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <sched.h>
#include <string>
#include <utility>
#include <vector>

namespace btblock::test {

inline constexpr bt_u32 mark_bit = 0x20000000u;
inline constexpr int tc_next = -1, tc_drop = 2;

struct Outcome {
    int code = 0;
    std::uint32_t mark = 0;
};

inline std::uint64_t now_ns() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * BT_NSEC_PER_SEC + static_cast<std::uint64_t>(t.tv_nsec);
}

class Kernel {
public:
    // Empty when programs can be loaded here, else why not.
    static std::string missing() {
        const auto features = bpf::probe_features();
        return features ? "" : features.error().message;
    }

    // The calling thread stays on one CPU: rate windows and scratch are per CPU.
    explicit Kernel(bpf::Capacity capacity = {4096, 65536, 16384}) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(sched_getcpu(), &one);
        sched_setaffinity(0, sizeof one, &one);
        bpf::raise_memlock();
        auto features = bpf::probe_features();
        if (!features) {
            problem_ = features.error().message;
            return;
        }
        auto object = bpf::Object::load(*features, capacity);
        if (!object) {
            problem_ = object.error().message;
            return;
        }
        object_ = std::make_unique<bpf::Object>(std::move(*object));
        auto found = object_->maps();
        if (!found) {
            problem_ = found.error().message;
            return;
        }
        maps = std::move(*found);
        auto stream = bpf::EventStream::open(maps.events_fd.get(), [this](const bt_event& e) { events.push_back(e); });
        if (!stream) {
            problem_ = stream.error().message;
            return;
        }
        stream_ = std::move(*stream);
        reset();
    }

    [[nodiscard]] const std::string& problem() const { return problem_; }

    // Empty tables, zero counters, the default configuration.
    void reset() {
        clear(maps.bans);
        clear(maps.flows);
        clear(maps.asked);
        clear(maps.sockets);
        clear(maps.peers);
        clear(maps.clients);
        clear(maps.allow);
        clear(maps.inside);
        const int cpus = libbpf_num_possible_cpus();
        const std::vector<bt_percpu> nothing(static_cast<std::size_t>(cpus > 0 ? cpus : 1));
        const bt_u32 key = 0;
        ASSERT_EQ(bpf_map_update_elem(maps.stats_fd.get(), &key, nothing.data(), BPF_ANY), 0);
        config = {};
        config.lease_until_ns = now_ns() + 3600 * BT_NSEC_PER_SEC;
        config.mark = mark_bit;
        config.event_rate = config.new_flow_rate = 1u << 30;
        configure();
        for (const char* prefix : {"10.0.0.0/8", "fc00::/7"})
            ASSERT_TRUE(maps.inside.update(net::Prefix::parse(prefix)->lpm(), 1));
        take_events();
    }
    void configure() { ASSERT_TRUE(maps.write_config(config)); }

    // code is the program's; -1000 - errno when the kernel refused to run it. The packet came in on a device with the
    // number `from`, or 0; the device that it is on has number 1.
    Outcome run(bpf::Program which, const std::string& frame, std::uint32_t mark = 0, std::uint32_t from = 0) const {
        LIBBPF_OPTS(bpf_test_run_opts, opts);
        __sk_buff in{};
        __sk_buff out{};
        in.mark = mark;
        in.ingress_ifindex = from;
        opts.data_in = frame.data();
        opts.data_size_in = static_cast<__u32>(frame.size());
        opts.repeat = 1;
        if (which != bpf::Program::xdp) {
            opts.ctx_in = &in;
            opts.ctx_size_in = sizeof in;
            opts.ctx_out = &out;
            opts.ctx_size_out = sizeof out;
        }
        if (bpf_prog_test_run_opts(object_->program_fd(which), &opts) != 0)
            return {-1000 - errno, 0};
        return {static_cast<int>(opts.retval), out.mark};
    }
    Outcome ingress(const Packet& p, std::uint32_t mark = 0) const {
        return run(bpf::Program::ingress_l2, p.frame(), mark);
    }
    Outcome egress(const Packet& p, std::uint32_t mark = 0) const {
        return run(bpf::Program::egress_l2, p.frame(), mark);
    }
    Outcome forwarded(const Packet& p, std::uint32_t from = 1) const {
        return run(bpf::Program::egress_l2, p.frame(), 0, from);
    }
    Outcome xdp(const Packet& p) const { return run(bpf::Program::xdp, p.frame()); }

    [[nodiscard]] bpf::Counters counters() const {
        auto all = maps.stats();
        EXPECT_TRUE(all) << (all ? "" : all.error().message);
        return all ? *all : bpf::Counters{};
    }
    [[nodiscard]] std::uint64_t counter(unsigned which) const { return counters()[which]; }
    std::vector<bt_event> take_events() {
        stream_->drain();
        return std::exchange(events, {});
    }
    [[nodiscard]] std::optional<bt_flow> flow(const Packet& p) const {
        auto found = maps.flows.lookup(p.tuple());
        return found ? *found : std::nullopt;
    }
    [[nodiscard]] int program_fd(bpf::Program which) const { return object_->program_fd(which); }

    bpf::Maps maps;
    bt_config config{};
    std::vector<bt_event> events;

private:
    template <template <class, class> class Table, class K, class V> static void clear(const Table<K, V>& map) {
        std::vector<K> keys;
        ASSERT_TRUE(map.for_each([&](const K& key, const V&) { keys.push_back(key); }));
        for (const K& key : keys)
            ASSERT_TRUE(map.erase(key));
    }

    std::string problem_;
    std::unique_ptr<bpf::Object> object_;
    std::unique_ptr<bpf::EventStream> stream_;
};

// One load for a whole suite, clean tables for each test.
class KernelTest : public ::testing::Test {
public:
    static void SetUpTestSuite() {
        if (Kernel::missing().empty())
            shared_ = std::make_unique<Kernel>();
    }
    static void TearDownTestSuite() { shared_.reset(); }

protected:
    void SetUp() override {
        if (const std::string why = Kernel::missing(); !why.empty())
            GTEST_SKIP() << why;
        ASSERT_EQ(shared_->problem(), "");
        shared_->reset();
    }
    static Kernel& kernel() { return *shared_; }

private:
    inline static std::unique_ptr<Kernel> shared_;
};

} // namespace btblock::test
