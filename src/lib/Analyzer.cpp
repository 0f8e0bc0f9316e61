// SPDX-License-Identifier: MIT
#include "btblock/btblock.hpp"
#include "core/Evidence.h"
#include "detect/Hash.h"
#include "detect/Pipeline.h"
#include "lib/FlowList.h"
#include "net/Address.h"
#include "net/CaptureReader.h"
#include "net/Decapsulate.h"
#include "net/Packet.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace btblock {

namespace {

IpAddress public_address(const bt_addr& raw) {
    IpAddress address;
    std::memcpy(address.bytes.data(), raw.b, sizeof raw.b);
    return address;
}

bt_addr raw_address(const IpAddress& address) {
    bt_addr raw{};
    std::memcpy(raw.b, address.bytes.data(), sizeof raw.b);
    return raw;
}

detect::PipelineOptions pipeline_options(const AnalyzerOptions& options) {
    detect::PipelineOptions result;
    result.flow_capacity = options.half_flows;
    result.deep_capacity = std::min(result.deep_capacity, options.half_flows);
    for (const IpPrefix& prefix : options.inside)
        result.inside.push_back({std::min(prefix.bits, 128u), raw_address(prefix.address)});
    return result;
}

} // namespace

std::string_view library_version() noexcept {
    return BTBLOCK_VERSION;
}

std::string_view to_string(Verdict verdict) noexcept {
    return verdict == Verdict::bittorrent ? "bittorrent" : "other";
}

std::string_view to_string(Transport transport) noexcept {
    return transport == Transport::tcp ? "tcp" : "udp";
}

std::string IpAddress::to_string() const {
    return net::Address(raw_address(*this)).to_string();
}

std::optional<IpPrefix> IpPrefix::parse(std::string_view text) {
    const auto prefix = net::Prefix::parse(text);
    if (!prefix)
        return std::nullopt;
    const bt_lpm_key key = prefix->lpm();
    return IpPrefix{public_address(key.addr), key.prefixlen};
}

bool EvidenceSet::contains(std::string_view code) const noexcept {
    for (std::size_t i = 0; i < evidence_names.size(); ++i)
        if (evidence_names[i] == code)
            return mask_ & BT_EV_BIT(i);
    return false;
}

std::vector<std::string_view> EvidenceSet::codes() const {
    return evidence_list(mask_);
}

std::string EvidenceSet::to_string() const {
    return evidence_string(mask_);
}

struct Analyzer::State {
    explicit State(const AnalyzerOptions& options)
        : pipeline(pipeline_options(options)), list_flows(options.list_flows) {}

    detect::PipelinePacket take(std::span<const std::uint8_t> ip, std::size_t wire_length, std::uint64_t time_ns);
    detect::PipelinePacket take(int link_type, std::span<const std::uint8_t> frame, std::size_t wire_length,
                                std::uint64_t time_ns);
    void judge(std::span<detect::PipelinePacket> packets, std::span<PacketVerdict> verdicts);
    PacketVerdict judge(detect::PipelinePacket packet);
    void list(const detect::PipelinePacket& packet, const PacketVerdict& verdict, std::uint64_t at);
    void review();

    detect::Pipeline pipeline;
    bool list_flows;
    std::uint64_t number = 0;          // packets so far
    std::uint64_t now = 1'000'000'000; // tables read 0 as "never"; merged captures go back a little
    FlowList flows;
};

detect::PipelinePacket Analyzer::State::take(std::span<const std::uint8_t> ip, std::size_t wire_length,
                                             std::uint64_t time_ns) {
    ++number;
    now = std::max(now, time_ns);
    detect::PipelinePacket packet;
    packet.ip = ip;
    packet.wire_length = std::max(wire_length, ip.size());
    packet.time_ns = now;
    return packet;
}

detect::PipelinePacket Analyzer::State::take(int link_type, std::span<const std::uint8_t> frame,
                                             std::size_t wire_length, std::uint64_t time_ns) {
    const auto ip = net::decapsulate(link_type, frame, std::max(wire_length, frame.size()));
    return ip ? take(ip->bytes, ip->wire_length, time_ns) : take({}, 0, time_ns);
}

// The last packets that were taken.
void Analyzer::State::judge(std::span<detect::PipelinePacket> packets, std::span<PacketVerdict> verdicts) {
    pipeline.parse(packets);
    if (list_flows) {
        for (const detect::PipelinePacket& p : packets)
            flows.prefetch_slot(p.hash);
        for (const detect::PipelinePacket& p : packets)
            flows.prefetch_flow(p.hash);
    }
    pipeline.decide(packets);
    for (std::size_t i = 0; i < packets.size(); ++i) {
        detect::PipelinePacket& p = packets[i];
        PacketVerdict& verdict = verdicts[i] = {};
        if (p.decision.action == BT_ACT_DROP) {
            verdict.verdict = Verdict::bittorrent;
            verdict.evidence = EvidenceSet(p.decision.evidence);
        }
        // What the path cannot use may be a flow still: a transport header that is cut, more extension headers.
        if (!p.is_flow)
            if (const auto parsed = net::parse_packet(p.ip, p.wire_length); parsed && !parsed->later_fragment) {
                p.is_flow = true;
                p.tuple = parsed->tuple;
                p.hash = detect::hash_of(p.tuple);
            }
        verdict.is_flow = p.is_flow;
        if (p.is_flow && list_flows)
            list(p, verdict, number - packets.size() + 1 + i);
    }
}

PacketVerdict Analyzer::State::judge(detect::PipelinePacket packet) {
    PacketVerdict verdict;
    judge({&packet, 1}, {&verdict, 1});
    return verdict;
}

void Analyzer::State::list(const detect::PipelinePacket& packet, const PacketVerdict& verdict, std::uint64_t at) {
    const auto [flow, added] = flows.find_or_add(packet.tuple, packet.hash);
    if (added)
        flow->first_seen = at;
    ++flow->packets;
    flow->last_seen = at;
    if (verdict.verdict != Verdict::bittorrent)
        return;
    flow->evidence.add(verdict.evidence);
    if (flow->first_packet == 0) {
        flow->verdict = Verdict::bittorrent;
        flow->first_packet = at;
    }
}

// The capture is over: what is still open is judged by that, at the flow's last packet.
void Analyzer::State::review() {
    pipeline.review([this](const bt_tuple& tuple, std::uint32_t evidence) {
        Flow* flow = flows.find(tuple, detect::hash_of(tuple));
        if (!flow || flow->first_packet != 0)
            return;
        flow->verdict = Verdict::bittorrent;
        flow->evidence.add(EvidenceSet(evidence));
        flow->first_packet = flow->last_seen;
    });
}

Analyzer::Analyzer(const AnalyzerOptions& options) : state_(std::make_unique<State>(options)) {}
Analyzer::~Analyzer() = default;
Analyzer::Analyzer(Analyzer&&) noexcept = default;
Analyzer& Analyzer::operator=(Analyzer&&) noexcept = default;

PacketVerdict Analyzer::packet(std::span<const std::uint8_t> ip, std::size_t wire_length, std::uint64_t time_ns) {
    return state_->judge(state_->take(ip, wire_length, time_ns));
}

PacketVerdict Analyzer::frame(int link_type, std::span<const std::uint8_t> frame, std::size_t wire_length,
                              std::uint64_t time_ns) {
    return state_->judge(state_->take(link_type, frame, wire_length, time_ns));
}

CaptureInfo Analyzer::read_capture(const std::string& path, const std::function<void(const CaptureInfo&)>& progress) {
    CaptureInfo info;
    auto reader = net::CaptureReader::open(path);
    if (!reader) {
        info.error = reader.error().message;
        return info;
    }
    info.link_type = reader->link_type_name();
    const int link_type = reader->link_type();
    std::array<detect::PipelinePacket, detect::Pipeline::batch> packets;
    std::array<PacketVerdict, packets.size()> verdicts;
    net::CapturedPacket captured;
    for (bool more = true; more;) {
        std::size_t taken = 0;
        do {
            const auto got = reader->next(captured);
            if (!got)
                info.error = got.error().message;
            more = got && *got;
            if (more)
                packets[taken++] = state_->take(link_type, captured.bytes, captured.wire_length, captured.time_ns);
        } while (more && taken < packets.size() && reader->next_keeps());
        state_->judge(std::span(packets).first(taken), verdicts);
        for (std::size_t i = 0; i < taken; ++i) {
            ++info.packets;
            info.skipped += !verdicts[i].is_flow;
            if (progress)
                progress(info);
        }
    }
    state_->review();
    return info;
}

std::span<const Flow> Analyzer::flows() const noexcept {
    return state_->flows.all();
}

std::vector<Flow> Analyzer::take_flows() {
    return state_->flows.take();
}

} // namespace btblock
