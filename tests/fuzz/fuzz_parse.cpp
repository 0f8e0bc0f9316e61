// SPDX-License-Identifier: MIT
// From a frame to a transport payload, by the two parsers: that of the kernel programs and that for captures. The input
// is a link type (two bytes, libpcap's number), then a frame.
#include "net/Decapsulate.h"
#include "net/Packet.h"
#include "script.h"
#include "target.h"

#include <cstring>

struct bt_ctx {
    const std::uint8_t* data;
    std::uint32_t size;
};
#define BT_HAVE_CTX
#include "btblock/wire.h"
static int bt_load(bt_ctx* c, bt_u32 offset, void* to, bt_u32 length) {
    if (offset > c->size || length > c->size - offset)
        return -1;
    std::memcpy(to, c->data + offset, length);
    return 0;
}
static bt_u32 bt_total(const bt_ctx* c) {
    return c->size;
}
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#include "btblock/parse.h"
#pragma GCC diagnostic pop

using namespace btblock;

namespace {

bool within(std::span<const std::uint8_t> part, std::span<const std::uint8_t> whole) {
    return part.empty() || (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

void compare(std::span<const std::uint8_t> ip, std::size_t wire_length) {
    bt_ctx c{ip.data(), static_cast<std::uint32_t>(ip.size())};
    bt_pkt kernel{};
    const bt_parsed result = bt_parse(&c, 0, &kernel);
    bt_head head{};
    if (result == BT_PARSED) {
        FUZZ_REQUIRE(kernel.payload_len == 0 || std::size_t{kernel.payload_off} + kernel.payload_len <= ip.size());
        if (kernel.payload_len)
            FUZZ_REQUIRE(bt_load_head(&c, kernel.payload_off, kernel.payload_len, &head) == 0 && head.len > 0);
    }
    const auto capture = net::parse_packet(ip, wire_length);
    if (!capture)
        return;
    FUZZ_REQUIRE(within(capture->payload, ip) && capture->payload.size() <= capture->payload_length);
    if (result == BT_PARSED && !capture->later_fragment) {
        FUZZ_REQUIRE(std::memcmp(&kernel.tuple, &capture->tuple, sizeof kernel.tuple) == 0);
        if (kernel.payload_len == 0 || capture->payload.empty())
            return; // a header beyond the end of its packet is read by one and not by the other
        FUZZ_REQUIRE(kernel.payload_off == capture->payload_offset);
        if (kernel.tuple.proto == BT_IPPROTO_TCP)
            FUZZ_REQUIRE(kernel.seq == capture->seq && kernel.tcp_flags == capture->tcp_flags);
    }
}

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Script script(data, size);
    const auto link_type = static_cast<int>(script.two());
    const auto frame = script.bytes(size);
    for (const std::size_t cut : {std::size_t{0}, std::size_t{1000}}) { // what the capture did not keep
        const std::size_t wire_length = frame.size() + cut;
        if (const auto ip = net::decapsulate(link_type, frame, wire_length)) {
            FUZZ_REQUIRE(net::link_type_supported(link_type));
            FUZZ_REQUIRE(!ip->bytes.empty() && within(ip->bytes, frame));
            FUZZ_REQUIRE(ip->wire_length >= ip->bytes.size() && ip->wire_length <= wire_length);
            compare(ip->bytes, ip->wire_length);
        }
        compare(frame, wire_length); // as if it began at the IP header
    }
    return 0;
}
