// SPDX-License-Identifier: MIT
// Runs a fuzz target over the committed corpus in an ordinary build: every file, all of its prefixes up to 600 bytes,
// and every file with each of its bytes changed once. Fails when a property does not hold, when something crashes, or
// when there was nothing to run.
#include "target.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

namespace {

void run(const std::vector<std::uint8_t>& input, std::size_t size) {
    // A copy of exactly that size lets AddressSanitizer see the first byte read too far.
    const std::vector<std::uint8_t> exact(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(size));
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s CORPUS-DIRECTORY\n", argv[0]);
        return 2;
    }
    std::error_code failure;
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(argv[1], failure))
        if (entry.is_regular_file())
            files.push_back(entry.path());
    if (failure || files.empty()) {
        std::fprintf(stderr, "%s: %s\n", argv[1], failure ? failure.message().c_str() : "no inputs");
        return 1;
    }
    std::sort(files.begin(), files.end());
    for (const auto& path : files) {
        std::ifstream in(path, std::ios::binary);
        std::vector<std::uint8_t> input{std::istreambuf_iterator<char>(in), {}};
        if (in.bad() || input.empty()) {
            std::fprintf(stderr, "%s: cannot be read\n", path.c_str());
            return 1;
        }
        for (std::size_t n = 0; n <= std::min<std::size_t>(input.size(), 600); ++n)
            run(input, n);
        run(input, input.size());
        for (std::size_t i = 0; i < input.size(); ++i) {
            input[i] = static_cast<std::uint8_t>(input[i] ^ 0x55);
            run(input, input.size());
            input[i] = static_cast<std::uint8_t>(input[i] ^ 0x55);
        }
    }
    std::printf("%zu inputs\n", files.size());
    return 0;
}
