// SPDX-License-Identifier: MIT
// bpf_run: ns per packet of the kernel programs by BPF_PROG_TEST_RUN, on every path, beside an empty program and
// xdp-filter in the same rounds; over many keys; and what an entry of each table costs in memory.
//   bpf_run [--quick] [--xdp-filter DIR] [--only memory|hot|new|allow|bans|flows]
#include "ProgRun.h"
#include "Series.h"
#include "bpf/Features.h"
#include "bpf/Object.h"
#include "bpf/Scenarios.h"

#include <ctime>
#include <functional>
#include <sched.h>
#include <string_view>
#include <vector>

namespace {

using namespace btblock;
using bench::KeySpace;
using bench::Run;
using test::Packet;

constexpr int tc_next = -1, tc_drop = 2;
constexpr unsigned most_bans = 1u << 20, flow_capacity = 262144;
constexpr unsigned usual_capacity = 65536, big_capacity = most_bans + 16; // of the table of bans
constexpr std::uint32_t ban_base = 0x0b000000;                            // 11.0.0.0 and on
const std::string xdp_filter_dir = "/usr/lib/x86_64-linux-gnu/bpf";

[[noreturn]] void fail(const std::string& why) {
    std::fprintf(stderr, "bpf_run: %s\n", why.c_str());
    std::exit(1);
}

template <class T> T need(Result<T> r) {
    return r ? std::move(*r) : (fail(r.error().message), std::move(*r));
}

std::uint64_t now_ns() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * BT_NSEC_PER_SEC + static_cast<std::uint64_t>(t.tv_nsec);
}

std::string numbered(const std::string& name, unsigned n) {
    return name + "/" + std::to_string(n);
}

bt_addr v4(std::uint32_t address) {
    return test::address(std::to_string(address >> 24) + "." + std::to_string(address >> 16 & 255) + "." +
                         std::to_string(address >> 8 & 255) + "." + std::to_string(address & 255));
}

// xdp-filter as `xdp-filter load` puts it on a device (all features), or with addresses only.
struct XdpFilter {
    std::string name;
    std::optional<bench::ObjectFile> object;

    [[nodiscard]] int program() const { return object->program(); }
    void deny(std::uint32_t address, bool source) const {
        constexpr std::uint64_t src = 1, dst = 2, denied = 16; // MAP_FLAG_* of xdp-filter
        const std::vector<std::uint64_t> value(static_cast<std::size_t>(libbpf_num_possible_cpus()),
                                               denied | (source ? src : dst));
        const std::uint32_t key = __builtin_bswap32(address);
        if (bpf_map_update_elem(object->map("filter_ipv4"), &key, value.data(), BPF_ANY) != 0)
            fail("xdp-filter refuses an address");
    }
    void forgive(std::uint32_t address) const {
        const std::uint32_t key = __builtin_bswap32(address);
        bpf_map_delete_elem(object->map("filter_ipv4"), &key);
    }
};

struct Case {
    std::string name;
    int expect; // the program's answer; a run with another one measured something else
    std::function<Run()> run;
    std::function<void()> before = [] {}, after = [] {};
};

class Bench {
public:
    Bench(bool quick, const std::string& xdp_filter, unsigned bans, bench::Series& series)
        : rounds_(quick ? 2 : 9), repeats_(quick ? 20'000 : 200'000),
          object_(need(bpf::Object::load(need(bpf::probe_features()), {bans, flow_capacity, 65536}))),
          maps_(need(object_.maps())), tc_(object_.program_fd(bpf::Program::ingress_l2)),
          xdp_(object_.program_fd(bpf::Program::xdp)), empty_tc_(bench::empty_program(BPF_PROG_TYPE_SCHED_CLS, -1)),
          empty_xdp_(bench::empty_program(BPF_PROG_TYPE_XDP, XDP_PASS)),
          random_(bench::RandomKeys::load(BTBLOCK_RANDOM_KEYS)), series_(series) {
        lease(~0ULL);
        if (empty_tc_ < 0 || empty_xdp_ < 0 || !random_)
            fail("cannot load the programs around those that are measured");
        for (const char* prefix : {"10.0.0.0/8", "fc00::/7"})
            if (!maps_.inside.update(net::Prefix::parse(prefix)->lpm(), 1))
                fail("cannot fill the table of inside prefixes");
        for (const char* kind : {"all", "ip"}) {
            const std::string file = xdp_filter + "/xdpfilt_alw_" + kind + ".o";
            XdpFilter filter{std::string("xdp-filter-") + kind, bench::ObjectFile::load(file, bans)};
            if (filter.object)
                filters_.push_back(std::move(filter));
            else
                series_.skip(filter.name, file + " cannot be loaded (apt: xdp-tools)");
        }
    }

    void hot_paths() {
        const auto add = [&](std::vector<Case>& cases, const std::string& name, int program, const Packet& p,
                             int expect) { cases.push_back(on(name, program, p.frame(), expect)); };
        std::vector<Case> cases;
        add(cases, "tc/empty", empty_tc_, in_udp_, tc_next);
        add(cases, "xdp/empty", empty_xdp_, in_udp_, XDP_PASS);
        for (const XdpFilter& filter : filters_) {
            add(cases, filter.name + "/pass", filter.program(), tls_, XDP_PASS);
            for (const bool source : {true, false}) {
                Case drop = on(filter.name + (source ? "/drop" : "/drop-dst"), filter.program(),
                               (source ? in_udp_ : udp_).frame(), XDP_DROP);
                drop.before = [&filter, source] { filter.deny(remote, source); };
                drop.after = [&filter] { filter.forgive(remote); };
                cases.push_back(std::move(drop));
            }
        }
        add(cases, "xdp/pass/tcp", xdp_, tls_, XDP_PASS);
        add(cases, "xdp/pass/udp", xdp_, udp_, XDP_PASS);
        add(cases, "xdp/pass/ipv6", xdp_, tls6_, XDP_PASS);
        cases.push_back(banned("xdp/ban", xdp_, in_udp_, XDP_DROP));
        cases.push_back(banned("xdp/ban-dst", xdp_, udp_, XDP_DROP));
        cases.push_back(banned("xdp/ban/ipv6", xdp_, udp6_.reply(), XDP_DROP));
        cases.push_back(condemned("xdp/condemned", xdp_, udp_, XDP_DROP));

        std::string arp = udp_.frame();
        arp[13] = 6;
        cases.push_back(on("tc/not-ip", tc_, arp, tc_next));
        add(cases, "tc/clean", tc_, tls_, tc_next);
        add(cases, "tc/clean/ipv6", tc_, tls6_, tc_next);
        add(cases, "tc/clean/udp", tc_, udp_, tc_next); // its budget is spent after the first few
        cases.push_back(banned("tc/ban", tc_, in_udp_, tc_drop));
        cases.push_back(banned("tc/ban/ipv6", tc_, udp6_.reply(), tc_drop));
        cases.push_back(condemned("tc/condemned", tc_, udp_, tc_drop));
        add(cases, "tc/blocked-flow", tc_, dht_, tc_drop);
        // HTTP requests are looked at for ever: what an undecided packet costs, again and again. Without a lease, or
        // the first of a run would be marked for user space and the rest with it.
        Case undecided = on("tc/undecided", tc_, page_.frame(), tc_next);
        undecided.before = [this] { lease(0); };
        undecided.after = [this] { lease(~0ULL); };
        cases.push_back(std::move(undecided));
        measure(cases);
    }

    // Cost against the number of bans, on one key and on all of them in turn.
    void bans() {
        const std::uint64_t empty = bench::map_memory(maps_.bans.fd());
        unsigned there = 0;
        for (const unsigned count : {1u << 7, 1u << 10, 1u << 13, 1u << 17, most_bans}) {
            for (; there < count; ++there) {
                ban(v4(ban_base + there));
                for (const XdpFilter& filter : filters_)
                    filter.deny(ban_base + there, true);
            }
            const KeySpace hit{ban_base, count - 1, 26}, miss{ban_base + (64u << 20), count - 1, 26};
            const std::string frame = in_udp_.frame();
            std::vector<Case> cases;
            cases.push_back(over("random/xdp/empty", empty_xdp_, true, hit, frame, XDP_PASS));
            cases.push_back(over("random/xdp/ban", xdp_, true, hit, frame, XDP_DROP));
            cases.push_back(over("random/xdp/pass", xdp_, true, miss, frame, XDP_PASS));
            cases.push_back(over("random/tc/ban", tc_, false, hit, frame, tc_drop));
            cases.push_back(banned("xdp/ban", xdp_, in_udp_, XDP_DROP));
            cases.push_back(on("xdp/pass/tcp", xdp_, tls_.frame(), XDP_PASS));
            cases.push_back(on("tc/clean", tc_, tls_.frame(), tc_next));
            for (const XdpFilter& filter : filters_) {
                cases.push_back(over("random/" + filter.name + "/drop", filter.program(), true, hit, frame, XDP_DROP));
                cases.push_back(over("random/" + filter.name + "/pass", filter.program(), true, miss, frame, XDP_PASS));
            }
            for (Case& c : cases)
                c.name = numbered(c.name, count);
            measure(cases);
        }
        series_.add("memory/ban", static_cast<double>(bench::map_memory(maps_.bans.fd()) - empty) / most_bans);
        for (const XdpFilter& filter : filters_) // its table is made in full at load
            series_.add("memory/" + filter.name,
                        static_cast<double>(bench::map_memory(filter.object->map("filter_ipv4"))) / big_capacity);
        for (unsigned i = 0; i < most_bans; ++i)
            (void)maps_.bans.erase(v4(ban_base + i));
    }

    // Cost against the number of half-flows: to the capacity and beyond.
    void flows() {
        const std::uint32_t base = ban_base + (128u << 20);
        for (const unsigned count : {1u << 10, 1u << 14, 1u << 17, flow_capacity, 2 * flow_capacity}) {
            const KeySpace space{base, count - 1, 26};
            const std::string tls = tls_.reply().frame();
            (void)random_->run(tc_, false, space, tls, count); // each half-flow proves itself clean
            std::vector<Case> cases;
            cases.push_back(over("random/tc/empty", empty_tc_, false, space, tls, tc_next));
            cases.push_back(over("random/tc/clean", tc_, false, space, tls, tc_next));
            for (Case& c : cases)
                c.name = numbered(c.name, count);
            measure(cases);
        }
        // the table is full now: a new half-flow pushes an old one out
        new_flows("full");
    }

    // Every packet opens a half-flow.
    void new_flows(const std::string& state) {
        const KeySpace space{ban_base, (1u << 24) - 1, 26};
        const auto opening = [&](const std::string& kind, const Packet& p) {
            return over("random/tc/new/" + kind + "/" + state, tc_, false, space, p.frame(), tc_next);
        };
        measure({over("random/tc/new/empty/" + state, empty_tc_, false, space, in_udp_.frame(), tc_next),
                 opening("udp", in_udp_), opening("tls", tls_.reply()), opening("tcp", random_tcp_.reply())},
                50'000);
    }

    // Rules are asked when a half-flow is made.
    void allow_rules() {
        const KeySpace space{ban_base, (1u << 24) - 1, 26};
        const std::uint64_t empty = bench::map_memory(maps_.allow.fd());
        bt_allow rule{};
        rule.expires_ns = ~0ULL;
        unsigned there = 0;
        for (const unsigned count : {0u, 100u, 10'000u}) {
            for (; there < count; ++there)
                if (!maps_.allow.update({128, v4(0xc6120000 + there)}, rule))
                    fail("cannot add an allow rule");
            measure({over(numbered("random/tc/new/udp/allow", count), tc_, false, space, in_udp_.frame(), tc_next)},
                    50'000);
        }
        series_.add("memory/allow", static_cast<double>(bench::map_memory(maps_.allow.fd()) - empty) / there);
        for (unsigned i = 0; i < there; ++i)
            (void)maps_.allow.erase({128, v4(0xc6120000 + i)});
    }

    // The other tables are made in full when the programs are loaded.
    void memory() {
        const auto preallocated = [&](const char* name, const auto& map) {
            series_.add(std::string("memory/") + name,
                        static_cast<double>(bench::map_memory(map.fd())) / map.capacity());
        };
        preallocated("half-flow", maps_.flows);
        preallocated("socket", maps_.sockets);
        preallocated("peer", maps_.peers);
        preallocated("client", maps_.clients);
    }

private:
    static constexpr std::uint32_t remote = 0xcb007109; // test::remote4

    void lease(std::uint64_t until_ns) const {
        bt_config config{};
        config.lease_until_ns = until_ns;
        config.mark = BT_DEFAULT_MARK;
        config.new_flow_rate = ~0u;
        if (!maps_.write_config(config))
            fail("cannot configure the programs");
    }
    [[nodiscard]] Case on(std::string name, int program, std::string frame, int expect) const {
        return {std::move(name), expect, [=, this] { return bench::prog_run(program, frame, repeats_); }};
    }
    [[nodiscard]] Case over(std::string name, int program, bool xdp, KeySpace space, std::string frame,
                            int expect) const {
        return {std::move(name), expect, [=, this] { return random_->run(program, xdp, space, frame, repeats_); }};
    }
    void ban(const bt_addr& who) const {
        bt_ban entry{};
        entry.expires_ns = ~0ULL;
        if (!maps_.bans.update(who, entry))
            fail("cannot add a ban");
    }
    [[nodiscard]] Case banned(std::string name, int program, const Packet& p, int expect) const {
        Case c = on(std::move(name), program, p.frame(), expect);
        const bt_addr who = p.tuple().src.b[0] == 0xfd || p.tuple().src.b[12] == 10 ? p.tuple().dst : p.tuple().src;
        c.before = [this, who] { ban(who); };
        c.after = [this, who] { (void)maps_.bans.erase(who); };
        return c;
    }
    [[nodiscard]] Case condemned(std::string name, int program, const Packet& p, int expect) const {
        Case c = on(std::move(name), program, p.frame(), expect);
        const bt_tuple t = p.tuple();
        const bt_endpoint socket{t.src, t.sport, 17, 0};
        c.before = [this, t, socket] {
            (void)maps_.flows.erase(t);
            if (!maps_.sockets.update(socket, {now_ns() + 600 * BT_NSEC_PER_SEC, 0, 0, 0}))
                fail("cannot condemn a socket");
        };
        c.after = [this, t, socket] {
            (void)maps_.flows.erase(t);
            (void)maps_.sockets.erase(socket);
        };
        return c;
    }

    // All cases in turn, round by round: what changes on the machine meanwhile meets all of them.
    void measure(const std::vector<Case>& cases, unsigned warm_up = 0) {
        for (int round = 0; round < rounds_; ++round)
            for (const Case& c : cases) {
                c.before();
                Run run = c.run();
                if (round == 0 && warm_up == 0)
                    run = c.run();
                c.after();
                if (run.ns < 0)
                    series_.skip(c.name, "the kernel refuses this run");
                else if (run.answer != c.expect)
                    fail(c.name + ": the program answers " + std::to_string(run.answer) + " instead of " +
                         std::to_string(c.expect));
                else
                    series_.add(c.name, run.ns);
            }
    }

    int rounds_;
    unsigned repeats_;
    bpf::Object object_;
    bpf::Maps maps_;
    int tc_, xdp_, empty_tc_, empty_xdp_;
    std::optional<bench::RandomKeys> random_;
    std::vector<XdpFilter> filters_;
    bench::Series& series_;

    const Packet udp_ = Packet::udp(test::client4, 5000, test::remote4, 6000).payload(test::noise(200, 1));
    const Packet in_udp_ = udp_.reply();
    const Packet udp6_ = Packet::udp(test::client6, 5000, test::remote6, 6000).payload(test::noise(200, 1));
    const Packet tls_ = Packet::tcp(test::client4, 5000, test::remote4, 443).payload(test::tls_hello());
    const Packet tls6_ = Packet::tcp(test::client6, 5000, test::remote6, 443).payload(test::tls_hello());
    const Packet random_tcp_ = Packet::tcp(test::client4, 5001, test::remote4, 4000).payload(test::noise(200, 2));
    const Packet dht_ = Packet::udp(test::client4, 5002, test::remote4, 6000).payload(test::dht_query());
    const Packet page_ =
        Packet::tcp(test::client4, 5003, test::remote4, 80).payload("GET / HTTP/1.1\r\nHost: www.example\r\n\r\n");
};

} // namespace

int main(int argc, char** argv) {
    bool quick = false;
    std::string xdp_filter = xdp_filter_dir, only;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        if (word == "--quick")
            quick = true;
        else if (word == "--xdp-filter" && i + 1 < argc)
            xdp_filter = argv[++i];
        else if (word == "--only" && i + 1 < argc)
            only = argv[++i];
        else
            fail("usage: bpf_run [--quick] [--xdp-filter DIR] [--only memory|hot|new|allow|bans|flows]");
    }
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    bpf::quiet_libbpf();
    bpf::raise_memlock();
    bench::Series series;
    const auto wanted = [&](const char* stage) { return only.empty() || only == stage; };
    if (only != "bans") {
        Bench bench(quick, xdp_filter, usual_capacity, series);
        if (wanted("memory"))
            bench.memory();
        if (wanted("hot"))
            bench.hot_paths();
        if (wanted("new"))
            bench.new_flows("room");
        if (wanted("allow"))
            bench.allow_rules();
        if (wanted("flows"))
            bench.flows();
    }
    if (wanted("bans"))
        Bench(quick, xdp_filter, big_capacity, series).bans();
    series.print();
    return 0;
}
