// SPDX-License-Identifier: MIT
// Names of the evidence codes and of sets of them.
#pragma once

#include "btblock/abi.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace btblock {

inline constexpr std::array<std::string_view, BT_EV_COUNT> evidence_names{BT_EVIDENCE_NAMES};

// The codes of a mask, lowest first.
inline std::vector<std::string_view> evidence_list(std::uint32_t mask) {
    std::vector<std::string_view> names;
    for (std::size_t i = 0; i < evidence_names.size(); ++i)
        if (mask & BT_EV_BIT(i))
            names.push_back(evidence_names[i]);
    return names;
}

// The same joined by '+', as in the evidence column; empty for an empty mask.
inline std::string evidence_string(std::uint32_t mask) {
    std::string text;
    for (std::string_view name : evidence_list(mask)) {
        if (!text.empty())
            text += '+';
        text += name;
    }
    return text;
}

} // namespace btblock
