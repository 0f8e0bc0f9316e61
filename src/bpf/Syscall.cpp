// SPDX-License-Identifier: MIT
#include "bpf/Syscall.h"

#include <cstdint>
#include <cstring>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace btblock::bpf {

namespace {

// The start of union bpf_attr for BPF_LINK_CREATE with the tcx fields, which older headers lack.
struct TcxLinkCreate {
    std::uint32_t prog_fd;
    std::uint32_t target_ifindex;
    std::uint32_t attach_type;
    std::uint32_t flags;
    std::uint32_t relative_fd;
    std::uint32_t padding;
    std::uint64_t expected_revision;
};

constexpr std::uint32_t flag_before = 1u << 3; // BPF_F_BEFORE

} // namespace

int attach_tcx(int program, unsigned ifindex, TcxHook hook) {
    TcxLinkCreate attr{};
    attr.prog_fd = static_cast<std::uint32_t>(program);
    attr.target_ifindex = ifindex;
    attr.attach_type = static_cast<std::uint32_t>(hook);
    attr.flags = flag_before;
    return static_cast<int>(syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof attr));
}

} // namespace btblock::bpf
