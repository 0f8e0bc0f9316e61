// SPDX-License-Identifier: MIT
// Configurations that are wrong, each in its own way: every message names the place and what to do.
#include "core/Config.h"
#include "core/TomlSyntax.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace fs = std::filesystem;
using testing::HasSubstr;

namespace btblock {
namespace {

class Folder {
public:
    Folder() {
        char pattern[] = "/tmp/btblock-broken-XXXXXX";
        path_ = mkdtemp(pattern);
    }
    ~Folder() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    std::string write(const std::string& name, const std::string& text) const {
        const fs::path path = path_ + "/" + name;
        fs::create_directories(path.parent_path());
        std::ofstream(path, std::ios::binary) << text;
        return path;
    }
    [[nodiscard]] const std::string& path() const { return path_; }

private:
    std::string path_;
};

std::vector<std::string> problems(const ConfigSources& sources) {
    const auto loaded = load_config(sources);
    if (loaded)
        return {};
    EXPECT_EQ(loaded.error().exit_code, ExitCode::usage);
    std::vector<std::string> lines;
    std::istringstream text(loaded.error().message);
    for (std::string line; std::getline(text, line);)
        lines.push_back(line);
    return lines;
}

struct Complaint {
    std::string place; // LINE:COLUMN
    std::string what;  // the mistake
    std::string remedy;
};

struct BrokenFile {
    const char* name;
    std::string text;
    std::vector<Complaint> complaints; // all of them, in this order
};

using namespace std::string_literals;

const std::vector<BrokenFile> files{
    // ---- not TOML
    {"unclosed quotes", "monitor_only = true\nlog_level = \"info\n", {{"2:18", "string", "close the quotes"}}},
    {"unclosed list",
     "interfaces = [\"eth0\"\nmonitor_only = true\npersist = true\n",
     {{"2:1", "closing ']'", "close the list with ]"}}},
    {"no comma in a list", "whitelist_ports = [22 53]\n", {{"1:23", "comma", "write commas between"}}},
    {"names without quotes in a list", "interfaces = [eth0, wg0]\n", {{"1:15", "", "put text in quotes"}}},
    {"unclosed entry", "allow = [{ prefix = \"10.0.0.0/8\" ]\n", {{"1:", "inline table", "close the table with }"}}},
    {"no value", "interfaces =\n", {{"1:13", "expected value", "write a value after the equals sign"}}},
    {"no equals sign", "monitor_only true\n", {{"1:14", "expected '='", "write KEY = VALUE"}}},
    {"unclosed heading", "[ban\nduration = \"2h\"\n", {{"1:5", "table header", "[NAME], alone on its line"}}},
    {"text without quotes", "log_level = debug\n", {{"1:", "", "put text in quotes: \"debug\""}}},
    {"duration without quotes", "ban.duration = 5h\n", {{"1:1", "", "put text in quotes: \"5h\""}}},
    {"True as in Python", "monitor_only = True\n", {{"1:16", "expected 'true'", "write true or false"}}},
    {"yes", "monitor_only = yes\n", {{"1:16", "", "write true or false"}}},
    {"zeroes in front", "queue.first = 010\n", {{"1:1", "leading zero", "without zeroes in front"}}},
    {"bad escape", "events.file = \"C:\\qog\"\n", {{"1:", "'\\q'", "single quotes"}}},
    {"the same key twice", "mark_bit = 3\nmark_bit = 4\n", {{"2:", "'mark_bit'", "keep one of the lines"}}},
    {"the same section twice",
     "[ban]\nafter = 1\n[ban]\ngrowth = 2\n",
     {{"3:", "'ban'", "put its keys below one heading"}}},
    {"not UTF-8",
     "persist = true\nevents.file = \"/var/log/\xff.json\"\n",
     {{"2:24", "utf-8", "save the file as UTF-8"}}},
    // ---- unknown keys
    {"letters swapped", "monitor_onyl = true\n", {{"1:1", "'monitor_onyl'", "did you mean 'monitor_only'?"}}},
    {"wrong section", "[queue]\nduration = \"2h\"\n", {{"2:1", "'queue.duration'", "did you mean 'ban.duration'?"}}},
    {"unknown section", "[bans]\nduration = \"2h\"\n", {{"2:1", "'bans.duration'", "did you mean 'ban.duration'?"}}},
    {"the predecessor's name", "queue_num = 3\n", {{"1:1", "'queue_num'", "did you mean 'queue.first'?"}}},
    {"nothing like it", "zzzzzzzz = 1\n", {{"1:1", "'zzzzzzzz'", "`btblock config dump` lists all keys"}}},
    {"unknown key of an entry",
     "allow = [{ prefx = \"10.0.0.0/8\" }]\n",
     {{"1:20", "allow[1].prefx", "did you mean 'prefix'?"}}},
    // ---- wrong types
    {"text for yes or no", "monitor_only = \"yes\"\n", {{"1:16", "monitor_only", "must be true or false, not text"}}},
    {"text for a list", "interfaces = \"eth0\"\n", {{"1:14", "interfaces", "must be a list of interface names"}}},
    {"a value for a section", "ban = 5\n", {{"1:7", "is a section", "its keys are ban.target, "}}},
    {"a name for a port",
     "whitelist_ports = [22, \"ssh\"]\n",
     {{"1:24", "whitelist_ports[2]", "a port from 1 to 65535, not text"}}},
    {"a date for a duration", "ban.duration = 2020-01-01\n", {{"1:16", "a date", "text such as \"90s\", \"30m\""}}},
    {"a number for a prefix", "allow = [5]\n", {{"1:10", "allow[1]", "{ prefix = \"...\", comment = \"...\" }"}}},
    // ---- values that cannot be
    {"out of range", "mark_bit = 32\n", {{"1:12", "not 32", "from 0 to 31"}}},
    {"no port",
     "whitelist_ports = [0, 70000]\n",
     {{"1:20", "not 0", "from 1 to 65535"}, {"1:23", "not 70000", "from 1 to 65535"}}},
    {"one of several", "ban.target = \"peers\"\n", {{"1:14", "'peers'", "did you mean 'peer'?"}}},
    {"bad prefixes",
     "inside = [\"10.0.0.0/33\", \"300.1.1.1\"]\n",
     {{"1:11", "'10.0.0.0/33'", "such as \"192.0.2.0/24\""}, {"1:26", "'300.1.1.1'", "such as \"192.0.2.0/24\""}}},
    {"bad duration", "ban.duration = \"5 hours\"\n", {{"1:16", "'5 hours'", "for example 90s, 30m, 2h, 7d"}}},
    {"no duration", "ban.duration = 0\n", {{"1:16", "ban.duration", "must be from 1s to 3650d"}}},
    {"no interface", "interfaces = []\n", {{"1:14", "names no interface", "name one, or remove the line"}}},
    {"names in one text", "interfaces = [\"eth0,wg0\"]\n", {{"1:15", "more than one name", "quotes of its own"}}},
    {"no name", "interfaces = [\"eth 0\"]\n", {{"1:15", "'eth 0'", "`ip link` lists them"}}},
    {"a NUL in a path", "events.file = \"a\\u0000b\"\n", {{"1:15", "NUL", "remove it"}}},
    {"an entry without prefix", "allow = [{ comment = \"x\" }]\n", {{"1:10", "has no prefix", "add prefix = "}}},
    {"no address to listen on", "metrics.listen = \"9100\"\n", {{"1:18", "'9100'", "for example \"127.0.0.1:9478\""}}},
    {"not implemented", "xdp = \"offload\"\n", {{"1:7", "offload", "use \"auto\""}}},
    // ---- keys that contradict each other
    {"queues beyond the last",
     "[queue]\nfirst = 65535\ncount = 4\n",
     {{"2:9", "queue.count 4", "queue numbers end at 65535"}}},
    {"a maximum below the first",
     "[ban]\nduration = \"7d\"\ngrowth = 2\nmax_duration = \"1h\"\n",
     {{"4:16", "shorter than ban.duration 7d", "make it longer"}}},
    {"two logs in one file",
     "detection_log = \"/var/log/x\"\n[events]\nfile = \"/var/log/x\"\n",
     {{"1:17", "the same file", "give each its own"}}},
    // ---- several at once, in the order of the lines
    {"many values",
     "zz = 1\nmark_bit = 99\nlog_level = \"loud\"\n[ban]\nduration = \"x\"\n",
     {{"1:1", "'zz'", "lists all keys"},
      {"2:12", "not 99", "from 0 to 31"},
      {"3:13", "'loud'", "is not one of"},
      {"5:12", "'x'", "for example 90s"}}},
    {"syntax and values",
     "log_level = debug\n\n# a comment\nmark_bit = 99\nmonitor_only = True\npersits = true\n",
     {{"1:", "", "put text in quotes: \"debug\""},
      {"4:12", "not 99", "from 0 to 31"},
      {"5:16", "expected 'true'", "write true or false"},
      {"6:1", "'persits'", "did you mean 'persist'?"}}},
    {"values before what cannot be read on",
     "mark_bit = 99\n[ban\nduration = 0\n",
     {{"1:12", "not 99", "from 0 to 31"}, {"2:5", "table header", "[NAME]"}}},
};

TEST(BrokenConfig, EveryMessageNamesPlaceMistakeAndRemedy) {
    ASSERT_GE(files.size(), 20u);
    const Folder folder;
    for (const BrokenFile& file : files) {
        SCOPED_TRACE(file.name);
        ConfigSources sources;
        sources.file = folder.write("broken.toml", file.text);
        const auto told = problems(sources);
        EXPECT_EQ(told.size(), file.complaints.size()) << testing::PrintToString(told);
        for (std::size_t i = 0; i < std::min(told.size(), file.complaints.size()); ++i) {
            EXPECT_THAT(told[i], testing::StartsWith(*sources.file + ":" + file.complaints[i].place));
            EXPECT_THAT(told[i], testing::ContainsRegex("^[^:]+:[0-9]+:[0-9]+: ."));
            EXPECT_THAT(told[i], HasSubstr(file.complaints[i].what));
            EXPECT_THAT(told[i], HasSubstr(file.complaints[i].remedy));
        }
    }
}

// Problems elsewhere than in one file: the whole text, with @ for the folder.
struct BrokenSources {
    const char* name;
    std::function<void(const Folder&, ConfigSources&)> prepare;
    std::vector<std::string> complaints;
};

const std::vector<BrokenSources> sources_of_trouble{
    {"a file that does not exist",
     [](const Folder& folder, ConfigSources& sources) { sources.file = folder.path() + "/none.toml"; },
     {"@/none.toml: No such file or directory; name another with --config"}},
    {"a directory",
     [](const Folder& folder, ConfigSources& sources) { sources.file = folder.path(); },
     {"@: is a directory; name a file"}},
    {"a file that is no configuration",
     [](const Folder& folder, ConfigSources& sources) {
         sources.file = folder.write("big.toml", std::string(2 << 20, '#'));
     },
     {"@/big.toml: is larger than 1 MiB; is it a configuration?"}},
    {"a drop-in",
     [](const Folder& folder, ConfigSources& sources) {
         sources.file = folder.write("a.toml", "persist = true\n");
         folder.write("a.toml.d/10-bans.toml", "\n[ban]\nafter = 0\n");
         folder.write("a.toml.d/20-more.toml", "mark_bit = \"x\"\n");
         folder.write("a.toml.d/ignored.conf", "nonsense");
     },
     {"@/a.toml.d/10-bans.toml:3:9: ban.after: must be a number from 1 to 1000, not 0",
      "@/a.toml.d/20-more.toml:1:12: mark_bit: must be the number of a bit from 0 to 31, not text"}},
    {"a drop-in that is a directory",
     [](const Folder& folder, ConfigSources& sources) {
         sources.file = folder.write("a.toml", "");
         fs::create_directories(folder.path() + "/a.toml.d/x.toml");
     },
     {"@/a.toml.d/x.toml: is a directory; name a file"}},
    {"a file where the directory of drop-ins should be",
     [](const Folder& folder, ConfigSources& sources) {
         sources.file = folder.write("a.toml", "");
         folder.write("a.toml.d", "");
     },
     {"@/a.toml.d: Not a directory; it is for *.toml files"}},
    {"variables",
     [](const Folder&, ConfigSources& sources) {
         sources.environment = {{"QUEUE_NUM", "70000"}, {"BAN_DURATION", "soon"}, {"MONITOR_ONLY", "maybe"}};
     },
     {"environment variable QUEUE_NUM: queue.first: must be a number from 0 to 65535, not 70000",
      "environment variable BAN_DURATION: ban.duration: 'soon' is not a duration; write seconds, or for example 90s, "
      "30m, "
      "2h, 7d",
      "environment variable MONITOR_ONLY: monitor_only: must be true or false, not text"}},
    {"flags",
     [](const Folder&, ConfigSources& sources) {
         sources.set = {"ban.duraton=2h", "mark_bit", "capacity.bans=1"};
         sources.interfaces = {"a/b"};
     },
     {"--set ban.duraton=2h: unknown key 'ban.duraton' (did you mean 'ban.duration'?)",
      "--set mark_bit: write KEY=VALUE",
      "--set capacity.bans: capacity.bans: must be a number from 16 to 16777216, not 1",
      "option --interface: interfaces[1]: 'a/b' cannot be the name of an interface; `ip link` lists them"}},
    {"a flag against a file",
     [](const Folder& folder, ConfigSources& sources) {
         sources.file = folder.write("a.toml", "[queue]\nfirst = 65530\n");
         sources.set = {"queue.count=10"};
     },
     {"@/a.toml:2:9: queue.first 65530 + queue.count 10: queue numbers end at 65535"}},
};

TEST(BrokenConfig, EverySourceNamesItself) {
    for (const BrokenSources& trouble : sources_of_trouble) {
        SCOPED_TRACE(trouble.name);
        const Folder folder;
        ConfigSources sources;
        sources.default_file = folder.path() + "/absent.toml";
        trouble.prepare(folder, sources);
        std::vector<std::string> expected = trouble.complaints;
        for (std::string& line : expected)
            if (line.starts_with("@"))
                line.replace(0, 1, folder.path());
        EXPECT_EQ(problems(sources), expected);
    }
}

TEST(BrokenConfig, AFileOfSomebodyElse) {
    const Folder folder;
    ConfigSources sources;
    sources.file = folder.write("secret.toml", "persist = true\n");
    ASSERT_EQ(chmod(folder.path().c_str(), 0755), 0);
    ASSERT_EQ(chmod(sources.file->c_str(), 0), 0);
    constexpr uid_t nobody = 65534;
    const uid_t before = geteuid();
    if (before == 0 && seteuid(nobody) != 0)
        GTEST_SKIP() << "root, and cannot be another user";
    const auto told = problems(sources);
    ASSERT_EQ(seteuid(before), 0);
    EXPECT_EQ(told, std::vector{*sources.file + ": Permission denied; run this as root, or let this user read it"});
}

TEST(TomlSyntax, Lines) {
    const std::string text = "a\n\n# c\n b\n";
    EXPECT_EQ(line_of(text, 1), "a");
    EXPECT_EQ(line_of(text, 4), " b");
    EXPECT_EQ(line_of(text, 9), "");
    EXPECT_EQ(next_line_with_content(text, 1), 4u);
    EXPECT_EQ(next_line_with_content(text, 4), 6u); // none
    EXPECT_EQ(without_line(text, 1), "\n\n# c\n b\n");
    EXPECT_EQ(without_line(text, 4), "a\n\n# c\n\n");
    EXPECT_EQ(before_line(text, 4), "a\n\n# c\n");
    EXPECT_EQ(before_line(text, 1), "");
    EXPECT_TRUE(can_be_left_out("a = 1"));
    EXPECT_FALSE(can_be_left_out("  [a]"));
    EXPECT_FALSE(can_be_left_out(""));
}

} // namespace
} // namespace btblock
