// SPDX-License-Identifier: MIT
#include "bpf/Features.h"

#include "bpf/Syscall.h"
#include "core/Fd.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <spdlog/spdlog.h>
#include <string_view>
#include <sys/resource.h>
#include <unistd.h>

namespace btblock::bpf {

namespace {

int log_libbpf(libbpf_print_level level, const char* format, va_list arguments) {
    if (level == LIBBPF_DEBUG)
        return 0;
    char text[1024];
    const int length = vsnprintf(text, sizeof text, format, arguments);
    std::string_view line(text);
    while (line.ends_with('\n'))
        line.remove_suffix(1);
    spdlog::debug("{}", line);
    return length;
}

// The smallest program: "return TC_ACT_UNSPEC".
Result<Fd> load_probe_program() {
    const bpf_insn code[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .src_reg = 0, .off = 0, .imm = -1},
        {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
    };
    Fd fd(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "bt_probe", "Dual MIT/GPL", code, std::size(code), nullptr));
    if (fd)
        return fd;
    if (errno == EPERM)
        return error("loading a BPF program is not permitted: run as root, or with CAP_BPF, CAP_NET_ADMIN and "
                     "CAP_PERFMON");
    return errno_error("loading a BPF program");
}

} // namespace

Result<Features> probe_features() {
    quiet_libbpf();
    raise_memlock();
    auto program = load_probe_program();
    if (!program)
        return program.error();
    Features features;
    features.coarse_clock =
        libbpf_probe_bpf_helper(BPF_PROG_TYPE_SCHED_CLS, BPF_FUNC_ktime_get_coarse_ns, nullptr) == 1;
    // A kernel without tcx refuses the attach type (EINVAL) before it looks for the device (ENODEV).
    const int link = attach_tcx(program->get(), 0x7ffffffe, TcxHook::ingress);
    features.tcx = link < 0 && errno == ENODEV;
    features.kernel_btf = access("/sys/kernel/btf/vmlinux", R_OK) == 0;
    return features;
}

void quiet_libbpf() {
    libbpf_set_print(log_libbpf);
}

void raise_memlock() {
    const rlimit all{RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_MEMLOCK, &all);
}

} // namespace btblock::bpf
