// SPDX-License-Identifier: MIT
#include "app/StateFile.h"
#include "core/Clock.h"

#include "net/Address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <unistd.h>

namespace btblock::app {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t second = BT_NSEC_PER_SEC;
constexpr Clocks clocks{1000 * second, 1'800'000'000 * second};

State sample() {
    State state;
    const auto ban = [&](std::string_view address, bt_ban value, std::string_view comment) {
        comment.copy(value.comment, sizeof value.comment - 1);
        state.ban_keys.push_back(net::Address::parse(address)->raw());
        state.bans.push_back(value);
    };
    ban("192.0.2.7", {900 * second, 4600 * second, 12, BT_EV_BIT(BT_EV_TCP_HANDSHAKE), 0, 2, {6881, 1}, {}}, "");
    ban("2001:db8::", {1 * second, never, 0, 0, BT_BAN_SUBNET64 | BT_BAN_MANUAL, 0, {}, {}},
        "two  words, \"quoted\" -");
    state.allow_keys.push_back(net::Prefix::parse("198.51.100.0/24")->lpm());
    state.allow.push_back({2000 * second, "a mirror"});
    return state;
}

void expect_same(const State& a, const State& b) {
    ASSERT_EQ(a.bans.size(), b.bans.size());
    ASSERT_EQ(a.allow.size(), b.allow.size());
    for (std::size_t i = 0; i < a.bans.size(); ++i) {
        EXPECT_EQ(std::memcmp(&a.ban_keys[i], &b.ban_keys[i], sizeof a.ban_keys[i]), 0) << i;
        EXPECT_EQ(std::memcmp(&a.bans[i], &b.bans[i], sizeof a.bans[i]), 0) << i;
    }
    for (std::size_t i = 0; i < a.allow.size(); ++i) {
        EXPECT_EQ(std::memcmp(&a.allow_keys[i], &b.allow_keys[i], sizeof a.allow_keys[i]), 0) << i;
        EXPECT_EQ(std::memcmp(&a.allow[i], &b.allow[i], sizeof a.allow[i]), 0) << i;
    }
}

TEST(StateFile, ManualBansAlone) {
    State state = sample();
    const std::size_t allow = state.allow.size();
    const auto manual = [](const bt_ban& ban) { return (ban.flags & BT_BAN_MANUAL) != 0; };
    std::size_t by_hand = 0;
    for (const bt_ban& ban : state.bans)
        by_hand += manual(ban);
    ASSERT_GT(by_hand, 0u);
    ASSERT_LT(by_hand, state.bans.size());
    keep_manual_bans(state);
    EXPECT_EQ(state.bans.size(), by_hand);
    EXPECT_EQ(state.ban_keys.size(), by_hand);
    EXPECT_TRUE(std::all_of(state.bans.begin(), state.bans.end(), manual));
    EXPECT_EQ(net::Address(state.ban_keys[0]).to_string(), "2001:db8::");
    EXPECT_EQ(state.allow.size(), allow);
}

TEST(StateFile, ReadsWhatItWrote) {
    const State state = sample();
    const auto back = parse_state(state_text(state, clocks), clocks);
    ASSERT_TRUE(back) << back.error().message;
    expect_same(*back, state);
}

TEST(StateFile, TimesFollowTheWallClockThroughAReboot) {
    const Clocks later{5 * second, clocks.wall_ns + 500 * second};
    const auto back = parse_state(state_text(sample(), clocks), later);
    ASSERT_TRUE(back);
    ASSERT_EQ(back->bans.size(), 2u);
    EXPECT_EQ(back->bans[0].expires_ns, (5 + 3600 - 500) * second);
    EXPECT_EQ(later.to_wall(back->bans[0].created_ns), clocks.wall_ns - 100 * second) << "before the machine was up";
    EXPECT_EQ(back->bans[1].expires_ns, never);
    const Clocks much_later{5 * second, clocks.wall_ns + 3601 * second};
    const auto rest = parse_state(state_text(sample(), clocks), much_later);
    ASSERT_TRUE(rest);
    EXPECT_EQ(rest->bans.size(), 1u);
    EXPECT_TRUE(rest->allow.empty());
}

TEST(StateFile, AWallClockThatWentBackIsNotBelieved) {
    const auto back = parse_state(state_text(sample(), clocks), Clocks{5 * second, 86400 * second});
    ASSERT_TRUE(back);
    EXPECT_EQ(back->bans[0].expires_ns, 3605 * second) << "no longer than it had when it was saved";
}

TEST(StateFile, AnyDamageIsFound) {
    const std::string text = state_text(sample(), clocks);
    for (std::size_t length = 0; length < text.size(); ++length)
        EXPECT_FALSE(parse_state(text.substr(0, length), clocks)) << length;
    for (std::size_t at = 0; at < text.size(); ++at) {
        std::string damaged = text;
        damaged[at] = static_cast<char>(damaged[at] ^ 1);
        EXPECT_FALSE(parse_state(damaged, clocks)) << at;
    }
    EXPECT_FALSE(parse_state(text + "x\n", clocks));
    EXPECT_THAT(parse_state("btblock-state 2 5\n", clocks).error().message, HasSubstr("another version"));
    EXPECT_THAT(parse_state("{}\n", clocks).error().message, HasSubstr("not a state file"));
    EXPECT_THAT(parse_state("btblock-state 1 5\nban nonsense\n", clocks).error().message, HasSubstr("line 2"));
}

TEST(StateFile, ConfiguredEntriesAreMarked) {
    bt_allow entry{never, "from the file"};
    EXPECT_FALSE(is_configured(entry));
    mark_as_configured(entry);
    EXPECT_TRUE(is_configured(entry));
    EXPECT_STREQ(entry.comment, "from the file");
}

TEST(StateFile, TheLongestAndTheOperatorsBansStay) {
    State state = sample();
    state.ban_keys.push_back(net::Address::parse("192.0.2.8")->raw());
    state.bans.push_back({0, 9999 * second, 0, 0, 0, 0, {}, {}});
    EXPECT_EQ(keep_longest_bans(state, 3), 0u);
    EXPECT_EQ(keep_longest_bans(state, 2), 1u);
    ASSERT_EQ(state.bans.size(), 2u);
    EXPECT_EQ(state.bans[0].expires_ns, never);
    EXPECT_EQ(state.bans[1].expires_ns, 9999 * second);
}

TEST(StateFile, OnDisk) {
    const std::string dir = testing::TempDir() + "btblock-state-" + std::to_string(getpid());
    EXPECT_TRUE(load_state(dir)->empty()) << "no file is an empty state";
    State state = sample();
    state.bans[0].expires_ns = never;
    ASSERT_TRUE(save_state(state, dir));
    const auto back = load_state(dir);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(back->bans.size(), 2u);
    std::ofstream(state_path(dir)) << "rubbish";
    const auto damaged = load_state(dir);
    ASSERT_FALSE(damaged);
    EXPECT_THAT(damaged.error().message, testing::AllOf(HasSubstr(state_path(dir)), HasSubstr(".damaged")));
    EXPECT_TRUE(load_state(dir)->empty());
    EXPECT_TRUE(save_state(State{}, dir));
    EXPECT_FALSE(std::filesystem::exists(state_path(dir)));
    std::filesystem::remove_all(dir);
}

} // namespace
} // namespace btblock::app
