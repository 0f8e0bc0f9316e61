// SPDX-License-Identifier: MIT
#include "firewall/NftRules.h"

#include "firewall/Command.h"
#include "firewall/IptablesRules.h"

#include <spdlog/fmt/fmt.h>
#include <sstream>

namespace btblock::firewall {

namespace {

Result<void> run_nft(std::vector<std::string> arguments, const std::string& input) {
    arguments.insert(arguments.begin(), "nft");
    auto output = run_command(arguments, input);
    if (!output)
        return output.error();
    if (!output->succeeded())
        return error("nft: " + output->complaint());
    return {};
}

// The usual failure deserves plain words: nft only says that some file does not exist.
Result<void> load(std::vector<std::string> arguments, const RuleOptions& options) {
    auto loaded = run_nft(std::move(arguments), nft_install_text(options));
    if (!loaded && loaded.error().message.find("No such file or directory") != std::string::npos)
        return error(loaded.error().message + " (this kernel has no nft queue expression, CONFIG_NFT_QUEUE)");
    return loaded;
}

} // namespace

// '-' is fine in nft names after the first character, so two instances never share a table.
std::string nft_table_name(std::string_view instance) {
    return "btblock_" + std::string(instance);
}

std::string nft_remove_text(std::string_view instance) {
    return fmt::format("table inet {0}\ndelete table inet {0}\n", nft_table_name(instance));
}

std::string nft_install_text(const RuleOptions& options) {
    const unsigned last = options.queue_first + options.queue_count - 1u;
    const std::string queues = options.queue_count == 1 ? std::to_string(options.queue_first)
                                                        : fmt::format("{}-{}", options.queue_first, last);
    return nft_remove_text(options.instance) +
           fmt::format("table inet {} {{\n"
                       "\tchain prerouting {{\n"
                       "\t\ttype filter hook prerouting priority -300; policy accept;\n"
                       "\t\tmeta mark & {:#x} == {:#x} queue num {}{}\n"
                       "\t}}\n"
                       "}}\n",
                       nft_table_name(options.instance), options.mark, options.mark, queues,
                       options.bypass ? " bypass" : "");
}

// With -c the kernel checks everything, loading modules as needed, and then commits nothing.
Result<void> probe_nft(const RuleOptions& options) {
    return load({"-c", "-f", "-"}, options);
}

Result<int> remove_nft_rules(const std::string& instance) {
    if (!find_tool("nft"))
        return 0;
    auto listing = run_command({"nft", "list", "tables"});
    if (!listing)
        return listing.error();
    if (!listing->succeeded()) {
        if (says_unsupported(listing->err))
            return 0;
        return error("nft: " + listing->complaint());
    }
    const std::string wanted = nft_table_name(instance);
    std::istringstream lines(listing->out);
    std::string word;
    std::string family;
    std::string name;
    std::string commands;
    int found = 0;
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        if (words >> word >> family >> name && word == "table" && name == wanted) {
            commands += fmt::format("delete table {} {}\n", family, name);
            ++found;
        }
    }
    if (found > 0)
        if (auto deleted = run_nft({"-f", "-"}, commands); !deleted)
            return deleted.error();
    return found;
}

Result<void> NftRules::install() {
    notes_.clear();
    if (auto loaded = load({"-f", "-"}, options_); !loaded)
        return loaded;
    if (auto other = remove_iptables_rules(options_.instance); !other)
        notes_.push_back("looking for rules that an earlier run left in iptables: " + other.error().message);
    return install_filter(options_);
}

Result<void> NftRules::remove() {
    auto filter = remove_punt_filter(options_.instance);
    auto removed = remove_nft_rules(options_.instance);
    if (!removed)
        return removed.error();
    if (!filter)
        return filter.error();
    return {};
}

} // namespace btblock::firewall
