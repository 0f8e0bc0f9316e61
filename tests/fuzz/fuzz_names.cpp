// SPDX-License-Identifier: MIT
#include "detect/Names.h"
#include "target.h"

#include <algorithm>

using namespace btblock::detect;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Bytes all(data, size);
    const auto is_host = [](std::string_view host) {
        return host.size() <= HostName::longest && std::all_of(host.begin(), host.end(), [](char c) {
                   return is_alnum(static_cast<std::uint8_t>(c)) ? !(c >= 'A' && c <= 'Z')
                                                                 : c == '-' || c == '_' || c == '.';
               });
    };
    ClientHello whole;
    whole.feed(all);
    FUZZ_REQUIRE(is_host(whole.host()) && (whole.host().empty() || whole.done()));
    // However it is cut, it is the same.
    ClientHello pieces;
    const std::size_t step = size > 0 ? 1u + data[size - 1] : 1;
    for (std::size_t at = 0; at < size; at += step)
        pieces.feed(all.subspan(at, std::min(step, size - at)));
    FUZZ_REQUIRE(pieces.done() == whole.done() && pieces.host() == whole.host());
    HostName host;
    const bool query = read_dns_query(all, host);
    FUZZ_REQUIRE(is_host(host.text()) && (query || host.text().empty()));
    is_known_host(host.text());
    return 0;
}
