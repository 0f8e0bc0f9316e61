// SPDX-License-Identifier: MIT
// The path compiled for user space and the one in the kernel decide alike, for the scenarios and for mutations of them.
#include "bpf/Kernel.h"
#include "bpf/Scenarios.h"
#include "detect/Pipeline.h"

#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <span>

namespace btblock::test {
namespace {

constexpr std::size_t packets_wanted = 100'000;
constexpr std::chrono::seconds time_allowed{10};
constexpr std::size_t sequences_a_round = 1500; // fewer clients than the kernel's table holds

std::span<const std::uint8_t> bytes(const std::string& s) {
    return {reinterpret_cast<const std::uint8_t*>(s.data()), s.size()};
}

std::string framed(const std::string& ip) {
    const bool v4 = !ip.empty() && static_cast<unsigned char>(ip[0]) >> 4 == 4;
    return std::string(12, '\x02') + be(v4 ? 0x0800 : 0x86dd, 2) + ip;
}

std::string describe(const bt_flow& f) {
    return "verdict " + std::to_string(f.verdict) + " seen " + std::to_string(f.seen) + " matched " +
           std::to_string(f.matched) + " flags " + std::to_string(f.flags) + " turn " + std::to_string(f.turn) +
           " want " + std::to_string(f.want) + " next_seq " + std::to_string(f.next_seq) + " evidence " +
           std::to_string(f.evidence) + " first_len " + std::to_string(f.first_len) + " turn_len " +
           std::to_string(f.turn_len) + " utp " + std::to_string(f.utp_id) + "/" + std::to_string(f.utp_seq);
}

class DifferentialTest : public KernelTest {
protected:
    // Both with empty tables and the same settings.
    static std::unique_ptr<detect::Pipeline> start(bool names) {
        kernel().reset();
        kernel().config.flags = names ? BT_C_NAMES : 0;
        kernel().configure();
        detect::PipelineOptions o;
        o.names = names;
        o.inside = {net::Prefix::parse("10.0.0.0/8")->lpm(), net::Prefix::parse("fc00::/7")->lpm()};
        return std::make_unique<detect::Pipeline>(std::move(o));
    }

    enum class Same { yes, punted, no };

    // One packet through both. After a punt user space goes its own way: its deep detectors answer at once.
    Same compare(detect::Pipeline& pipeline, const std::string& ip) {
        const std::uint64_t punted = pipeline.counter(BT_S_PUNTED);
        const detect::Decision mine = pipeline.packet(bytes(ip), ip.size(), now_ns());
        const Outcome theirs = kernel().run(bpf::Program::ingress_l2, framed(ip));
        if (theirs.code <= -1000)
            return Same::punted; // not run, so the states differ from now on
        if (pipeline.counter(BT_S_PUNTED) != punted) {
            EXPECT_EQ(theirs.mark, mark_bit);
            EXPECT_EQ(theirs.code, tc_next);
            ++punts_;
            return theirs.mark == mark_bit ? Same::punted : Same::no;
        }
        EXPECT_EQ(theirs.mark, 0u);
        EXPECT_EQ(theirs.code == tc_drop, mine.action == BT_ACT_DROP);
        drops_ += mine.action == BT_ACT_DROP;
        return theirs.mark == 0 && (theirs.code == tc_drop) == (mine.action == BT_ACT_DROP) ? Same::yes : Same::no;
    }

    // The half-flows are the same, but for who made them and when.
    bool same_flow(const detect::Pipeline& pipeline, const bt_tuple& tuple) {
        const auto found = kernel().maps.flows.lookup(tuple);
        const bt_flow* mine = pipeline.flow(tuple);
        if (!found || found->has_value() != (mine != nullptr))
            return false;
        if (!mine)
            return true;
        bt_flow theirs = **found;
        theirs.owner = mine->owner;
        theirs.last_seen_ns = mine->last_seen_ns;
        theirs.epoch = mine->epoch; // a short cut of the kernel
        if (std::memcmp(&theirs, mine, sizeof theirs) == 0)
            return true;
        ADD_FAILURE() << "kernel:   " << describe(theirs) << "\npipeline: " << describe(*mine);
        return false;
    }

    std::uint64_t punts_ = 0, drops_ = 0;
};

TEST_F(DifferentialTest, Scenarios) {
    for (const bool names : {false, true})
        for (const Scenario& scenario : all_scenarios()) {
            SCOPED_TRACE(scenario.name + (names ? ", names watched" : ""));
            const auto pipeline = start(names);
            for (const Step& step : scenario.steps) {
                const Same same = compare(*pipeline, step.packet.ip());
                ASSERT_NE(same, Same::no);
                if (same == Same::punted)
                    break;
                EXPECT_TRUE(same_flow(*pipeline, step.packet.tuple()));
            }
        }
    EXPECT_GT(drops_, 50u);
    EXPECT_GT(punts_, 50u);
}

// Bits flipped, bytes replaced, cut or grown behind the addresses, packets of a sequence repeated or left out.
TEST_F(DifferentialTest, Mutations) {
    std::mt19937_64 rng(20240229);
    const std::vector<Scenario> all = all_scenarios();
    const auto until = std::chrono::steady_clock::now() + time_allowed;
    std::size_t packets = 0, sequence = 0;
    std::unique_ptr<detect::Pipeline> pipeline;
    while (packets < packets_wanted && std::chrono::steady_clock::now() < until) {
        if (sequence % sequences_a_round == 0)
            pipeline = start(sequence / sequences_a_round % 2);
        ++sequence;
        const Scenario& scenario = all[rng() % all.size()];
        if (scenario.name.rfind("handshake ", 0) == 0 && rng() % 8 != 0)
            continue;                    // there are many of these
        const unsigned rate = rng() % 4; // 0: every packet as it is
        bool open = true;
        for (const Step& step : scenario.steps) {
            if (!open)
                break;
            if (rng() % 16 == 0)
                continue;
            for (int times = rng() % 16 == 0 ? 2 : 1; open && times > 0; --times) {
                Packet p = step.packet;
                // addresses of this sequence alone
                bt_addr from = p.tuple().src, to = p.tuple().dst;
                for (bt_addr* a : {&from, &to}) {
                    a->b[13] = static_cast<bt_u8>(sequence >> 8);
                    a->b[14] = static_cast<bt_u8>(sequence);
                }
                if (to.b[0] != 0xff && !(p.is_v4() && to.b[12] == 239))
                    p.endpoints(from, to);
                else
                    p.endpoints(from, p.tuple().dst);
                std::string ip = p.ip();
                const std::size_t fixed = p.is_v4() ? 20 : 40;
                for (unsigned i = 0; i < rate; ++i) {
                    const std::size_t at =
                        rng() % 8 == 0 ? rng() % (p.is_v4() ? 12 : 8) : fixed + rng() % (ip.size() - fixed);
                    switch (rng() % 5) {
                    case 0: ip[at] = static_cast<char>(rng()); break;
                    case 1:
                        if (at > fixed + 8)
                            ip.resize(at);
                        break;
                    case 2:
                        ip.insert(fixed + rng() % (ip.size() - fixed), 1 + rng() % 40, static_cast<char>(rng()));
                        break;
                    default: ip[at] = static_cast<char>(ip[at] ^ 1 << rng() % 8);
                    }
                }
                ++packets;
                const Same same = compare(*pipeline, ip);
                if (same == Same::no) {
                    std::string hex;
                    for (const char c : ip)
                        hex += "0123456789abcdef"[(c >> 4) & 15], hex += "0123456789abcdef"[c & 15];
                    FAIL() << scenario.name << ", sequence " << sequence << ": " << hex;
                }
                open = same == Same::yes;
                if (open) {
                    ASSERT_TRUE(same_flow(*pipeline, p.tuple())) << scenario.name << ", sequence " << sequence;
                }
            }
        }
    }
    std::printf("%zu packets in %zu sequences, %llu drops, %llu punts agreed\n", packets, sequence,
                static_cast<unsigned long long>(drops_), static_cast<unsigned long long>(punts_));
    EXPECT_GT(packets, packets_wanted / 10);
    EXPECT_GT(drops_, 1000u);
    EXPECT_GT(punts_, 1000u);
}

} // namespace
} // namespace btblock::test
