// SPDX-License-Identifier: MIT
// Memory of the decision: tables of fixed size, at most 512 bytes of a half-flow, and no allocation for a packet. A
// program of its own, since it counts every operator new.
#include "bpf/Scenarios.h"
#include "btblock/btblock.hpp"
#include "detect/FlowTable.h"
#include "detect/Pipeline.h"

#include <cstdlib>
#include <gtest/gtest.h>
#include <new>
#include <span>

namespace {
std::size_t allocations = 0;

void* take(std::size_t size, std::size_t alignment) {
    ++allocations;
    void* memory = alignment > alignof(std::max_align_t)
                       ? std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment)
                       : std::malloc(size ? size : 1);
    if (!memory)
        throw std::bad_alloc();
    return memory;
}
} // namespace

void* operator new(std::size_t size) {
    return take(size, 1);
}
void* operator new[](std::size_t size) {
    return take(size, 1);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
    return take(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
    return take(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept {
    std::free(memory);
}
void operator delete[](void* memory) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, std::align_val_t) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept {
    std::free(memory);
}

namespace btblock::test {
namespace {

static_assert(detect::Assembly::room == 512);
static_assert(sizeof(detect::FlowContext) <= 192,
              "what is known of a half-flow; the bytes of its stream are elsewhere");
static_assert(sizeof(detect::Buffers::Buffer) <= 576);

// Packets of `flows` flows each of what most traffic is: nothing of it needs a deep look.
std::vector<std::string> ordinary(unsigned flows) {
    std::vector<std::string> packets;
    for (unsigned i = 0; i < flows; ++i) {
        const std::string client = "10.0." + std::to_string(i / 250) + "." + std::to_string(1 + i % 250);
        const auto port = static_cast<std::uint16_t>(20000 + i);
        Stream tls(client, port, remote4, 443), web(client, port, remote4, 8443), back(remote4, 443, client, port);
        packets.push_back(tls.at(tls.seq() - 1, "").flags(syn).ip());
        packets.push_back(tls.next(tls_hello()).ip());
        packets.push_back(back.next(tls_hello()).ip());
        for (int n = 0; n < 3; ++n) {
            packets.push_back(tls.next(noise(1200, i)).ip());
            packets.push_back(web.next(noise(700, i + 1)).ip());
            packets.push_back(
                Packet::udp(client, port, remote4, 443).payload(n ? noise(1200, i) : quic_initial()).ip());
            packets.push_back(Packet::udp(client, port, remote4, 53).payload(dns_query()).ip());
            packets.push_back(Packet::udp(client6, port, remote6, 5004).payload(noise(160, i)).ip());
        }
    }
    return packets;
}

// What the deep detectors see: HTTP, proxies, messages, bencode; and BitTorrent itself.
std::vector<std::string> deep() {
    std::vector<std::string> packets;
    for (const Scenario& scenario : all_scenarios())
        for (const Step& step : scenario.steps)
            packets.push_back(step.packet.ip());
    for (std::uint16_t port = 1000; port < 1200; ++port) {
        Stream web(client4, port, remote4, 80), peer(client4, port, remote4, 7000);
        packets.push_back(web.next("GET /search?q=x HTTP/1.1\r\nHost: a\r\n").ip());
        packets.push_back(web.next("Accept: */*\r\n\r\n").ip());
        packets.push_back(web.next(be(0xc180, 2) + be(0, 4)).ip()); // compressed WebSocket messages: empty, text, none
        packets.push_back(web.next(be(0xc18a, 2) + be(0, 4) + be(0, 1) + be(0x0500faff, 4) + "hello").ip());
        packets.push_back(web.next(be(0xc19c, 2) + noise(32, port)).ip());
        packets.push_back(peer.next(be(5, 4) + be(4, 1)).ip()); // a message cut short: it is kept
        packets.push_back(peer.next(be(7, 4) + be(13, 4) + be(6, 1) + noise(600, port)).ip());
        packets.push_back(Packet::udp(client4, port, other4, 9)
                              .payload("d1:ad1:xi1e2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe")
                              .ip());
    }
    return packets;
}

template <class Feed> std::size_t allocations_of(const std::vector<std::string>& packets, Feed feed) {
    const std::size_t before = allocations;
    std::uint64_t now = BT_NSEC_PER_SEC;
    for (const std::string& ip : packets)
        feed(std::span(reinterpret_cast<const std::uint8_t*>(ip.data()), ip.size()), now += 1000);
    return allocations - before;
}

TEST(Allocations, AreCounted) {
    const std::size_t before = allocations;
    const std::string text(100, 'x');
    EXPECT_EQ(allocations - before, 1u) << text;
}

TEST(Allocations, NoneForAPacketOfAKnownFlow) {
    detect::Pipeline pipeline;
    const auto feed = [&](std::span<const std::uint8_t> ip, std::uint64_t now) { pipeline.packet(ip, ip.size(), now); };
    const std::vector<std::string> packets = ordinary(500), deeper = deep();
    EXPECT_LT(allocations_of(packets, feed), packets.size() / 50) << "a block for many new flows";
    EXPECT_EQ(allocations_of(packets, feed), 0u);
    allocations_of(deeper, feed);
    EXPECT_EQ(allocations_of(deeper, feed), 0u) << "not even in the deep detectors";
}

// Full tables: new flows take the place of old ones.
TEST(Allocations, NoneForNewFlowsWhenTheTablesAreFull) {
    detect::PipelineOptions options;
    options.flow_capacity = options.socket_capacity = options.client_capacity = options.deep_capacity = 128;
    detect::Pipeline pipeline(options);
    const auto feed = [&](std::span<const std::uint8_t> ip, std::uint64_t now) { pipeline.packet(ip, ip.size(), now); };
    const std::vector<std::string> packets = ordinary(500), deeper = deep();
    allocations_of(packets, feed);
    allocations_of(deeper, feed);
    EXPECT_EQ(allocations_of(packets, feed), 0u);
    EXPECT_EQ(allocations_of(deeper, feed), 0u);
}

TEST(Allocations, NoneInTheLibraryWithoutAList) {
    AnalyzerOptions options;
    options.list_flows = false;
    Analyzer analyzer(options);
    const auto feed = [&](std::span<const std::uint8_t> ip, std::uint64_t now) { analyzer.packet(ip, ip.size(), now); };
    const std::vector<std::string> packets = ordinary(500), deeper = deep();
    allocations_of(packets, feed);
    allocations_of(deeper, feed);
    EXPECT_EQ(allocations_of(packets, feed), 0u);
    EXPECT_EQ(allocations_of(deeper, feed), 0u);
}

} // namespace
} // namespace btblock::test
