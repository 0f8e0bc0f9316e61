// SPDX-License-Identifier: MIT
// The BPF object: embedded in the binary, loaded with the pinned maps of an earlier run where they fit.
#pragma once

#include "bpf/Features.h"
#include "bpf/Maps.h"
#include "core/Result.h"

#include <array>
#include <memory>
#include <string>

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
    // Loads and pins the maps. Pinned maps of the same ABI are taken over; one whose capacity changed is made anew,
    // bans are copied. Programs that are attached keep running on what they have until they are replaced.
    static Result<Object> load_pinned(const Features& features, const Capacity& capacity, const Pins& pins);

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
};

} // namespace btblock::bpf
