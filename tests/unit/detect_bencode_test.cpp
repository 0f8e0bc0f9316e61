// SPDX-License-Identifier: MIT
#include "detect/Bencode.h"
#include "detect_build.h"

using namespace btblock::detect;
using namespace btblock::detect::build;
using bencode::is_complete_value;
using bencode::Reader;
using bencode::Status;

namespace {

Status skip_status(std::string_view text) {
    Reader r(bytes(text));
    r.skip();
    return r.status();
}

TEST(Bencode, AcceptsCanonicalValues) {
    for (const char* good : {"i0e", "i-1e", "i42e", "i9223372036854775807e", "i18446744073709551615e", "0:", "4:spam",
                             "le", "de", "l4:spami7ee", "d1:a1:b1:cd1:dleee"})
        EXPECT_TRUE(is_complete_value(bytes(good))) << good;
}

TEST(Bencode, RefusesMalformedValues) {
    for (const char* bad : {"ie", "i-e", "i-0e", "i01e", "i00e", "i1.e", "i 1e", "i18446744073709551616e", "01:a",
                            "-1:a", "1a", "di1e1:ae", "d1:ae", "dlee1:a", "e", "x", "l", "123456789:a"})
        EXPECT_FALSE(is_complete_value(bytes(bad))) << bad;
    EXPECT_FALSE(is_complete_value(bytes("i1ei2e"))) << "something after the value";
    EXPECT_EQ(skip_status("i01e"), Status::malformed);
    EXPECT_EQ(skip_status("di1e1:ae"), Status::malformed);
}

TEST(Bencode, EveryCutIsTruncatedNeverMalformed) {
    const std::string whole = "d3:cow3:moo4:listli-5e0:d1:k1:veee";
    ASSERT_TRUE(is_complete_value(bytes(whole)));
    for (std::size_t n = 0; n < whole.size(); ++n)
        EXPECT_EQ(skip_status(whole.substr(0, n)), Status::truncated) << n;
}

TEST(Bencode, DepthIsBounded) {
    const auto nested = [](std::size_t n) { return std::string(n, 'l') + std::string(n, 'e'); };
    EXPECT_TRUE(is_complete_value(bytes(nested(Reader::max_depth))));
    EXPECT_EQ(skip_status(nested(Reader::max_depth + 1)), Status::malformed);
    EXPECT_EQ(skip_status(std::string(1u << 20, 'l')), Status::malformed);
    EXPECT_EQ(skip_status(std::string(1u << 20, 'd')), Status::malformed);
}

TEST(Bencode, KnowsWhetherKeysAreSorted) {
    Reader sorted(bytes("d1:ai1e1:bd1:zi1ee1:ci1ee")), unsorted(bytes("d1:bi1e1:ai1ee")),
        twice(bytes("d1:ai1e1:ai1ee"));
    EXPECT_TRUE(sorted.skip() && sorted.sorted());
    EXPECT_TRUE(unsorted.skip());
    EXPECT_FALSE(unsorted.sorted());
    EXPECT_TRUE(twice.skip());
    EXPECT_FALSE(twice.sorted());
}

TEST(Bencode, CutStringTellsItsLength) {
    Reader r(bytes("12:abc"));
    Bytes there;
    std::size_t declared = 0;
    ASSERT_TRUE(r.read_cut_string(there, declared));
    EXPECT_EQ(declared, 12u);
    EXPECT_EQ(there.size(), 3u);
    EXPECT_EQ(r.status(), Status::truncated);
    EXPECT_FALSE(r.skip());
}

TEST(Bencode, SaturatesUnsignedCounters) {
    std::int64_t n = 0;
    Reader big(bytes("i18446744073709551615e")), small(bytes("i-9223372036854775807e"));
    ASSERT_TRUE(big.read_integer(n));
    EXPECT_EQ(n, std::numeric_limits<std::int64_t>::max());
    ASSERT_TRUE(small.read_integer(n));
    EXPECT_EQ(n, -std::numeric_limits<std::int64_t>::max());
}

TEST(Bencode, EndWithoutContainerIsAnError) {
    Reader r(bytes("e"));
    EXPECT_FALSE(r.next_item());
    EXPECT_EQ(r.status(), Status::malformed);
}

} // namespace
