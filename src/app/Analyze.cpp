// SPDX-License-Identifier: MIT
#include "app/Analyze.h"

#include "app/Progress.h"
#include "app/Render.h"
#include "btblock/btblock.hpp"
#include "core/Result.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>
#include <span>
#include <spdlog/fmt/compile.h>
#include <spdlog/fmt/fmt.h>
#include <sstream>
#include <string_view>
#include <utility>

namespace btblock::app {

namespace {

struct CaptureReport {
    std::string file;    // as given
    std::string capture; // without folder
    CaptureInfo info;
    Analyzer analyzer;
    std::span<const Flow> flows; // the analyzer's
    std::size_t bittorrent_flows = 0;
};

CaptureReport analyze_capture(const std::string& path, Progress& progress) {
    CaptureReport report;
    report.file = path;
    const auto slash = path.rfind('/');
    report.capture = slash == path.npos ? path : path.substr(slash + 1);
    std::uint64_t until_look = 0; // the clock is not asked for every packet
    const auto show = [&](const CaptureInfo& info) {
        if (until_look-- != 0)
            return;
        until_look = 255;
        progress.show(printable(report.capture), info.packets);
    };
    report.info = progress.wanted() ? report.analyzer.read_capture(path, show) : report.analyzer.read_capture(path);
    progress.clear();
    report.flows = report.analyzer.flows();
    report.bittorrent_flows =
        static_cast<std::size_t>(std::ranges::count(report.flows, Verdict::bittorrent, &Flow::verdict));
    return report;
}

// "192.0.2.1:80" or "[2001:db8::1]:80"
std::string endpoint(const IpAddress& address, std::uint16_t port) {
    const std::string text = address.to_string();
    return text.find(':') == text.npos ? fmt::format("{}:{}", text, port) : fmt::format("[{}]:{}", text, port);
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

// One output format. Captures arrive in order, with the flows to be shown filtered by the caller's `all`.
class Writer {
public:
    virtual ~Writer() = default;
    virtual void begin() {}
    virtual void capture(const CaptureReport& report) = 0;
    virtual void end() {}

protected:
    Writer(std::ostream& out, bool all) : out_(out), all_(all) {}
    [[nodiscard]] bool shown(const Flow& flow) const { return all_ || flow.verdict == Verdict::bittorrent; }
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
        std::string rows;
        for (const Flow& f : report.flows) {
            if (!shown(f))
                continue;
            fmt::format_to(std::back_inserter(rows), FMT_COMPILE("{},{},{},{},{},{},{},{},{},"), name,
                           to_string(f.proto), f.src.to_string(), f.sport, f.dst.to_string(), f.dport, f.packets,
                           to_string(f.verdict), f.evidence.to_string());
            if (f.first_packet)
                fmt::format_to(std::back_inserter(rows), FMT_COMPILE("{}"), f.first_packet);
            rows += '\n';
            if (rows.size() >= 1 << 16) {
                out_ << rows;
                rows.clear();
            }
        }
        out_ << rows;
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
                      {"proto", to_string(f.proto)},
                      {"src", f.src.to_string()},
                      {"sport", f.sport},
                      {"dst", f.dst.to_string()},
                      {"dport", f.dport},
                      {"packets", f.packets},
                      {"verdict", to_string(f.verdict)},
                      {"evidence", f.evidence.codes()},
                      {"first_packet", f.first_packet ? Json(f.first_packet) : Json(nullptr)},
                      {"seen_from", f.first_seen},
                      {"seen_to", f.last_seen}};
            out_ << (std::exchange(first_, false) ? "\n" : ",\n") << text(flow);
        }
        captures_.push_back(
            text({{"capture", report.capture},
                  {"file", report.file},
                  {"link_type", report.info.link_type.empty() ? Json(nullptr) : Json(report.info.link_type)},
                  {"packets", report.info.packets},
                  {"flows", report.flows.size()},
                  {"bittorrent_flows", report.bittorrent_flows},
                  {"skipped_packets", report.info.skipped},
                  {"error", report.info.error.empty() ? Json(nullptr) : Json(report.info.error)}}));
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
    HumanWriter(std::ostream& out, bool all, std::size_t width) : Writer(out, all), width_(width) {}
    void capture(const CaptureReport& report) override {
        if (report.info.link_type.empty()) // never opened; said on stderr
            return;
        Table table({{"PROTO"},
                     {"SOURCE"},
                     {"DESTINATION"},
                     {"PACKETS", Table::Align::right},
                     {"VERDICT"},
                     {"AT", Table::Align::right},
                     {"EVIDENCE"}});
        for (const Flow& f : report.flows)
            if (shown(f))
                table.row({std::string(to_string(f.proto)), endpoint(f.src, f.sport), endpoint(f.dst, f.dport),
                           std::to_string(f.packets), std::string(to_string(f.verdict)),
                           f.first_packet ? std::to_string(f.first_packet) : "-",
                           f.evidence.empty() ? "-" : f.evidence.to_string()});
        out_ << fmt::format("{}: {}, {}, {}, {}{}\n", printable(report.capture), count(report.info.packets, "packet"),
                            count(report.flows.size(), "flow"), count(report.bittorrent_flows, "bittorrent flow"),
                            count(report.info.skipped, "skipped packet"),
                            report.info.error.empty() ? "" : " (incomplete)");
        if (table.empty())
            return;
        std::istringstream lines(table.text(width_ > indent_ ? width_ - indent_ : 0));
        for (std::string line; std::getline(lines, line);)
            out_ << std::string(indent_, ' ') << line << '\n';
    }

private:
    static std::string count(std::uint64_t n, std::string_view what) {
        return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
    }
    static constexpr std::size_t indent_ = 2;
    std::size_t width_;
};

std::unique_ptr<Writer> make_writer(const AnalyzeOptions& options, std::ostream& out) {
    switch (options.format) {
    case AnalyzeFormat::csv: return std::make_unique<CsvWriter>(out, options.all);
    case AnalyzeFormat::json: return std::make_unique<JsonWriter>(out, options.all);
    case AnalyzeFormat::human: break;
    }
    return std::make_unique<HumanWriter>(out, options.all, options.width);
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

int analyze_main(const AnalyzeOptions& options, std::ostream& out, std::ostream& err) {
    const IgnoreSigpipe ignore_sigpipe;
    bool failed = false;
    const auto writer = make_writer(options, out);
    Progress progress(err, options.progress);
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
        const CaptureReport report = analyze_capture(file, progress);
        if (!report.info.error.empty()) {
            err << "btblock: " << printable(report.info.error) << std::endl;
            failed = true;
        }
        writing = write([&] { writer->capture(report); });
    }
    if (writing)
        write([&] { writer->end(); });
    return static_cast<int>(failed ? ExitCode::failure : ExitCode::ok);
}

} // namespace btblock::app
