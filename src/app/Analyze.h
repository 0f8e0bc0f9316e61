// SPDX-License-Identifier: MIT
// `btblock analyze`: a verdict for every flow of capture files, without privileges.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

namespace btblock::app {

enum class AnalyzeFormat { human, json, csv };

struct AnalyzeOptions {
    AnalyzeFormat format = AnalyzeFormat::human;
    bool progress = false;          // a line on `err`, a terminal, when it takes longer than a second
    std::size_t width = 0;          // of the terminal that `out` is; 0: none
    bool all = false;               // also the flows that are not BitTorrent
    std::vector<std::string> files; // pcap or pcapng; "-" is standard input
};

// Writes the report to `out` and what went wrong to `err`; a bad file does not stop the others.
// The exit code: ok, or failure when a file could not be read to its end or `out` could not be written.
// A reader that closed the pipe is not a failure; SIGPIPE is ignored while this runs.
int analyze_main(const AnalyzeOptions& options, std::ostream& out, std::ostream& err);

} // namespace btblock::app
