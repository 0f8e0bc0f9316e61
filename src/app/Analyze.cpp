// SPDX-License-Identifier: MIT
#include "app/Analyze.h"

#include "core/ByteTable.h"
#include "core/Evidence.h"
#include "core/Result.h"
#include "net/Address.h"
#include "net/CaptureReader.h"
#include "net/Decapsulate.h"
#include "net/Packet.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <netinet/in.h>
#include <nlohmann/json.hpp>
#include <ostream>
#include <spdlog/fmt/fmt.h>
#include <string_view>
#include <utility>

namespace btblock::app {

namespace {

using Json = nlohmann::ordered_json;

struct Flow {
    bt_tuple tuple{}; // as its first packet had it
    std::uint64_t packets = 0;
    std::uint64_t first_seen = 0, last_seen = 0; // packet numbers
    std::uint64_t decided_at = 0;                // packet number, 0: never
    std::uint32_t evidence = 0;
};

struct CaptureReport {
    std::string file;    // as given
    std::string capture; // without folder
    std::string link_type;
    std::string error; // empty: read to its end
    std::uint64_t packets = 0;
    std::uint64_t skipped = 0; // no TCP or UDP ports in them
    std::uint64_t bittorrent_flows = 0;
    std::vector<Flow> flows; // in the order of their first packets
};

// Both directions have the same key.
bt_tuple flow_key(const bt_tuple& t) {
    bt_tuple key = t;
    const int order = std::memcmp(t.src.b, t.dst.b, sizeof t.src.b);
    if (order > 0 || (order == 0 && t.sport > t.dport)) {
        std::swap(key.src, key.dst);
        std::swap(key.sport, key.dport);
    }
    return key;
}

CaptureReport analyze_capture(const std::string& path, const PacketJudgeFactory& judges) {
    CaptureReport report;
    report.file = path;
    const auto slash = path.rfind('/');
    report.capture = slash == path.npos ? path : path.substr(slash + 1);

    auto reader = net::CaptureReader::open(path);
    if (!reader) {
        report.error = reader.error().message;
        return report;
    }
    report.link_type = reader->link_type_name();

    const PacketJudge judge = judges();
    ByteTable<bt_tuple, Flow> flows;
    std::uint64_t now = 1'000'000'000; // tables read 0 as "never"
    net::CapturedPacket packet;
    for (;;) {
        const auto more = reader->next(packet);
        if (!more)
            report.error = more.error().message;
        if (!more || !*more)
            break;
        ++report.packets;
        now = std::max(now, packet.time_ns); // merged captures go back a little

        const auto ip = net::decapsulate(reader->link_type(), packet.bytes, packet.wire_length);
        if (!ip) {
            ++report.skipped;
            continue;
        }
        const detect::Decision decision = judge(ip->bytes, ip->wire_length, now);
        const auto parsed = net::parse_packet(ip->bytes, ip->wire_length);
        if (!parsed || parsed->later_fragment) {
            ++report.skipped;
            continue;
        }
        Flow& flow = flows[flow_key(parsed->tuple)];
        if (flow.packets == 0) {
            flow.tuple = parsed->tuple;
            flow.first_seen = packet.number;
        }
        ++flow.packets;
        flow.last_seen = packet.number;
        if (decision.action != BT_ACT_DROP)
            continue;
        flow.evidence |= decision.evidence;
        if (flow.decided_at == 0) {
            flow.decided_at = packet.number;
            ++report.bittorrent_flows;
        }
    }
    report.flows.reserve(flows.size());
    flows.for_each([&](const Flow& flow) { report.flows.push_back(flow); });
    return report;
}

std::string_view proto_name(const Flow& flow) {
    return flow.tuple.proto == IPPROTO_TCP ? "tcp" : "udp";
}
std::string_view verdict_name(const Flow& flow) {
    return flow.decided_at ? "bittorrent" : "other";
}

// RFC 4180
std::string csv_field(const std::string& text) {
    if (text.find_first_of(",\"\r\n") == text.npos)
        return text;
    std::string quoted = "\"";
    for (char c : text)
        quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
    return quoted + '"';
}

// File names are shown to a terminal: control characters must not act there.
std::string printable(std::string text) {
    std::ranges::replace_if(
        text, [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127; }, '?');
    return text;
}

// One output format. Captures arrive in order, with the flows to be shown filtered by the caller's `all`.
class Writer {
public:
    virtual ~Writer() = default;
    virtual void begin() {}
    virtual void capture(const CaptureReport& report) = 0;
    virtual void end() {}

protected:
    Writer(std::ostream& out, bool all) : out_(out), all_(all) {}
    [[nodiscard]] bool shown(const Flow& flow) const { return all_ || flow.decided_at != 0; }
    std::ostream& out_;

private:
    bool all_;
};

class CsvWriter final : public Writer {
public:
    CsvWriter(std::ostream& out, bool all) : Writer(out, all) {}
    void begin() override { out_ << "capture,proto,src,sport,dst,dport,packets,verdict,evidence,first_packet\n"; }
    void capture(const CaptureReport& report) override {
        const std::string name = csv_field(report.capture);
        for (const Flow& f : report.flows)
            if (shown(f))
                out_ << fmt::format("{},{},{},{},{},{},{},{},{},{}\n", name, proto_name(f),
                                    net::Address(f.tuple.src).to_string(), f.tuple.sport,
                                    net::Address(f.tuple.dst).to_string(), f.tuple.dport, f.packets, verdict_name(f),
                                    evidence_string(f.evidence), f.decided_at ? std::to_string(f.decided_at) : "");
    }
};

// Flows are written as their capture ends; only the captures' summaries wait for the end.
class JsonWriter final : public Writer {
public:
    JsonWriter(std::ostream& out, bool all) : Writer(out, all) {}
    void begin() override { out_ << "{\"flows\":["; }
    void capture(const CaptureReport& report) override {
        for (const Flow& f : report.flows) {
            if (!shown(f))
                continue;
            Json flow{{"capture", report.capture},
                      {"proto", proto_name(f)},
                      {"src", net::Address(f.tuple.src).to_string()},
                      {"sport", f.tuple.sport},
                      {"dst", net::Address(f.tuple.dst).to_string()},
                      {"dport", f.tuple.dport},
                      {"packets", f.packets},
                      {"verdict", verdict_name(f)},
                      {"evidence", evidence_list(f.evidence)},
                      {"first_packet", f.decided_at ? Json(f.decided_at) : Json(nullptr)},
                      {"seen_from", f.first_seen},
                      {"seen_to", f.last_seen}};
            out_ << (std::exchange(first_, false) ? "\n" : ",\n") << text(flow);
        }
        captures_.push_back(text({{"capture", report.capture},
                                  {"file", report.file},
                                  {"link_type", report.link_type.empty() ? Json(nullptr) : Json(report.link_type)},
                                  {"packets", report.packets},
                                  {"flows", report.flows.size()},
                                  {"bittorrent_flows", report.bittorrent_flows},
                                  {"skipped_packets", report.skipped},
                                  {"error", report.error.empty() ? Json(nullptr) : Json(report.error)}}));
    }
    void end() override { out_ << fmt::format("\n],\n\"captures\":[\n{}\n]}}\n", fmt::join(captures_, ",\n")); }

private:
    // A file name need not be UTF-8.
    static std::string text(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }
    bool first_ = true;
    std::vector<std::string> captures_;
};

class HumanWriter final : public Writer {
public:
    HumanWriter(std::ostream& out, bool all) : Writer(out, all) {}
    void capture(const CaptureReport& report) override {
        if (report.link_type.empty()) // never opened; said on stderr
            return;
        using Row = std::array<std::string, 7>;
        std::vector<Row> rows{{"PROTO", "SOURCE", "DESTINATION", "PACKETS", "VERDICT", "AT PACKET", "EVIDENCE"}};
        for (const Flow& f : report.flows)
            if (shown(f))
                rows.push_back(
                    {std::string(proto_name(f)), net::endpoint_string(net::Address(f.tuple.src), f.tuple.sport),
                     net::endpoint_string(net::Address(f.tuple.dst), f.tuple.dport), std::to_string(f.packets),
                     std::string(verdict_name(f)), f.decided_at ? std::to_string(f.decided_at) : "-",
                     f.evidence ? evidence_string(f.evidence) : "-"});
        out_ << fmt::format("{}: {}, {}, {}, {}{}\n", printable(report.capture), count(report.packets, "packet"),
                            count(report.flows.size(), "flow"), count(report.bittorrent_flows, "bittorrent flow"),
                            count(report.skipped, "skipped packet"), report.error.empty() ? "" : " (incomplete)");
        if (rows.size() == 1)
            return;
        std::array<std::size_t, 6> width{};
        for (const Row& row : rows)
            for (std::size_t i = 0; i < width.size(); ++i)
                width[i] = std::max(width[i], row[i].size());
        for (const Row& r : rows) // numbers to the right, the last column as long as it is
            out_ << fmt::format("  {:<{}}  {:<{}}  {:<{}}  {:>{}}  {:<{}}  {:>{}}  {}\n", r[0], width[0], r[1],
                                width[1], r[2], width[2], r[3], width[3], r[4], width[4], r[5], width[5], r[6]);
    }

private:
    static std::string count(std::uint64_t n, std::string_view what) {
        return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
    }
};

std::unique_ptr<Writer> make_writer(const AnalyzeOptions& options, std::ostream& out) {
    switch (options.format) {
    case AnalyzeFormat::csv: return std::make_unique<CsvWriter>(out, options.all);
    case AnalyzeFormat::json: return std::make_unique<JsonWriter>(out, options.all);
    case AnalyzeFormat::human: break;
    }
    return std::make_unique<HumanWriter>(out, options.all);
}

// A closed pipe must be an error of write(), not the end of the process.
class IgnoreSigpipe {
public:
    IgnoreSigpipe() {
        struct sigaction ignore {};
        ignore.sa_handler = SIG_IGN;
        ::sigaction(SIGPIPE, &ignore, &before_);
    }
    ~IgnoreSigpipe() { ::sigaction(SIGPIPE, &before_, nullptr); }
    IgnoreSigpipe(const IgnoreSigpipe&) = delete;
    IgnoreSigpipe& operator=(const IgnoreSigpipe&) = delete;

private:
    struct sigaction before_ {};
};

} // namespace

int analyze_main(const AnalyzeOptions& options, std::ostream& out, std::ostream& err,
                 const PacketJudgeFactory& judges) {
    const IgnoreSigpipe ignore_sigpipe;
    bool failed = false;
    const auto writer = make_writer(options, out);
    // Writes one part. False: nobody reads any more, or the disk is full.
    const auto write = [&](const auto& part) {
        errno = 0;
        part();
        if (out.flush())
            return true;
        if (errno != EPIPE) {
            err << "btblock: " << errno_error("cannot write the report", errno ? errno : EIO).message << std::endl;
            failed = true;
        }
        return false;
    };

    bool writing = write([&] { writer->begin(); });
    for (const std::string& file : options.files) {
        if (!writing)
            break;
        const CaptureReport report = analyze_capture(file, judges);
        if (!report.error.empty()) {
            err << "btblock: " << printable(report.error) << std::endl;
            failed = true;
        }
        writing = write([&] { writer->capture(report); });
    }
    if (writing)
        write([&] { writer->end(); });
    return static_cast<int>(failed ? ExitCode::failure : ExitCode::ok);
}

int analyze_main(const AnalyzeOptions& options, std::ostream& out, std::ostream& err) {
    return analyze_main(options, out, err, [] {
        return [pipeline = std::make_shared<detect::Pipeline>()](std::span<const std::uint8_t> ip_packet,
                                                                 std::size_t wire_length, std::uint64_t time_ns) {
            return pipeline->packet(ip_packet, wire_length, time_ns);
        };
    });
}

} // namespace btblock::app
