// SPDX-License-Identifier: MIT
#include "detect/Scorer.h"

#include <algorithm>
#include <cmath>

namespace btblock::detect {

namespace {

struct Sum {
    double points = 0;
    std::uint32_t codes = 0;
};

template <class Sightings> Sum sum(const Sightings& seen, std::uint64_t now_ns) {
    Sum total;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        if (seen[i] == 0)
            continue;
        const std::uint64_t age = now_ns > seen[i] ? now_ns - seen[i] : 0;
        const double points =
            weights[i].points * std::exp2(-static_cast<double>(age) / static_cast<double>(Scorer::half_life_ns));
        total.points += points;
        if (points >= 1)
            total.codes |= BT_EV_BIT(weights[i].code);
    }
    return total;
}

} // namespace

Scorer::Score Scorer::add(const bt_addr& client, std::uint32_t codes, std::uint64_t now_ns) {
    static constexpr std::uint32_t weighed = [] {
        std::uint32_t mask = 0;
        for (const Weight& weight : weights)
            mask |= BT_EV_BIT(weight.code);
        return mask;
    }();
    if (!(codes & weighed))
        return {};
    const std::lock_guard lock(mutex_);
    Sightings& seen = clients_[client];
    const double before = sum(seen, now_ns).points;
    for (std::size_t i = 0; i < weights.size(); ++i)
        if (codes & BT_EV_BIT(weights[i].code))
            seen[i] = std::max<std::uint64_t>(now_ns, 1);
    const Sum now = sum(seen, now_ns);
    if (now.points < threshold)
        return {};
    return {now.codes, before < threshold};
}

double Scorer::points(const bt_addr& client, std::uint64_t now_ns) {
    const std::lock_guard lock(mutex_);
    const Sightings* seen = clients_.find(client);
    return seen ? sum(*seen, now_ns).points : 0;
}

} // namespace btblock::detect
