// SPDX-License-Identifier: MIT
// The entries for devices without a link header, on a tun device in a network namespace of its own: BPF_PROG_TEST_RUN
// always wants an Ethernet header.
#include "bpf/Kernel.h"
#include "bpf/Scenarios.h"
#include "unit/own_netns.h"

#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace btblock::test {
namespace {

// A tun device that we hold the other end of, with both entries attached.
class Tun {
public:
    explicit Tun(const Kernel& kernel) {
        fd_ = Fd(open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
        ifreq request{};
        std::strncpy(request.ifr_name, "btt0", sizeof request.ifr_name - 1);
        request.ifr_flags = IFF_TUN | IFF_NO_PI;
        if (!fd_ || ioctl(fd_.get(), TUNSETIFF, &request) < 0)
            return;
        if (!own_netns::shell("ip addr add 10.0.0.1/24 dev btt0") ||
            !own_netns::shell("ip -6 addr add fd00::1/64 dev btt0 nodad") || !own_netns::shell("ip link set btt0 up"))
            return;
        LIBBPF_OPTS(bpf_tc_hook, hook);
        hook.ifindex = static_cast<int>(if_nametoindex("btt0"));
        hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
        if (bpf_tc_hook_create(&hook) < 0)
            return;
        ready_ = attach(hook, BPF_TC_INGRESS, kernel.program_fd(bpf::Program::ingress_l3)) &&
                 attach(hook, BPF_TC_EGRESS, kernel.program_fd(bpf::Program::egress_l3));
    }

    [[nodiscard]] bool ready() const { return ready_; }
    // The kernel receives this packet from the device.
    bool receive(const Packet& p) const {
        const std::string ip = p.ip();
        return write(fd_.get(), ip.data(), ip.size()) == static_cast<ssize_t>(ip.size());
    }
    // Packets that left through the device and contain `text`, until it is quiet.
    [[nodiscard]] int left_with(const std::string& text) const {
        int count = 0;
        char buffer[4096];
        pollfd waiting{fd_.get(), POLLIN, 0};
        while (poll(&waiting, 1, 100) > 0) {
            const ssize_t n = read(fd_.get(), buffer, sizeof buffer);
            if (n <= 0)
                break;
            count += std::string(buffer, static_cast<std::size_t>(n)).find(text) != std::string::npos;
        }
        return count;
    }

private:
    static bool attach(bpf_tc_hook hook, bpf_tc_attach_point where, int program) {
        hook.attach_point = where;
        LIBBPF_OPTS(bpf_tc_opts, opts);
        opts.prog_fd = program;
        return bpf_tc_attach(&hook, &opts) == 0;
    }

    Fd fd_;
    bool ready_ = false;
};

class L3Test : public KernelTest {
protected:
    void SetUp() override {
        KernelTest::SetUp();
        if (IsSkipped() || HasFatalFailure())
            return;
        if (const std::string why = own_netns::missing(); !why.empty())
            GTEST_SKIP() << why;
        if (access("/dev/net/tun", R_OK | W_OK) != 0)
            GTEST_SKIP() << "no /dev/net/tun: " << std::strerror(errno);
    }
};

TEST_F(L3Test, Ingress) {
    own_netns::run([] {
        Kernel& k = kernel();
        const Tun tun(k);
        ASSERT_TRUE(tun.ready()) << std::strerror(errno);
        k.reset();
        bt_ban ban{};
        ban.expires_ns = ~0ULL;
        ASSERT_TRUE(k.maps.bans.update(address("198.51.100.1"), ban));
        ASSERT_TRUE(tun.receive(Packet::udp("198.51.100.1", 1, "10.0.0.1", 2).payload("x")));
        EXPECT_EQ(k.counter(BT_S_DROP_BAN), 1u);
        const Packet peer = Packet::tcp(client4, 1, remote4, 2).payload(handshake());
        ASSERT_TRUE(tun.receive(peer));
        EXPECT_EQ(k.counter(BT_S_DROP_DETECTED), 1u);
        EXPECT_EQ(k.flow(peer)->verdict, BT_V_BLOCKED);
        EXPECT_EQ(k.flow(peer)->owner, if_nametoindex("btt0") << 1);
        const Packet query = Packet::udp(client6, 6881, remote6, 2).payload(dht_query());
        ASSERT_TRUE(tun.receive(query));
        EXPECT_EQ(k.counter(BT_S_DROP_DETECTED), 2u);
        const Packet options = Packet::udp("10.0.0.9", 6881, remote4, 2).payload(tracker_connect()).ip_options(3);
        ASSERT_TRUE(tun.receive(options));
        EXPECT_EQ(k.counter(BT_S_DROP_DETECTED), 3u);
        ASSERT_TRUE(tun.receive(Packet::tcp(client4, 7, remote4, 80).payload("GET /a?b HTTP/1.1\r\n\r\n")));
        EXPECT_EQ(k.counter(BT_S_PUNTED), 1u);
        ASSERT_TRUE(tun.receive(Packet::udp(client4, 7, remote4, 53).payload(dns_query())));
        EXPECT_EQ(k.counter(BT_S_CLEAN_EARLY), 1u);
    });
}

TEST_F(L3Test, Egress) {
    own_netns::run([] {
        Kernel& k = kernel();
        const Tun tun(k);
        ASSERT_TRUE(tun.ready()) << std::strerror(errno);
        k.reset();
        for (const int family : {AF_INET, AF_INET6}) {
            const Fd socket(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
            const bt_addr to = address(family == AF_INET ? "10.0.0.99" : "fd00::99");
            sockaddr_in v4{};
            v4.sin_family = AF_INET;
            v4.sin_port = htons(6881);
            std::memcpy(&v4.sin_addr, to.b + 12, 4);
            sockaddr_in6 v6{};
            v6.sin6_family = AF_INET6;
            v6.sin6_port = htons(6881);
            std::memcpy(&v6.sin6_addr, to.b, 16);
            const auto send = [&](const std::string& text) {
                const auto* name =
                    family == AF_INET ? reinterpret_cast<sockaddr*>(&v4) : reinterpret_cast<sockaddr*>(&v6);
                return sendto(socket.get(), text.data(), text.size(), 0, name,
                              family == AF_INET ? sizeof v4 : sizeof v6);
            };
            EXPECT_EQ(send("an ordinary text"), 16);
            EXPECT_EQ(tun.left_with("an ordinary text"), 1);
            send(dht_query());
            EXPECT_EQ(tun.left_with("d1:ad2:id20:"), 0);
            send("an ordinary text");
            EXPECT_EQ(tun.left_with("an ordinary text"), 0) << "the flow is blocked";
        }
        EXPECT_EQ(k.counter(BT_S_DROP_DETECTED), 2u);
        EXPECT_EQ(k.counter(BT_S_DROP_FLOW), 2u);
        EXPECT_EQ(k.counter(BT_S_PUNTED), 0u);
    });
}

} // namespace
} // namespace btblock::test
