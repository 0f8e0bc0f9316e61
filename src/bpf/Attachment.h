// SPDX-License-Identifier: MIT
// The hooks of one interface: TC ingress and egress always, XDP where it helps.
#pragma once

#include "bpf/Features.h"
#include "bpf/Object.h"
#include "bpf/Pins.h"
#include "core/Config.h"
#include "core/Result.h"
#include "net/Interface.h"

#include <string>

namespace btblock::bpf {

struct Attached {
    std::string name;
    unsigned ifindex = 0;
    std::string link; // "ethernet" or "ip"
    std::string tc;   // "tcx" or "clsact"
    std::string xdp;  // "native", "generic", "offload", "off", or "foreign": another program holds the slot
    std::string note; // what the operator should know, or empty
};

// Idempotent: a live pinned link gets the new program in place, without a gap. On an error nothing of this call stays
// attached. An XDP program of somebody else is ExitCode::refused when a mode was asked for, and a note with automatic.
Result<Attached> attach(const Object& object, const net::Interface& interface, XdpMode xdp, const Features& features,
                        const Pins& pins);

// Detaches and unpins everything of ours on this interface. An interface that is gone leaves only its pins to remove.
Result<void> detach(const std::string& interface, const Pins& pins);

// Filters of the instance on clsact hooks of this network namespace (kernels before 6.6) that no pin tells of. Returns
// how many went.
Result<int> remove_clsact_filters(const Pins& pins);

} // namespace btblock::bpf
