// SPDX-License-Identifier: MIT
// The deep detectors' findings written to the kernel's maps.
#pragma once

#include "bpf/Maps.h"
#include "detect/Writeback.h"

#include <atomic>

namespace btblock::app {

// Thread-safe: every call is one or two map operations. A failing one is logged and the packet's own verdict stands.
class KernelTables final : public detect::Tables {
public:
    // maps: not owned.
    explicit KernelTables(const bpf::Maps& maps) : maps_(maps) {}

    bool is_inside(const bt_addr& address) override;
    void block(const bt_tuple& tuple, std::uint32_t evidence, std::uint64_t now_ns) override;
    void clear(const bt_tuple& tuple, std::uint64_t now_ns) override;
    void condemn(const bt_endpoint& socket, std::uint32_t evidence, std::uint64_t now_ns) override;
    void client_seen(const bt_addr& client, std::uint32_t evidence, std::uint64_t now_ns) override;
    void learn(const bt_peer_key& peer, std::uint32_t evidence, std::uint64_t now_ns) override;
    bt_flow known(const bt_tuple& tuple) override;

    // HTTP announces found in a flow of which an earlier packet had passed unseen.
    [[nodiscard]] std::uint64_t leaked_http() const noexcept { return leaked_http_.load(std::memory_order_relaxed); }

private:
    const bpf::Maps& maps_;
    std::atomic<std::uint64_t> leaked_http_{0};
};

} // namespace btblock::app
