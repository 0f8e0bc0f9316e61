// SPDX-License-Identifier: MIT
// Series: named measurements, printed as one JSON object that bench/report reads.
#pragma once

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

namespace btblock::bench {

class Series {
public:
    void add(const std::string& name, double value) { values_[name].push_back(value); }
    // Why a measurement is not there.
    void skip(const std::string& name, const std::string& reason) { skipped_[name] = reason; }
    void print() const {
        std::printf("%s\n", nlohmann::ordered_json{{"series", values_}, {"skipped", skipped_}}.dump(1).c_str());
    }

private:
    nlohmann::ordered_json values_ = nlohmann::ordered_json::object();
    nlohmann::ordered_json skipped_ = nlohmann::ordered_json::object();
};

} // namespace btblock::bench
