// SPDX-License-Identifier: MIT
// bpf_run: ns per packet of the kernel programs by BPF_PROG_TEST_RUN, stage by stage, less an empty program of the same
// type in the same run. Caches are hot: a floor, not a forecast.
#include "bpf/Features.h"
#include "bpf/Object.h"
#include "bpf/Scenarios.h"

#include <algorithm>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cstdio>
#include <ctime>
#include <functional>
#include <linux/bpf.h>
#include <sched.h>

namespace {

using namespace btblock;
using test::Packet;

constexpr unsigned repeats = 200'000;
constexpr int runs = 5;

std::uint64_t now_ns() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * BT_NSEC_PER_SEC + static_cast<std::uint64_t>(t.tv_nsec);
}

// Average ns of `repeat` runs back to back; -1 when the kernel refuses.
double once(int program, const std::string& frame, unsigned repeat) {
    LIBBPF_OPTS(bpf_test_run_opts, opts);
    opts.data_in = frame.data();
    opts.data_size_in = static_cast<__u32>(frame.size());
    opts.repeat = static_cast<int>(repeat);
    return bpf_prog_test_run_opts(program, &opts) == 0 ? opts.duration : -1;
}

double best(int program, const std::string& frame) {
    double least = 1e9;
    for (int i = 0; i < runs; ++i)
        least = std::min(least, once(program, frame, repeats));
    return least;
}

int empty_program(bpf_prog_type type, int answer) {
    const bpf_insn code[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, answer}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
    return bpf_prog_load(type, "bt_empty", "Dual MIT/GPL", code, 2, nullptr);
}

struct Row {
    const char* name;
    bool xdp;
    std::function<double()> measure;
};

template <class T> T need(Result<T> r) {
    if (r)
        return std::move(*r);
    std::fprintf(stderr, "bpf_run: %s\n", r.error().message.c_str());
    std::exit(static_cast<int>(r.error().exit_code));
}

} // namespace

int main() {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    bpf::quiet_libbpf();
    bpf::raise_memlock();
    const bpf::Features features = need(bpf::probe_features());
    const bpf::Object object = need(bpf::Object::load(features, {65536, 262144, 65536}));
    const bpf::Maps maps = need(object.maps());
    bt_config config{};
    config.lease_until_ns = ~0ULL;
    config.mark = 0x20000000;
    config.event_rate = 0;
    config.new_flow_rate = ~0u;
    if (!maps.write_config(config) || !maps.inside.update(net::Prefix::parse("10.0.0.0/8")->lpm(), 1))
        return 1;

    const int tc = object.program_fd(bpf::Program::ingress_l2), xdp = object.program_fd(bpf::Program::xdp);
    const Packet plain = Packet::udp(test::client4, 5000, test::remote4, 6000).payload(test::noise(200, 1));
    const Packet tls = Packet::tcp(test::client4, 5000, test::remote4, 443).payload(test::tls_hello());
    const auto ban = [&](const std::string& who) {
        bt_ban entry{};
        entry.expires_ns = ~0ULL;
        return static_cast<bool>(maps.bans.update(test::address(who), entry));
    };
    const auto on = [&](int program, const Packet& p) { return [=] { return best(program, p.frame()); }; };
    // The state that a packet finds is restored before each run of one; the rest of the system call is not counted.
    const auto first_packet = [&](const Packet& p) {
        return [&, p] {
            const std::string frame = p.frame();
            std::vector<double> times;
            for (int i = 0; i < 5000; ++i) {
                (void)maps.flows.erase(p.tuple());
                times.push_back(once(tc, frame, 1));
            }
            std::nth_element(times.begin(), times.begin() + 500, times.end());
            return times[500];
        };
    };
    const auto filled = [&](int program, const Packet& p) {
        return [&, program, p] {
            for (unsigned i = 0; i < 10'000; ++i)
                if (!ban("198.18." + std::to_string(i >> 8) + "." + std::to_string(i & 255)))
                    return -1.0;
            return best(program, p.frame());
        };
    };
    const auto banned = [&](int program, const Packet& p) {
        return [&, program, p] {
            if (!ban(test::remote4))
                return -1.0;
            const double ns = best(program, p.frame());
            return maps.bans.erase(test::address(test::remote4)) ? ns : -1.0;
        };
    };
    const auto condemned = [&](int program, const Packet& p) {
        return [&, program, p] {
            (void)maps.flows.erase(p.tuple());
            const bt_endpoint socket{p.tuple().src, p.tuple().sport, 17, 0};
            if (!maps.sockets.update(socket, {now_ns() + 600 * BT_NSEC_PER_SEC, 0, 0, 0}))
                return -1.0;
            const double ns = best(program, p.frame());
            (void)maps.flows.erase(p.tuple());
            return maps.sockets.erase(socket) ? ns : -1.0;
        };
    };
    std::string arp = plain.frame();
    arp[13] = 6;

    const std::vector<Row> rows{
        {"TC, not IP", false, [&] { return best(tc, arp); }},
        {"TC, clean flow (no bans)", false, on(tc, tls)},
        {"TC, budget spent (no bans)", false, on(tc, plain)},
        {"TC, first packet of a flow: random UDP *", false, first_packet(plain)},
        {"TC, first packet of a flow: TLS *", false, first_packet(tls)},
        {"TC, ban hit", false, banned(tc, plain)},
        {"TC, condemned socket", false, condemned(tc, plain)},
        {"XDP, ban miss (no bans)", true, on(xdp, tls)},
        {"XDP, ban and socket miss (no bans)", true, on(xdp, plain)},
        {"XDP, ban hit", true, banned(xdp, plain)},
        {"XDP, condemned socket", true, condemned(xdp, plain)},
        {"XDP, ban miss (10k bans)", true, filled(xdp, tls)},
        {"TC, clean flow (10k bans)", false, on(tc, tls)},
        {"TC, ban hit (10k bans)", false, banned(tc, plain)},
    };
    const int empty_tc = empty_program(BPF_PROG_TYPE_SCHED_CLS, -1),
              empty_xdp = empty_program(BPF_PROG_TYPE_XDP, XDP_PASS);
    if (empty_tc < 0 || empty_xdp < 0) {
        std::perror("bpf_run: loading the empty programs");
        return 1;
    }
    const double base_tc = best(empty_tc, plain.frame()), base_xdp = best(empty_xdp, plain.frame());
    std::vector<double> base_once(5000);
    for (double& ns : base_once)
        ns = once(empty_tc, plain.frame(), 1);
    std::nth_element(base_once.begin(), base_once.begin() + 500, base_once.end());

    std::printf("least of %d runs of %u packets; empty program: TC %.0f ns, XDP %.0f ns, TC * %.0f ns\n", runs, repeats,
                base_tc, base_xdp, base_once[500]);
    std::printf("%-44s %8s %8s %9s\n", "stage", "ns", "- empty", "ratio");
    double reference = 0;
    for (const Row& row : rows) {
        const double ns = row.measure();
        if (ns < 0) {
            std::printf("%-44s could not be measured\n", row.name);
            continue;
        }
        const bool single = std::string_view(row.name).back() == '*';
        const double net = ns - (row.xdp ? base_xdp : single ? base_once[500] : base_tc);
        if (reference == 0 && std::string_view(row.name).find("clean flow") != std::string_view::npos)
            reference = net;
        std::printf("%-44s %8.0f %8.0f", row.name, ns, net);
        if (reference > 0)
            std::printf(" %8.2fx", net / reference);
        std::printf("\n");
    }
    std::printf("ratio: to the clean flow without bans. * one packet a run, tenth percentile: cold, clock included.\n");
    return 0;
}
