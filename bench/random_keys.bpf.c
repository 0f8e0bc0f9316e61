// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Gives the frame of a BPF_PROG_TEST_RUN another source address each time, then runs the program in slot 0 on it.
 * So one system call runs a program over many keys, and the tables are as cold as their size makes them.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h> // needs the types of the one above

/* Set by bpf_run while the programs run. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, __u32);
    __type(value, __u32[4]); /* base of the address, mask of the keys, offset in the frame, next number */
    __uint(max_entries, 1);
} keys SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __type(key, __u32);
    __type(value, __u32);
    __uint(max_entries, 1);
} tc_slot SEC(".maps"), xdp_slot SEC(".maps");

enum { LAST_OFFSET = 63 };

/* An odd factor makes the multiplication a permutation of the keys: each comes once before any comes again. */
static inline __attribute__((always_inline)) void change(void* data, void* end) {
    __u32 zero = 0, *k = bpf_map_lookup_elem(&keys, &zero), at;

    if (!k)
        return;
    at = k[2] & LAST_OFFSET;
    if (data + at + 4 > end)
        return;
    *(__u32*)(data + at) = __builtin_bswap32(k[0] + (k[3]++ * 2654435761u & k[1]));
}

SEC("tc")
int random_tc(struct __sk_buff* skb) {
    change((void*)(long)skb->data, (void*)(long)skb->data_end);
    bpf_tail_call(skb, &tc_slot, 0);
    return 0;
}

SEC("xdp")
int random_xdp(struct xdp_md* xdp) {
    change((void*)(long)xdp->data, (void*)(long)xdp->data_end);
    bpf_tail_call(xdp, &xdp_slot, 0);
    return XDP_ABORTED;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
