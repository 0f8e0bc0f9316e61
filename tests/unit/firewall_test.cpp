// SPDX-License-Identifier: MIT
#include "core/Fd.h"
#include "firewall/Command.h"
#include "firewall/IptablesRules.h"
#include "firewall/MarkCheck.h"
#include "firewall/NftRules.h"
#include "firewall/PuntFilter.h"
#include "firewall/RuleSet.h"
#include "unit/own_netns.h"

#include <algorithm>
#include <arpa/inet.h>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>

namespace {

using btblock::ExitCode;
using namespace btblock::firewall;
using own_netns::output_of;
using own_netns::shell;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr std::uint32_t mark = 0x20000000;

RuleOptions main_options() {
    return {.instance = "main", .mark = mark, .queue_first = 7, .queue_count = 1, .bypass = true};
}

// ---- Command

TEST(Command, CollectsOutputAndExitCode) {
    auto output = run_command({"sh", "-c", "cat; echo problem >&2; exit 3"}, "some\ninput");
    ASSERT_TRUE(output) << output.error().message;
    EXPECT_EQ(output->exit_code, 3);
    EXPECT_FALSE(output->succeeded());
    EXPECT_EQ(output->out, "some\ninput");
    EXPECT_EQ(output->err, "problem\n");
    EXPECT_EQ(output->complaint(), "problem");
}

TEST(Command, NoShellSeesTheArguments) {
    auto output = run_command({"printf", "%s|", "a b", "$HOME", "`id`", "*", ""});
    ASSERT_TRUE(output);
    EXPECT_EQ(output->out, "a b|$HOME|`id`|*||");
}

TEST(Command, ComplaintIsOneLine) {
    EXPECT_EQ((CommandOutput{1, "", "first\n\tsecond\n\n"}.complaint()), "first second");
    EXPECT_EQ((CommandOutput{1, "", "3:9-14: Error\n queue num   0\n ^^^^^\n"}.complaint()),
              "3:9-14: Error queue num 0");
    EXPECT_EQ((CommandOutput{4, "", " \n"}.complaint()), "exit code 4");
    EXPECT_EQ((CommandOutput{4, "", ""}.complaint()), "exit code 4");
}

TEST(Command, MissingProgram) {
    auto output = run_command({"btblock-no-such-program"});
    ASSERT_FALSE(output);
    EXPECT_EQ(output.error().message, "btblock-no-such-program: no such program");
    EXPECT_FALSE(run_command({"/etc/passwd"})) << "a file, but not a program";
    EXPECT_FALSE(run_command({"/etc"}));
    EXPECT_FALSE(run_command({}));
}

TEST(Command, FoundWithoutPath) {
    const char* path = std::getenv("PATH");
    const std::string saved = path != nullptr ? path : "";
    setenv("PATH", "relative:", 1);
    EXPECT_TRUE(find_tool("sh"));
    setenv("PATH", saved.c_str(), 1);
}

TEST(Command, KilledAfterTheLimitWithItsChildren) {
    const auto before = std::chrono::steady_clock::now();
    auto output = run_command({"sh", "-c", "sleep 30 & sleep 30"}, "", std::chrono::milliseconds(200));
    EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(10));
    ASSERT_FALSE(output);
    EXPECT_THAT(output.error().message, HasSubstr("no answer within 200 ms"));
}

TEST(Command, DeathBySignalIsAnError) {
    auto output = run_command({"sh", "-c", "kill -9 $$"});
    ASSERT_FALSE(output);
    EXPECT_THAT(output.error().message, HasSubstr("killed by signal 9"));
}

TEST(Command, LargeOutputIsCutNotStuck) {
    auto output = run_command({"sh", "-c", "head -c 3000000 /dev/zero; head -c 300000 /dev/zero >&2"});
    ASSERT_TRUE(output) << output.error().message;
    EXPECT_EQ(output->out.size(), 1u << 20);
    EXPECT_EQ(output->err.size(), 300000u);
}

TEST(Command, LargeInputUnreadIsNoProblem) {
    auto output = run_command({"true"}, std::string(1 << 20, 'x'));
    ASSERT_TRUE(output);
    EXPECT_EQ(output->exit_code, 0);
}

TEST(Command, ChildHasDefaultSignalsAndPlainLocale) {
    sigset_t blocked;
    sigset_t old;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &blocked, &old);
    auto output = run_command({"sh", "-c", "echo $LC_ALL; kill -TERM $$; echo survived"});
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
    ASSERT_FALSE(output) << output->out;
    EXPECT_THAT(output.error().message, HasSubstr("signal 15"));
    setenv("LC_MESSAGES", "de_DE.UTF-8", 1);
    output = run_command({"sh", "-c", "echo $LC_ALL$LC_MESSAGES"});
    unsetenv("LC_MESSAGES");
    ASSERT_TRUE(output);
    EXPECT_EQ(output->out, "C\n");
}

TEST(Command, InheritsNoDescriptors) {
    const int careless = dup(STDERR_FILENO); // not close-on-exec
    auto output = run_command({"ls", "/proc/self/fd"});
    close(careless);
    ASSERT_TRUE(output);
    EXPECT_EQ(output->out, "0\n1\n2\n3\n"); // 3: ls reading the directory
}

TEST(Command, WorksWithStandardStreamsClosed) {
    std::fflush(nullptr);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        close(0);
        close(1);
        close(2);
        auto output = run_command({"sh", "-c", "cat; echo e >&2"}, "text");
        _exit(output && output->out == "text" && output->err == "e\n" ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
}

// ---- options and names

TEST(Firewall, InstanceNames) {
    for (const char* name : {"main", "a", "vpn-1", "A_b-9", "0"})
        EXPECT_TRUE(check_instance(name)) << name;
    for (const std::string& name : {std::string(), std::string("a b"), std::string("a/b"), std::string("../x"),
                                    std::string("-a"), std::string("a;b"), std::string("a\n"), std::string("\xc3\xa4"),
                                    std::string("a.b"), std::string("a~b"), std::string(65, 'a')}) {
        auto checked = check_instance(name);
        ASSERT_FALSE(checked) << name;
        EXPECT_EQ(checked.error().exit_code, ExitCode::usage);
        EXPECT_FALSE(remove_all_rules(name));
    }
}

TEST(Firewall, OptionsOutOfRange) {
    auto bad = [](auto change) {
        RuleOptions options = main_options();
        change(options);
        auto made = make_rule_set(Backend::nftables, options);
        return !made && made.error().exit_code == ExitCode::usage;
    };
    EXPECT_TRUE(bad([](RuleOptions& o) { o.mark = 0; }));
    EXPECT_TRUE(bad([](RuleOptions& o) { o.queue_count = 0; }));
    EXPECT_TRUE(bad([](RuleOptions& o) { o.instance = "a b"; }));
    EXPECT_TRUE(bad([](RuleOptions& o) {
        o.queue_first = 65535;
        o.queue_count = 2;
    }));
    EXPECT_FALSE(bad([](RuleOptions& o) { o.queue_first = 65535; }));
    EXPECT_FALSE(bad([](RuleOptions& o) {
        o.queue_first = 65000;
        o.queue_count = 536;
    }));
}

TEST(Firewall, NoneDoesNothing) {
    auto rules = make_rule_set(Backend::none, {});
    ASSERT_TRUE(rules);
    EXPECT_EQ((*rules)->name(), "none");
    EXPECT_TRUE((*rules)->install());
    EXPECT_TRUE((*rules)->remove());
}

TEST(Firewall, NftText) {
    EXPECT_EQ(nft_install_text(main_options()), "table inet btblock_main\n"
                                                "delete table inet btblock_main\n"
                                                "table inet btblock_main {\n"
                                                "\tchain prerouting {\n"
                                                "\t\ttype filter hook prerouting priority -300; policy accept;\n"
                                                "\t\tmeta mark & 0x20000000 == 0x20000000 queue num 7 bypass\n"
                                                "\t}\n"
                                                "}\n");
    RuleOptions several = main_options();
    several.queue_count = 4;
    several.bypass = false;
    several.mark = 0x80;
    EXPECT_THAT(nft_install_text(several), HasSubstr("meta mark & 0x80 == 0x80 queue num 7-10\n"));
    EXPECT_NE(nft_table_name("a-b"), nft_table_name("a_b"));
}

TEST(Firewall, IptablesText) {
    const std::string rule = "-A BTBLOCK-main -j NFQUEUE ";
    const std::string jump = "PREROUTING -m mark --mark 0x20000000/0x20000000 -j BTBLOCK-main";
    const std::string start = "*raw\n:BTBLOCK-main - [0:0]\n" + rule;
    EXPECT_EQ(iptables_install_text(main_options(), {}),
              start + "--queue-num 7 --queue-bypass\n-A " + jump + "\nCOMMIT\n");
    EXPECT_EQ(iptables_install_text(main_options(), {jump}), start + "--queue-num 7 --queue-bypass\nCOMMIT\n")
        << "a jump that is there stays";
    RuleOptions several = main_options();
    several.queue_count = 4;
    several.bypass = false;
    EXPECT_EQ(iptables_install_text(several, {"PREROUTING -j BTBLOCK-main", "PREROUTING -i x -j BTBLOCK-main"}),
              start +
                  "--queue-balance 7:10\n-D PREROUTING -j BTBLOCK-main\n-D PREROUTING -i x -j BTBLOCK-main\n"
                  "-A " +
                  jump + "\nCOMMIT\n");
    EXPECT_EQ(iptables_remove_text("BTBLOCK-main", {"OUTPUT -j BTBLOCK-main"}, true),
              "*raw\n-D OUTPUT -j BTBLOCK-main\n-F BTBLOCK-main\n-X BTBLOCK-main\nCOMMIT\n");
}

RuleOptions filter_options() {
    RuleOptions options = main_options();
    options.filter = {
        .devices = {"wan0", "wan1"}, .pass_program = "/p/pass", .drop_program = "/p/drop", .own_programs = false};
    return options;
}

TEST(Firewall, PuntFilterText) {
    const std::string chain = "*mangle\n:BTBLOCK-main - [0:0]\n"
                              "-A BTBLOCK-main -i wan0 -j RETURN\n-A BTBLOCK-main -i wan1 -j RETURN\n"
                              "-A BTBLOCK-main -m bpf --object-pinned /p/pass -j RETURN\n"
                              "-A BTBLOCK-main -m bpf --object-pinned /p/drop -j DROP\n"
                              "-A BTBLOCK-main -j NFQUEUE --queue-num 7 --queue-bypass\n";
    RuleOptions options = filter_options();
    const std::vector<std::string> forward{"FORWARD ! -i wan1 -o wan0 -j BTBLOCK-main",
                                           "FORWARD ! -i wan0 -o wan1 -j BTBLOCK-main"};
    EXPECT_EQ(punt_filter_jumps(options), forward);
    EXPECT_EQ(punt_filter_text(options, {}), chain + "-A " + forward[0] + "\n-A " + forward[1] + "\nCOMMIT\n");
    EXPECT_EQ(punt_filter_text(options, forward), chain + "COMMIT\n");
    options.filter.own_programs = true;
    options.filter.devices = {"wan0"};
    EXPECT_EQ(punt_filter_jumps(options), (std::vector<std::string>{"FORWARD ! -i wan0 -o wan0 -j BTBLOCK-main",
                                                                    "OUTPUT -o wan0 -j BTBLOCK-main"}));
    EXPECT_THAT(punt_filter_text(options, forward), HasSubstr("-D FORWARD ! -i wan0 -o wan1 -j BTBLOCK-main\n"));
    options.filter.forwarded = false;
    EXPECT_EQ(punt_filter_jumps(options), std::vector<std::string>{"OUTPUT -o wan0 -j BTBLOCK-main"});
}

TEST(Firewall, IptablesChainNames) {
    EXPECT_EQ(iptables_chain_name("main"), "BTBLOCK-main");
    const std::string longest(20, 'a');
    EXPECT_EQ(iptables_chain_name(longest), "BTBLOCK-" + longest);
    const std::string one = iptables_chain_name(std::string(40, 'a') + "1");
    const std::string two = iptables_chain_name(std::string(40, 'a') + "2");
    EXPECT_EQ(one.size(), 28u);
    EXPECT_NE(one, two);
    EXPECT_EQ(one, iptables_chain_name(std::string(40, 'a') + "1"));
}

TEST(Firewall, IptablesListing) {
    const std::string listing = "-P PREROUTING ACCEPT\n-P OUTPUT ACCEPT\n-N BTBLOCK-main\n-N BTBLOCK-main2\n"
                                "-A PREROUTING -j BTBLOCK-main2\n"
                                "-A PREROUTING -m comment --comment \"not -j BTBLOCK-main really\" -j ACCEPT\n"
                                "-A PREROUTING -i eth0 -j BTBLOCK-main\n-A OUTPUT -g BTBLOCK-main\n"
                                "-A BTBLOCK-main -m mark --mark 0x1/0x1 -j NFQUEUE --queue-num 0\n";
    const ChainState state = iptables_chain_state(listing, "BTBLOCK-main");
    EXPECT_TRUE(state.exists);
    EXPECT_THAT(state.jumps, ElementsAre("PREROUTING -i eth0 -j BTBLOCK-main", "OUTPUT -g BTBLOCK-main"));
    const ChainState none = iptables_chain_state(listing, "BTBLOCK-mai");
    EXPECT_FALSE(none.exists);
    EXPECT_THAT(none.jumps, IsEmpty());
}

// ---- marks

TEST(MarkCheck, WhichRulesUseTheBit) {
    const auto conflict = [](std::uint32_t value, std::uint32_t mask) {
        return mark_conflict(mark, {{.priority = 100, .value = value, .mask = mask, .table = 52}}).has_value();
    };
    EXPECT_FALSE(mark_conflict(mark, {}));
    EXPECT_FALSE(conflict(0xca6c, 0xffffffff)) << "wg-quick";
    EXPECT_TRUE(conflict(0x2000ca6c, 0xffffffff)) << "a whole value that needs the bit";
    EXPECT_FALSE(conflict(0x80000, 0xff0000)) << "Tailscale";
    EXPECT_TRUE(conflict(0x20000000, 0x20000000));
    EXPECT_TRUE(conflict(0x10000000, 0xf0000000)) << "a field that the bit is part of";
    EXPECT_TRUE(conflict(0, 0x20000000));
    EXPECT_FALSE(conflict(0x10000000, 0xdfffffff));
    const auto text = mark_conflict(mark, {{.ipv6 = true, .priority = 9, .value = mark, .mask = mark, .table = 52}});
    EXPECT_EQ(*text, "'ip -6 rule' 9: fwmark 0x20000000/0x20000000 lookup 52");
}

TEST(MarkCheck, AsksTheKernel) {
    SKIP_WITHOUT_NETNS();
    own_netns::run([] {
        EXPECT_TRUE(check_mark_free(mark));
        ASSERT_TRUE(shell("ip rule add not fwmark 0xca6c table 51820"));
        ASSERT_TRUE(shell("ip rule add fwmark 0x80000/0xff0000 table 52"));
        ASSERT_TRUE(shell("ip rule add from 10.0.0.0/8 table 53"));
        EXPECT_EQ(read_mark_rules().operator*().size(), 2u);
        EXPECT_TRUE(check_mark_free(mark));
        EXPECT_FALSE(check_mark_free(0x40000));
        ASSERT_TRUE(shell("ip -6 rule add fwmark 0x20000000/0x30000000 table 54 priority 77"));
        auto refused = check_mark_free(mark);
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().exit_code, ExitCode::refused);
        EXPECT_THAT(refused.error().message, HasSubstr("'ip -6 rule' 77"));
        EXPECT_TRUE(check_mark_free(0x40000000));
    });
}

// ---- rules in the kernel

std::string skip_reason(Backend backend) {
    if (std::string reason = own_netns::missing(); !reason.empty())
        return reason;
    std::string said;
    int ends[2];
    if (pipe(ends) != 0)
        return "no pipe";
    const pid_t child = fork();
    if (child == 0) {
        if (unshare(CLONE_NEWNET) != 0)
            _exit(0);
        auto probed = probe(backend, main_options());
        const std::string text = probed ? "" : probed.error().message;
        _exit(write(ends[1], text.data(), text.size()) < 0 ? 1 : 0);
    }
    close(ends[1]);
    char buffer[1024];
    for (ssize_t n = 0; (n = read(ends[0], buffer, sizeof buffer)) > 0;)
        said.append(buffer, static_cast<std::size_t>(n));
    close(ends[0]);
    waitpid(child, nullptr, 0);
    return said;
}

#define SKIP_WITHOUT_BACKEND(backend)                                                                                  \
    if (const std::string reason = skip_reason(backend); !reason.empty())                                              \
    GTEST_SKIP() << reason

// Counters aside, everything the firewall holds, as the operator sees it.
std::string everything() {
    return output_of("nft -s list ruleset") + output_of("iptables -t raw -S") + output_of("ip6tables -t raw -S") +
           output_of("iptables -t filter -S");
}

// Whether a UDP datagram sent to oneself with this mark arrives.
bool arrives(int family, std::uint32_t packet_mark) {
    const btblock::Fd receiver(socket(family, SOCK_DGRAM, 0));
    const btblock::Fd sender(socket(family, SOCK_DGRAM, 0));
    sockaddr_storage address{};
    socklen_t size = 0;
    if (family == AF_INET) {
        auto* v4 = reinterpret_cast<sockaddr_in*>(&address);
        v4->sin_family = AF_INET;
        v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        size = sizeof *v4;
    } else {
        auto* v6 = reinterpret_cast<sockaddr_in6*>(&address);
        v6->sin6_family = AF_INET6;
        v6->sin6_addr = in6addr_loopback;
        size = sizeof *v6;
    }
    EXPECT_EQ(bind(receiver.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(getsockname(receiver.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    EXPECT_EQ(setsockopt(sender.get(), SOL_SOCKET, SO_MARK, &packet_mark, sizeof packet_mark), 0);
    EXPECT_EQ(sendto(sender.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&address), size), 1);
    pollfd readable{receiver.get(), POLLIN, 0};
    return poll(&readable, 1, 200) == 1;
}

// What every back end must do; runs in an own network namespace.
void exercise(Backend backend) {
    ASSERT_TRUE(shell("ip link set lo up"));
    const std::string untouched = everything();
    RuleOptions options = main_options();
    options.bypass = false; // nobody listens: what the rule takes is dropped
    auto rules = make_rule_set(backend, options);
    ASSERT_TRUE(rules) << rules.error().message;
    ASSERT_TRUE((*rules)->install());
    EXPECT_THAT((*rules)->notes(), IsEmpty());
    for (const int family : {AF_INET, AF_INET6}) {
        EXPECT_FALSE(arrives(family, mark)) << family;
        EXPECT_FALSE(arrives(family, mark | 0xca6c)) << "other bits do not matter";
        EXPECT_TRUE(arrives(family, 0));
        EXPECT_TRUE(arrives(family, ~mark));
    }
    const std::string once = everything();
    EXPECT_NE(once, untouched);
    ASSERT_TRUE((*rules)->install());
    EXPECT_EQ(everything(), once) << "twice is the same as once";

    options.bypass = true;
    options.queue_count = 3;
    rules = make_rule_set(backend, options);
    ASSERT_TRUE(rules);
    ASSERT_TRUE((*rules)->install());
    EXPECT_TRUE(arrives(AF_INET, mark)) << "bypass";
    EXPECT_TRUE(arrives(AF_INET6, mark));

    options.instance = "other-one"; // beside, for instance another daemon's in the same namespace
    auto other = make_rule_set(backend, options);
    ASSERT_TRUE(other);
    ASSERT_TRUE((*other)->install());
    ASSERT_TRUE((*rules)->remove());
    EXPECT_THAT(everything(), Not(HasSubstr("main")));
    EXPECT_THAT(everything(), HasSubstr("other-one"));
    ASSERT_TRUE((*rules)->remove()) << "removing twice is fine";
    auto removed = remove_all_rules("other-one");
    ASSERT_TRUE(removed) << removed.error().message;
    EXPECT_GE(*removed, 1);
    EXPECT_EQ(remove_all_rules("other-one").operator*(), 0);
    EXPECT_THAT(everything(), Not(HasSubstr("other-one")));
    EXPECT_THAT(everything(), Not(HasSubstr("queue")));
}

TEST(FirewallKernel, Iptables) {
    SKIP_WITHOUT_BACKEND(Backend::iptables);
    own_netns::run([] { exercise(Backend::iptables); });
}

TEST(FirewallKernel, Nftables) {
    SKIP_WITHOUT_BACKEND(Backend::nftables);
    own_netns::run([] { exercise(Backend::nftables); });
}

TEST(FirewallKernel, Automatic) {
    SKIP_WITHOUT_BACKEND(Backend::automatic);
    own_netns::run([] { exercise(Backend::automatic); });
}

// A filter that cannot be had is no reason to go without the rest, but it is told.
TEST(FirewallKernel, PuntFilterWithoutItsPrograms) {
    SKIP_WITHOUT_BACKEND(Backend::iptables);
    own_netns::run([] {
        auto rules = make_rule_set(Backend::iptables, filter_options());
        ASSERT_TRUE(rules);
        ASSERT_TRUE((*rules)->install());
        EXPECT_FALSE((*rules)->filters());
        EXPECT_THAT((*rules)->notes(), ElementsAre(HasSubstr("HTTP requests are not read")));
        EXPECT_THAT(everything(), HasSubstr("BTBLOCK-main"));
        EXPECT_THAT(everything(), Not(HasSubstr("FORWARD !")));
    });
}

TEST(FirewallKernel, PuntFilterThatNothingWouldPass) {
    SKIP_WITHOUT_BACKEND(Backend::iptables);
    own_netns::run([] {
        RuleOptions options = filter_options();
        options.filter.forwarded = false;
        auto rules = make_rule_set(Backend::iptables, options);
        ASSERT_TRUE(rules);
        // Of an earlier run, when there was another device.
        ASSERT_TRUE(shell("iptables -t mangle -N BTBLOCK-main"));
        ASSERT_TRUE(shell("iptables -t mangle -A FORWARD ! -i wan1 -o wan0 -j BTBLOCK-main"));
        ASSERT_TRUE((*rules)->install());
        EXPECT_TRUE((*rules)->filters());
        EXPECT_THAT((*rules)->notes(), IsEmpty());
        EXPECT_THAT(output_of("iptables -t mangle -S"), Not(HasSubstr("BTBLOCK-main")));
    });
}

TEST(FirewallKernel, AutomaticTakesWhatWorks) {
    SKIP_WITHOUT_BACKEND(Backend::automatic);
    own_netns::run([] {
        const bool nft = static_cast<bool>(probe(Backend::nftables, main_options()));
        auto rules = make_rule_set(Backend::automatic, main_options());
        ASSERT_TRUE(rules);
        EXPECT_EQ((*rules)->name(), nft ? "nftables" : "iptables");
        EXPECT_THAT(everything(), Not(HasSubstr("main"))) << "choosing leaves nothing behind";
    });
}

TEST(FirewallKernel, ErrorTellsWhatEachToolSaid) {
    SKIP_WITHOUT_NETNS();
    own_netns::run([] {
        // Without the capability no back end works, wherever the test runs.
        ASSERT_EQ(setgid(65534), 0);
        ASSERT_EQ(setuid(65534), 0);
        auto rules = make_rule_set(Backend::automatic, main_options());
        ASSERT_FALSE(rules);
        EXPECT_THAT(rules.error().message, HasSubstr("nftables: nft: "));
        EXPECT_THAT(rules.error().message, HasSubstr("iptables: iptables"));
        EXPECT_FALSE(remove_all_rules("main")) << "not permitted is not the same as nothing there";
    });
}

TEST(FirewallKernel, NftFailureLeavesNothing) {
    SKIP_WITHOUT_NETNS();
    own_netns::run([] {
        auto rules = make_rule_set(Backend::nftables, main_options());
        ASSERT_TRUE(rules);
        auto installed = (*rules)->install();
        if (installed) {
            std::printf("this kernel has the nft queue expression: failure not tested\n");
            return;
        }
        EXPECT_THAT(installed.error().message, HasSubstr("nft: "));
        EXPECT_THAT(output_of("nft list ruleset"), Not(HasSubstr("btblock")));
        EXPECT_TRUE((*rules)->remove());
    });
}

// The transaction itself, also where the kernel lacks the queue expression.
TEST(FirewallKernel, NftTransactionIsIdempotent) {
    SKIP_WITHOUT_NETNS();
    if (!find_tool("nft"))
        GTEST_SKIP() << "needs nft";
    own_netns::run([] {
        RuleOptions options = main_options();
        options.instance = "vpn-1";
        std::string text = nft_install_text(options);
        const std::string queue = "queue num 7 bypass";
        text.replace(text.find(queue), queue.size(), "counter");
        ASSERT_TRUE(shell("nft -f -", "table inet foreign {\n chain c {\n accept\n }\n}\n" + text));
        const std::string once = output_of("nft -s list ruleset");
        EXPECT_THAT(once, HasSubstr("btblock_vpn-1"));
        EXPECT_THAT(once, HasSubstr("meta mark & 0x20000000 == 0x20000000 counter"));
        ASSERT_TRUE(shell("nft -f -", text));
        EXPECT_EQ(output_of("nft -s list ruleset"), once);
        ASSERT_TRUE(shell("nft add table ip btblock_vpn-1")); // as another version might have made
        ASSERT_TRUE(shell("nft add table inet btblock_vpn-12"));
        EXPECT_EQ(remove_all_rules("vpn-1").operator*(), 2);
        EXPECT_THAT(output_of("nft list tables"), Not(HasSubstr("btblock_vpn-1\n")));
        EXPECT_THAT(output_of("nft list tables"), HasSubstr("btblock_vpn-12\n")) << "another instance";
        EXPECT_THAT(output_of("nft list ruleset"), HasSubstr("table inet foreign"));
        ASSERT_TRUE(shell("nft -f -", nft_remove_text("vpn-1"))) << "deleting what is not there";
    });
}

TEST(FirewallKernel, ForeignIptablesRulesStay) {
    SKIP_WITHOUT_BACKEND(Backend::iptables);
    own_netns::run([] {
        ASSERT_TRUE(shell("ip link set lo up"));
        for (const char* command :
             {"iptables -t raw -N FOREIGN", "iptables -t raw -A FOREIGN -j RETURN",
              "iptables -t raw -A PREROUTING -p tcp --dport 9 -j DROP", "iptables -t raw -A PREROUTING -j FOREIGN",
              "iptables -t raw -A OUTPUT -p tcp --dport 9 -j ACCEPT", "iptables -A INPUT -p tcp --dport 22 -j ACCEPT",
              "ip6tables -t raw -A PREROUTING -p tcp --dport 9 -j DROP"})
            ASSERT_TRUE(shell(command));
        ASSERT_TRUE(shell("nft add table inet foreign"));
        const std::string before = everything();
        auto rules = make_rule_set(Backend::iptables, main_options());
        ASSERT_TRUE(rules);
        ASSERT_TRUE((*rules)->install());
        const std::string with = output_of("iptables -t raw -S");
        EXPECT_GT(with.find("-A PREROUTING -m mark --mark 0x20000000/0x20000000 -j BTBLOCK-main"),
                  with.find("-A PREROUTING -j FOREIGN"))
            << "the operator's rules come first";
        ASSERT_TRUE((*rules)->remove());
        EXPECT_EQ(everything(), before);
    });
}

TEST(FirewallKernel, RepairsAndRemovesLeftovers) {
    SKIP_WITHOUT_BACKEND(Backend::iptables);
    own_netns::run([] {
        ASSERT_TRUE(shell("ip link set lo up"));
        // As an older version, a crash or an impatient operator may have left it.
        for (const char* command :
             {"iptables -t raw -N BTBLOCK-main", "iptables -t raw -A BTBLOCK-main -j DROP",
              "iptables -t raw -A PREROUTING -i nowhere -j BTBLOCK-main",
              "iptables -t raw -A PREROUTING -j BTBLOCK-main", "iptables -t raw -A PREROUTING -j BTBLOCK-main",
              "iptables -t raw -A OUTPUT -o nowhere -j BTBLOCK-main"})
            ASSERT_TRUE(shell(command));
        ASSERT_TRUE(shell("nft add table inet btblock_main"));
        auto rules = make_rule_set(Backend::iptables, main_options());
        ASSERT_TRUE(rules);
        ASSERT_TRUE((*rules)->install());
        EXPECT_EQ(output_of("iptables -t raw -S"),
                  "-P PREROUTING ACCEPT\n-P OUTPUT ACCEPT\n-N BTBLOCK-main\n"
                  "-A PREROUTING -m mark --mark 0x20000000/0x20000000 -j BTBLOCK-main\n"
                  "-A BTBLOCK-main -j NFQUEUE --queue-num 7 --queue-bypass\n");
        EXPECT_THAT(output_of("nft list tables"), Not(HasSubstr("btblock_main")));
        ASSERT_TRUE(shell("iptables -t raw -A PREROUTING -i nowhere -j BTBLOCK-main"));
        EXPECT_EQ(remove_all_rules("main").operator*(), 2) << "an IPv4 and an IPv6 chain";
        EXPECT_EQ(output_of("iptables -t raw -S"), "-P PREROUTING ACCEPT\n-P OUTPUT ACCEPT\n");
        EXPECT_EQ(remove_all_rules("main").operator*(), 0);
    });
}

TEST(FirewallKernel, LegacyLeftoversAreFound) {
    SKIP_WITHOUT_BACKEND(Backend::iptables);
    if (!find_tool("iptables-legacy") || !find_tool("iptables-nft"))
        GTEST_SKIP() << "needs both flavours of iptables";
    own_netns::run([] {
        EXPECT_EQ(remove_all_rules("main").operator*(), 0);
        EXPECT_EQ(output_of("cat /proc/self/net/ip_tables_names"), "") << "looking loads no legacy table";
        auto legacy = run_command({"iptables-legacy", "-t", "raw", "-N", "BTBLOCK-main"});
        if (!legacy || !legacy->succeeded()) {
            std::printf("no legacy tables in this kernel: not tested\n");
            return;
        }
        ASSERT_TRUE(shell("iptables-legacy -t raw -A PREROUTING -j BTBLOCK-main"));
        ASSERT_TRUE(shell("iptables-nft -t raw -N BTBLOCK-main"));
        EXPECT_EQ(remove_all_rules("main").operator*(), 2);
        EXPECT_EQ(output_of("iptables-legacy -t raw -S"), "-P PREROUTING ACCEPT\n-P OUTPUT ACCEPT\n");
    });
}

TEST(FirewallKernel, LongInstanceName) {
    SKIP_WITHOUT_BACKEND(Backend::iptables);
    own_netns::run([] {
        RuleOptions options = main_options();
        options.instance = std::string(64, 'n');
        auto rules = make_rule_set(Backend::iptables, options);
        ASSERT_TRUE(rules);
        auto installed = (*rules)->install();
        ASSERT_TRUE(installed) << installed.error().message;
        EXPECT_EQ(remove_all_rules(options.instance).operator*(), 2);
        EXPECT_TRUE(probe(Backend::iptables, options)) << "the probe's chain name fits too";
        EXPECT_EQ(output_of("iptables -t raw -S"), "-P PREROUTING ACCEPT\n-P OUTPUT ACCEPT\n");
    });
}

// Programs are searched in the system directories too, so hide them there: each directory that has one is replaced by
// links to its other programs, for this process and its children. False, with a reason printed, where that is not
// possible. `scratch` is an empty directory.
bool hide_tools(const std::string& scratch, const std::vector<std::string>& hidden) {
    namespace fs = std::filesystem;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", scratch.c_str(), "tmpfs", 0, nullptr) != 0) {
        std::printf("may not mount: not tested\n");
        return false;
    }
    int number = 0;
    for (const std::string& tool : hidden)
        while (auto path = find_tool(tool)) {
            const fs::path directory = fs::path(*path).parent_path();
            const fs::path original = fs::path(scratch) / std::to_string(number++);
            fs::create_directory(original);
            EXPECT_EQ(mount(directory.c_str(), original.c_str(), nullptr, MS_BIND, nullptr), 0);
            EXPECT_EQ(mount("none", directory.c_str(), "tmpfs", 0, nullptr), 0);
            if (::testing::Test::HasFailure())
                return false;
            for (const auto& entry : fs::directory_iterator(original))
                if (std::ranges::count(hidden, entry.path().filename().string()) == 0)
                    fs::create_symlink(entry.path(), directory / entry.path().filename());
        }
    return true;
}

struct ScratchDirectory {
    std::string path = "/tmp/btblock-test-XXXXXX";
    ScratchDirectory() { EXPECT_NE(mkdtemp(path.data()), nullptr); }
    ~ScratchDirectory() { rmdir(path.c_str()); }
};

TEST(FirewallKernel, MissingToolsAreNoError) {
    SKIP_WITHOUT_NETNS();
    const ScratchDirectory scratch;
    own_netns::run([&] {
        if (!hide_tools(scratch.path, {"nft", "iptables", "ip6tables", "iptables-nft", "ip6tables-nft",
                                       "iptables-legacy", "ip6tables-legacy"}))
            return;
        EXPECT_EQ(remove_all_rules("main").operator*(), 0);
        auto rules = make_rule_set(Backend::automatic, main_options());
        ASSERT_FALSE(rules);
        EXPECT_EQ(rules.error().message, "no firewall back end works here. nftables: nft: no such program. "
                                         "iptables: iptables: no such program");
    });
}

TEST(FirewallKernel, WithoutIp6tablesItIsANote) {
    SKIP_WITHOUT_BACKEND(Backend::iptables);
    const ScratchDirectory scratch;
    own_netns::run([&] {
        if (!hide_tools(scratch.path, {"ip6tables", "ip6tables-nft", "ip6tables-legacy"}))
            return;
        auto rules = make_rule_set(Backend::iptables, main_options());
        ASSERT_TRUE(rules);
        auto installed = (*rules)->install();
        ASSERT_TRUE(installed) << installed.error().message;
        EXPECT_THAT((*rules)->notes(), ElementsAre("no IPv6 rule: ip6tables: no such program"));
        EXPECT_EQ(remove_all_rules("main").operator*(), 1);
    });
}

} // namespace
