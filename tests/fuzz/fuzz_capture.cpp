// SPDX-License-Identifier: MIT
// Capture files of any bytes.
#include "btblock/btblock.hpp"
#include "target.h"

#include <string>
#include <sys/mman.h>
#include <unistd.h>

using namespace btblock;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const int file = ::memfd_create("capture", MFD_CLOEXEC);
    static const std::string path = "/proc/self/fd/" + std::to_string(file);
    FUZZ_REQUIRE(file >= 0 && ::ftruncate(file, 0) == 0);
    FUZZ_REQUIRE(::pwrite(file, data, size, 0) == static_cast<ssize_t>(size));

    AnalyzerOptions options;
    options.half_flows = 16;
    Analyzer analyzer(options);
    const CaptureInfo info = analyzer.read_capture(path);
    FUZZ_REQUIRE(info.skipped <= info.packets);
    FUZZ_REQUIRE(info.error.empty() || info.error.starts_with(path));
    FUZZ_REQUIRE(!info.link_type.empty() || !info.error.empty());
    std::uint64_t packets = 0;
    for (const Flow& f : analyzer.flows())
        packets += f.packets;
    FUZZ_REQUIRE(packets == info.packets - info.skipped);
    return 0;
}
