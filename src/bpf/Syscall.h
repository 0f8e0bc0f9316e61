// SPDX-License-Identifier: MIT
// bpf(2) calls that libbpf 1.1 has no function for. They return -1 and set errno.
#pragma once

namespace btblock::bpf {

enum class TcxHook : unsigned { ingress = 46, egress = 47 }; // BPF_TCX_INGRESS, BPF_TCX_EGRESS (Linux 6.6)

// A new link in front of all others of the hook.
int attach_tcx(int program, unsigned ifindex, TcxHook hook);

} // namespace btblock::bpf
