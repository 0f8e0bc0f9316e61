// SPDX-License-Identifier: MIT
#include "event/FloodGuard.h"

#include "unit/event_samples.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using namespace btblock::event;
using testing::IsEmpty;

Event detection(const char* client, unsigned code) {
    Event event = event_samples::all().front();
    event.client = event.src = *btblock::net::Address::parse(client);
    event.evidence = BT_EV_BIT(code);
    return event;
}

TEST(FloodGuard, TellsTheFirstAndCountsTheRest) {
    FloodGuard guard;
    Event event = detection("10.8.0.2", BT_EV_DHT_QUERY);
    unsigned passed = 0;
    for (unsigned i = 0; i < 1000; ++i) {
        event.dst_port = static_cast<std::uint16_t>(i); // another flow, the same client and evidence
        passed += guard.pass(event);
    }
    EXPECT_EQ(passed, FloodGuard::limit);
    EXPECT_EQ(guard.suppressed(), 990u);
    const auto told = guard.next_second(7);
    ASSERT_EQ(told.size(), 1u);
    EXPECT_EQ(told[0].type, EventType::suppressed);
    EXPECT_EQ(told[0].count, 990u);
    EXPECT_EQ(told[0].time_ns, 7u);
    EXPECT_EQ(told[0].client, event.client);
    EXPECT_EQ(told[0].evidence, event.evidence);
    EXPECT_EQ(told[0].action, "drop");
    EXPECT_EQ(describe(told[0]), "suppressed: 990 more events of the type detection, dht.query, client 10.8.0.2");
    // the next second begins anew
    EXPECT_TRUE(guard.pass(event));
    EXPECT_THAT(guard.next_second(8), IsEmpty());
    EXPECT_EQ(guard.suppressed(), 990u);
}

TEST(FloodGuard, OtherClientsEvidenceAndTypesAreNotAlike) {
    FloodGuard guard;
    for (unsigned i = 0; i < FloodGuard::limit; ++i) {
        EXPECT_TRUE(guard.pass(detection("10.8.0.2", BT_EV_DHT_QUERY)));
        EXPECT_TRUE(guard.pass(detection("10.8.0.3", BT_EV_DHT_QUERY)));
        EXPECT_TRUE(guard.pass(detection("10.8.0.2", BT_EV_UTP_SYN)));
        Event condemned = detection("10.8.0.2", BT_EV_DHT_QUERY);
        condemned.type = EventType::condemn;
        EXPECT_TRUE(guard.pass(condemned));
        Event noticed = detection("10.8.0.2", BT_EV_DHT_QUERY);
        noticed.action = "pass";
        EXPECT_TRUE(guard.pass(noticed));
    }
    EXPECT_THAT(guard.next_second(1), IsEmpty());
}

TEST(FloodGuard, BansAndHealthAlwaysPass) {
    FloodGuard guard;
    for (const Event& event : event_samples::all()) {
        if (event.type == EventType::detection || event.type == EventType::condemn)
            continue;
        for (unsigned i = 0; i < 100; ++i)
            EXPECT_TRUE(guard.pass(event));
    }
    EXPECT_EQ(guard.suppressed(), 0u);
}

TEST(FloodGuard, WithTooManyKindsTheFurtherOnesPass) {
    FloodGuard guard;
    Event event = detection("10.8.0.2", BT_EV_DHT_QUERY);
    for (std::uint32_t kind = 1; kind <= FloodGuard::capacity; ++kind) {
        event.evidence = kind;
        EXPECT_TRUE(guard.pass(event));
    }
    event.evidence = FloodGuard::capacity + 1;
    for (unsigned i = 0; i < 100; ++i)
        EXPECT_TRUE(guard.pass(event));
    EXPECT_EQ(guard.suppressed(), 0u);
}

} // namespace
