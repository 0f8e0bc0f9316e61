// SPDX-License-Identifier: MIT
#include "bpf/Attachment.h"

#include "bpf/Syscall.h"
#include "core/Fd.h"
#include "net/Netlink.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cstring>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <span>
#include <spdlog/spdlog.h>
#include <string_view>
#include <unistd.h>

namespace btblock::bpf {

namespace {

// Our place on a clsact hook: the first priority, and a handle of the instance that nobody else picks by chance.
constexpr unsigned filter_priority = 1;

unsigned filter_handle(std::string_view instance) {
    unsigned hash = 2166136261u;
    for (const char c : instance)
        hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
    return 0xb7000000u | hash >> 8;
}

// What is pinned where there are no links: the programs of our filters, and that the qdisc is our making.
constexpr const char* qdisc_pin = "qdisc";
const char* filter_pin(bpf_tc_attach_point point) {
    return point == BPF_TC_INGRESS ? "filter_in" : "filter_out";
}

bool runs_our_program(unsigned program_id) {
    const Fd program(bpf_prog_get_fd_by_id(program_id));
    if (!program && errno == EPERM)
        return true; // looking needs CAP_SYS_ADMIN, which a service need not have; the handle must do
    bpf_prog_info info{};
    __u32 length = sizeof info;
    return program && bpf_obj_get_info_by_fd(program.get(), &info, &length) == 0 &&
           std::string_view(info.name).starts_with("bt_");
}

// Puts the program on a link that is pinned and alive. False: there is none, a new one must be made.
Result<bool> update_link(const std::string& path, int program) {
    const Fd link(bpf_obj_get(path.c_str()));
    if (!link)
        return false;
    if (bpf_link_update(link.get(), program, nullptr) == 0)
        return true;
    if (errno != ENOLINK && errno != EINVAL)
        return errno_error("updating " + path);
    unlink(path.c_str()); // its device is gone
    return false;
}

Result<void> pin_link(Fd link, const std::string& path) {
    if (bpf_obj_pin(link.get(), path.c_str()) < 0)
        return errno_error("pinning " + path);
    return {};
}

Result<void> attach_tcx_hook(const std::string& path, int program, unsigned ifindex, TcxHook hook) {
    auto updated = update_link(path, program);
    if (!updated)
        return updated.error();
    if (*updated)
        return {};
    Fd link(attach_tcx(program, ifindex, hook));
    if (!link)
        return errno_error(path.substr(path.rfind('/') + 1) + ": attaching to the tcx hook");
    return pin_link(std::move(link), path);
}

Result<void> pin_program(int program, const std::string& path) {
    unlink(path.c_str()); // that of an earlier run
    if (bpf_obj_pin(program, path.c_str()) < 0)
        return errno_error("pinning " + path);
    return {};
}

Result<void> attach_filter(int program, const net::Interface& interface, bpf_tc_attach_point point, const Pins& pins) {
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(interface.ifindex), .attach_point = point);
    const int made = bpf_tc_hook_create(&hook); // the qdisc; -EEXIST is fine
    if (made < 0 && made != -EEXIST)
        return errno_error("creating the clsact qdisc", -made);
    if (made == 0)
        if (auto pinned = pin_program(program, pins.link(interface.name, qdisc_pin)); !pinned)
            return pinned;
    // Pinned first: what is attached can always be found again.
    if (auto pinned = pin_program(program, pins.link(interface.name, filter_pin(point))); !pinned)
        return pinned;
    LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = program, .flags = BPF_TC_F_REPLACE,
                .handle = filter_handle(pins.instance), .priority = filter_priority);
    const int attached = bpf_tc_attach(&hook, &options);
    if (attached < 0)
        return errno_error("attaching the clsact filter", -attached);
    return {};
}

// 1 when our filter was there and has been removed.
int remove_filter(unsigned ifindex, bpf_tc_attach_point point, const Pins& pins) {
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(ifindex), .attach_point = point);
    LIBBPF_OPTS(bpf_tc_opts, found, .handle = filter_handle(pins.instance), .priority = filter_priority);
    if (bpf_tc_query(&hook, &found) < 0 || !runs_our_program(found.prog_id))
        return 0;
    LIBBPF_OPTS(bpf_tc_opts, gone, .handle = filter_handle(pins.instance), .priority = filter_priority);
    return bpf_tc_detach(&hook, &gone) == 0 ? 1 : 0;
}

Result<bool> has_filters(unsigned ifindex) {
    auto netlink = net::RouteSocket::open();
    if (!netlink)
        return netlink.error();
    bool found = false;
    for (const unsigned hook : {TC_H_MIN_INGRESS, TC_H_MIN_EGRESS}) {
        tcmsg request{};
        request.tcm_ifindex = static_cast<int>(ifindex);
        request.tcm_parent = TC_H_MAKE(TC_H_CLSACT, hook);
        auto dumped = netlink->dump(
            RTM_GETTFILTER, std::as_bytes(std::span(&request, 1)), [] {}, [&](const nlmsghdr*) { found = true; });
        if (!dumped)
            return dumped.error();
    }
    return found;
}

// The qdisc takes every filter along: it goes only when it is our making and nobody uses it.
void remove_qdisc(unsigned ifindex, const std::string& pin) {
    if (access(pin.c_str(), F_OK) < 0)
        return;
    auto used = has_filters(ifindex);
    if (!used)
        spdlog::warn("the clsact qdisc stays: {}", used.error().message);
    if (!used || *used)
        return;
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(ifindex),
                .attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
    bpf_tc_hook_destroy(&hook);
}

unsigned xdp_flags(XdpMode mode) {
    switch (mode) {
    case XdpMode::generic: return XDP_FLAGS_SKB_MODE;
    case XdpMode::offload: return XDP_FLAGS_HW_MODE;
    default: return XDP_FLAGS_DRV_MODE;
    }
}

std::string xdp_name(XdpMode mode) {
    switch (mode) {
    case XdpMode::generic: return "generic";
    case XdpMode::offload: return "offload";
    case XdpMode::off: return "off";
    default: return "native";
    }
}

// The program in the interface's XDP slot, unless the slot is empty or ours.
bool has_foreign_xdp(unsigned ifindex, const std::string& our_pin) {
    LIBBPF_OPTS(bpf_xdp_query_opts, query);
    if (bpf_xdp_query(static_cast<int>(ifindex), 0, &query) < 0 || query.attach_mode == XDP_ATTACHED_NONE)
        return false;
    const Fd ours(bpf_obj_get(our_pin.c_str()));
    if (!ours)
        return true;
    bpf_link_info info{};
    __u32 length = sizeof info;
    return bpf_obj_get_info_by_fd(ours.get(), &info, &length) < 0 || info.xdp.ifindex != ifindex;
}

Result<void> attach_xdp(const Object& object, const net::Interface& interface, XdpMode wanted, const Pins& pins,
                        Attached& state) {
    const std::string path = pins.link(interface.name, "xdp");
    state.xdp = "off";
    if (wanted == XdpMode::off)
        return {};
    if (has_foreign_xdp(interface.ifindex, path)) {
        const std::string what = interface.name + ": another XDP program is attached";
        if (wanted != XdpMode::automatic)
            return error(what + "; remove it (ip link set dev " + interface.name + " xdp off) or use xdp = \"off\"",
                         ExitCode::refused);
        state.xdp = "foreign";
        state.note = what + "; going on with TC only";
        return {};
    }
    if (interface.kind != net::LinkKind::ethernet) {
        if (wanted != XdpMode::automatic)
            return error(interface.name + ": xdp = \"" + xdp_name(wanted) +
                             "\" is not possible on a device without Ethernet header; use xdp = \"auto\" or \"off\"",
                         ExitCode::failure);
        return {};
    }
    // Software devices build a socket buffer anyway: XDP there costs and saves nothing.
    if (wanted == XdpMode::automatic && !interface.has_device) {
        state.note = "no XDP on a software device (TC does the same checks)";
        return {};
    }
    const int program = object.program_fd(Program::xdp);
    auto updated = update_link(path, program);
    if (!updated)
        return updated.error();
    if (!*updated) {
        LIBBPF_OPTS(bpf_link_create_opts, options, .flags = xdp_flags(wanted));
        Fd link(bpf_link_create(program, static_cast<int>(interface.ifindex), BPF_XDP, &options));
        if (!link) {
            const auto failed = errno_error(interface.name + ": XDP (" + xdp_name(wanted) + ")");
            if (wanted != XdpMode::automatic)
                return failed;
            state.note = failed.message + "; going on with TC only";
            return {};
        }
        if (auto pinned = pin_link(std::move(link), path); !pinned)
            return pinned.error();
    }
    state.xdp = xdp_name(wanted);
    return {};
}

} // namespace

Result<Attached> attach(const Object& object, const net::Interface& interface, XdpMode xdp, const Features& features,
                        const Pins& pins) {
    const bool ethernet = interface.kind == net::LinkKind::ethernet;
    Attached state{
        interface.name, interface.ifindex, ethernet ? "ethernet" : "ip", features.tcx ? "tcx" : "clsact", "off", ""};
    const int ingress = object.program_fd(ethernet ? Program::ingress_l2 : Program::ingress_l3);
    const int egress = object.program_fd(ethernet ? Program::egress_l2 : Program::egress_l3);
    const auto all = [&]() -> Result<void> {
        // XDP first: it is the part that may be refused.
        if (auto done = attach_xdp(object, interface, xdp, pins, state); !done)
            return done;
        if (!features.tcx) {
            if (auto done = attach_filter(ingress, interface, BPF_TC_INGRESS, pins); !done)
                return done;
            return attach_filter(egress, interface, BPF_TC_EGRESS, pins);
        }
        if (auto done = attach_tcx_hook(pins.link(interface.name, "in"), ingress, interface.ifindex, TcxHook::ingress);
            !done)
            return done;
        return attach_tcx_hook(pins.link(interface.name, "out"), egress, interface.ifindex, TcxHook::egress);
    };
    if (auto done = all(); !done) {
        if (auto undone = detach(interface.name, pins); !undone)
            spdlog::warn("{}", undone.error().message);
        return error(interface.name + ": " + done.error().message, done.error().exit_code);
    }
    return state;
}

Result<void> detach(const std::string& interface, const Pins& pins) {
    for (const char* hook : {"in", "out", "xdp"}) {
        const std::string path = pins.link(interface, hook);
        const Fd link(bpf_obj_get(path.c_str()));
        if (!link)
            continue;
        bpf_link_detach(link.get()); // others may hold a descriptor; the hook must be free all the same
        if (unlink(path.c_str()) < 0 && errno != ENOENT)
            return errno_error(path);
    }
    if (const unsigned ifindex = if_nametoindex(interface.c_str())) {
        remove_filter(ifindex, BPF_TC_INGRESS, pins);
        remove_filter(ifindex, BPF_TC_EGRESS, pins);
        remove_qdisc(ifindex, pins.link(interface, qdisc_pin));
    }
    for (const char* hook : {filter_pin(BPF_TC_INGRESS), filter_pin(BPF_TC_EGRESS), qdisc_pin}) {
        const std::string path = pins.link(interface, hook);
        if (unlink(path.c_str()) < 0 && errno != ENOENT)
            return errno_error(path);
    }
    return {};
}

Result<int> remove_clsact_filters(const Pins& pins) {
    auto interfaces = net::list_interfaces();
    if (!interfaces)
        return interfaces.error();
    int removed = 0;
    for (const net::Interface& interface : *interfaces)
        removed += remove_filter(interface.ifindex, BPF_TC_INGRESS, pins) +
                   remove_filter(interface.ifindex, BPF_TC_EGRESS, pins);
    return removed;
}

} // namespace btblock::bpf
