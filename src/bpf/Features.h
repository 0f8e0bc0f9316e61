// SPDX-License-Identifier: MIT
// What this kernel and this process can do, found out by doing it.
#pragma once

#include "core/Result.h"

namespace btblock::bpf {

struct Features {
    bool coarse_clock = false; // bpf_ktime_get_coarse_ns(), Linux 5.11
    bool tcx = false;          // BPF links on the TC hooks, Linux 6.6; else clsact filters
    bool kernel_btf = false;   // /sys/kernel/btf/vmlinux; not needed, only told
};

// Errors: no right to load programs (the message says which capabilities are missing).
Result<Features> probe_features();

// libbpf's own messages go to the log at level debug instead of standard error. Call it before anything else of bpf.
void quiet_libbpf();

// Before Linux 5.11 maps count against RLIMIT_MEMLOCK: raised as far as allowed, never an error.
void raise_memlock();

} // namespace btblock::bpf
