// SPDX-License-Identifier: MIT
// `btblock analyze`: a verdict for every flow of capture files, without privileges.
#pragma once

#include "detect/Pipeline.h"

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <span>
#include <string>
#include <vector>

namespace btblock::app {

enum class AnalyzeFormat { human, json, csv };

struct AnalyzeOptions {
    AnalyzeFormat format = AnalyzeFormat::human;
    bool all = false;               // also the flows that are not BitTorrent
    std::vector<std::string> files; // pcap or pcapng; "-" is standard input
};

// Judges the packets of one capture in order.
struct PacketJudge {
    // The IP packet, its length on the wire, nanoseconds that never go back.
    std::function<detect::Decision(std::span<const std::uint8_t> ip_packet, std::size_t wire_length,
                                   std::uint64_t time_ns)>
        packet;
    // See detect::Pipeline::review; may be absent.
    std::function<void(const std::function<void(const bt_tuple&, std::uint32_t evidence)>&)> review;
};
// Makes a fresh one for every capture.
using PacketJudgeFactory = std::function<PacketJudge()>;

// Writes the report to `out` and what went wrong to `err`; a bad file does not stop the others.
// The exit code: ok, or failure when a file could not be read to its end or `out` could not be written.
// A reader that closed the pipe is not a failure; SIGPIPE is ignored while this runs.
int analyze_main(const AnalyzeOptions& options, std::ostream& out, std::ostream& err);
int analyze_main(const AnalyzeOptions& options, std::ostream& out, std::ostream& err, const PacketJudgeFactory& judges);

} // namespace btblock::app
