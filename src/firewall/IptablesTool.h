// SPDX-License-Identifier: MIT
// iptables and ip6tables as programs: which there are, and what to do with them.
#pragma once

#include "firewall/Command.h"
#include "firewall/IptablesRules.h"

#include <functional>
#include <string>
#include <vector>

namespace btblock::firewall {

struct Family {
    std::string tool;        // also the start of the other tools' names
    std::string table_names; // lists the legacy tables of this network namespace
};

extern const Family ipv4;
extern const Family ipv6;

struct Tool {
    std::string command;
    std::string restore;
    Flavour flavour;
};

// The tool of the plain name first: it is what the operator's other rules use.
std::vector<Tool> available_tools(const Family& family);
// The rules of a table as `iptables -S` prints them.
Result<std::string> list_table(const Tool& tool, const std::string& table);
// One transaction of `iptables-restore --noflush`.
Result<void> restore(const Tool& tool, const std::string& text);
// The first tool that does it, or what each said.
Result<Tool> first_that_works(const Family& family, const std::function<Result<void>(const Tool&)>& action);
// The kernel may have no IPv6, or have it turned off at boot.
bool ipv6_exists();

} // namespace btblock::firewall
