// SPDX-License-Identifier: MIT
// libbtblock: recognises BitTorrent in packets and in capture files, with the decisions of the btblock gateway.
//
//     btblock::Analyzer analyzer;
//     const btblock::CaptureInfo info = analyzer.read_capture("office.pcap");
//     for (const btblock::Flow& flow : analyzer.flows())
//         if (flow.verdict == btblock::Verdict::bittorrent)
//             std::cout << flow.src.to_string() << " " << flow.evidence.to_string() << "\n";
//     if (!info.error.empty())
//         std::cerr << info.error << "\n";
//
// Conventions
//   units       times are nanoseconds, lengths are bytes, packet numbers count from 1
//   byte order  ports are in host byte order; addresses are bytes in network order, IPv4 as ::ffff:a.b.c.d
//   ownership   what is handed in is only read during the call; what is returned belongs to the caller, except that
//               references and spans live as long as their function says
//   errors      what is wrong with a file is text in CaptureInfo::error; packets can have no error: what cannot be
//               read is `other`. Nothing throws but std::bad_alloc.
//   threads     an Analyzer is for one thread at a time; several of them are independent
//
// Link with `pkg-config --cflags --libs btblock`, or in CMake find_package(btblock) and btblock::btblock.
#ifndef BTBLOCK_BTBLOCK_HPP
#define BTBLOCK_BTBLOCK_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace btblock {

// The library's version, such as "0.1.0".
[[nodiscard]] std::string_view library_version() noexcept;

enum class Verdict : std::uint8_t { other, bittorrent };
enum class Transport : std::uint8_t { tcp = 6, udp = 17 };

[[nodiscard]] std::string_view to_string(Verdict verdict) noexcept;     // "other", "bittorrent"
[[nodiscard]] std::string_view to_string(Transport transport) noexcept; // "tcp", "udp"

struct IpAddress {
    std::array<std::uint8_t, 16> bytes{};

    // "192.0.2.1", "2001:db8::1" (RFC 5952)
    [[nodiscard]] std::string to_string() const;
    friend bool operator==(const IpAddress&, const IpAddress&) = default;
};

struct IpPrefix {
    IpAddress address; // bits after the prefix are zero
    unsigned bits = 0; // of the 16 bytes, 0 to 128; for IPv4 that is 96 more than usual

    // "192.0.2.0/24", "2001:db8::/32", or an address alone. Nothing when it is none of these.
    [[nodiscard]] static std::optional<IpPrefix> parse(std::string_view text);
};

// Why something is BitTorrent: a set of codes such as "dht.query", whose names are stable (docs/detection.md).
class EvidenceSet {
public:
    EvidenceSet() = default;
    explicit EvidenceSet(std::uint32_t mask) noexcept : mask_(mask) {}

    [[nodiscard]] bool empty() const noexcept { return mask_ == 0; }
    [[nodiscard]] bool contains(std::string_view code) const noexcept;
    [[nodiscard]] std::vector<std::string_view> codes() const; // the texts live for ever
    [[nodiscard]] std::string to_string() const;               // joined by '+'
    void add(EvidenceSet other) noexcept { mask_ |= other.mask_; }
    friend bool operator==(EvidenceSet, EvidenceSet) = default;

private:
    std::uint32_t mask_ = 0; // which bit means which code may change between versions
};

// One connection or exchange of datagrams, both directions together.
struct Flow {
    Transport proto = Transport::tcp;
    IpAddress src, dst; // sender and receiver of its first packet
    std::uint16_t sport = 0, dport = 0;
    std::uint64_t packets = 0; // of both directions
    std::uint64_t first_seen = 0, last_seen = 0;
    Verdict verdict = Verdict::other;
    EvidenceSet evidence;           // empty for other
    std::uint64_t first_packet = 0; // number of the packet that decided; 0 for other
};

struct PacketVerdict {
    Verdict verdict = Verdict::other; // bittorrent: a gateway would have dropped this very packet
    EvidenceSet evidence;
    bool is_flow = false; // TCP or UDP with its ports; false for fragments after the first and everything else
};

struct CaptureInfo {
    std::string link_type;     // libpcap's name, such as "EN10MB"; empty: the file could not be opened
    std::uint64_t packets = 0; // read from the file
    std::uint64_t skipped = 0; // of them, those without TCP or UDP ports
    std::string error;         // empty: read to its end. Names the file, and the packet where it is damaged.
};

struct AnalyzerOptions {
    // The clients' side. Empty: private, CGNAT and ULA addresses; where neither end is in those, the sender.
    std::vector<IpPrefix> inside;
    // Half-flows (directions) that are remembered, 130 bytes each, used as they come; when it is full one that was not
    // used lately is forgotten. Everything else that decides has a fixed size too, about 70 MB when all of it is used.
    std::size_t half_flows = 1 << 20;
    // Keep a list for flows(), which grows with every flow until it is taken. Without it memory is bounded.
    bool list_flows = true;
};

class Analyzer {
public:
    explicit Analyzer(const AnalyzerOptions& options = {});
    ~Analyzer();
    Analyzer(Analyzer&&) noexcept;
    Analyzer& operator=(Analyzer&&) noexcept;

    // A packet from its IPv4 or IPv6 header on. wire_length: what it had before a capture cut it, at least the bytes
    // that are there. time_ns: any clock; times that run backwards are taken for the latest one.
    PacketVerdict packet(std::span<const std::uint8_t> ip, std::size_t wire_length, std::uint64_t time_ns);
    // A frame of a link type (libpcap's DLT_ numbers: Ethernet is 1). VLAN, MPLS, PPPoE, GRE and IP tunnels are opened.
    PacketVerdict frame(int link_type, std::span<const std::uint8_t> frame, std::size_t wire_length,
                        std::uint64_t time_ns);
    // All packets of a pcap or pcapng file; "-" is standard input. Packet numbers go on from what was read before. At
    // its end flows that stayed open are judged once more, by all that the capture told.
    // `progress` is called after each packet.
    CaptureInfo read_capture(const std::string& path, const std::function<void(const CaptureInfo&)>& progress = {});

    // In the order of their first packets. Valid until the next packet or take_flows().
    [[nodiscard]] std::span<const Flow> flows() const noexcept;
    // Hands the list over and starts a new one; what was learned is kept. A flow that goes on is listed again, with
    // its later packets only.
    [[nodiscard]] std::vector<Flow> take_flows();

private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace btblock

#endif
