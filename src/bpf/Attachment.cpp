// SPDX-License-Identifier: MIT
#include "bpf/Attachment.h"

#include "bpf/Syscall.h"
#include "core/Fd.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cstring>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <spdlog/spdlog.h>
#include <string_view>
#include <unistd.h>

namespace btblock::bpf {

namespace {

// Our place on a clsact hook: the first priority, and a handle nobody else picks by chance.
constexpr unsigned filter_priority = 1;
constexpr unsigned filter_handle = 0xb7b10c;

bool runs_our_program(unsigned program_id) {
    const Fd program(bpf_prog_get_fd_by_id(program_id));
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

Result<void> attach_filter(int program, unsigned ifindex, bpf_tc_attach_point point) {
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(ifindex), .attach_point = point);
    const int made = bpf_tc_hook_create(&hook); // the qdisc; -EEXIST is fine
    if (made < 0 && made != -EEXIST)
        return errno_error("creating the clsact qdisc", -made);
    LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = program, .flags = BPF_TC_F_REPLACE, .handle = filter_handle,
                .priority = filter_priority);
    const int attached = bpf_tc_attach(&hook, &options);
    if (attached < 0)
        return errno_error("attaching the clsact filter", -attached);
    return {};
}

// 1 when our filter was there and has been removed.
int remove_filter(unsigned ifindex, bpf_tc_attach_point point) {
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(ifindex), .attach_point = point);
    LIBBPF_OPTS(bpf_tc_opts, found, .handle = filter_handle, .priority = filter_priority);
    if (bpf_tc_query(&hook, &found) < 0 || !runs_our_program(found.prog_id))
        return 0;
    LIBBPF_OPTS(bpf_tc_opts, gone, .handle = filter_handle, .priority = filter_priority);
    return bpf_tc_detach(&hook, &gone) == 0 ? 1 : 0;
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
            if (auto done = attach_filter(ingress, interface.ifindex, BPF_TC_INGRESS); !done)
                return done;
            return attach_filter(egress, interface.ifindex, BPF_TC_EGRESS);
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
        remove_filter(ifindex, BPF_TC_INGRESS);
        remove_filter(ifindex, BPF_TC_EGRESS);
    }
    return {};
}

Result<int> remove_clsact_filters() {
    auto interfaces = net::list_interfaces();
    if (!interfaces)
        return interfaces.error();
    int removed = 0;
    for (const net::Interface& interface : *interfaces)
        removed += remove_filter(interface.ifindex, BPF_TC_INGRESS) + remove_filter(interface.ifindex, BPF_TC_EGRESS);
    return removed;
}

} // namespace btblock::bpf
