// SPDX-License-Identifier: MIT
// The BPF object: embedded in the binary, loaded with the pinned maps of an earlier run where they fit.
#pragma once

#include "bpf/Features.h"
#include "bpf/Maps.h"
#include "core/Result.h"

#include <array>
#include <memory>
#include <string>
#include <vector>

struct btblock_bpf; // the generated skeleton

namespace btblock::bpf {

struct Capacity {
    unsigned bans = 65536;
    unsigned flows = 262144;
    unsigned sockets = 65536;
};

enum class Program { ingress_l2, ingress_l3, egress_l2, egress_l3, xdp, pass_filter, drop_filter };
inline constexpr std::array<const char*, 7> program_names{
    "bt_ingress_l2", "bt_ingress_l3", "bt_egress_l2", "bt_egress_l3", "bt_xdp", "bt_pass_filter", "bt_drop_filter"};

constexpr const char* program_name(Program which) {
    return program_names[static_cast<std::size_t>(which)];
}

class Object {
public:
    // Loads without pinning (tests).
    static Result<Object> load(const Features& features, const Capacity& capacity);
    // Loads with the pinned maps of the same ABI; one whose capacity changed is made anew. Bans and allow entries that
    // are not taken over this way are copied, from the old map or from that of another ABI. Programs that are attached
    // keep running on what they have until they are replaced.
    static Result<Object> load_pinned(const Features& features, const Capacity& capacity, const Pins& pins);
    // Pins the maps that are new. What is pinned is complete: fill bans and allow entries in before.
    Result<void> pin_maps(const Pins& pins);
    // Whether the map holds what an earlier run left, from its pins.
    [[nodiscard]] bool inherited_bans() const noexcept { return inherited_bans_; }
    [[nodiscard]] bool inherited_allow() const noexcept { return inherited_allow_; }

    Object(Object&&) noexcept;
    Object& operator=(Object&&) noexcept;
    ~Object();

    [[nodiscard]] int program_fd(Program which) const;
    // Descriptors of their own: they stay valid without the object.
    [[nodiscard]] Result<Maps> maps() const;

private:
    struct Destroy {
        void operator()(btblock_bpf* skeleton) const noexcept;
    };
    explicit Object(btblock_bpf* skeleton);
    static Result<Object> open(const Features& features, const Capacity& capacity);
    Result<void> finish_load();

    std::unique_ptr<btblock_bpf, Destroy> skeleton_;
    std::vector<const char*> unpinned_;
    bool inherited_bans_ = false;
    bool inherited_allow_ = false;
};

} // namespace btblock::bpf
