// SPDX-License-Identifier: MIT
// How much work each program is for the verifier. Old kernels prune less, so there is a ceiling far below their limit.
#include "bpf/Kernel.h"

#include "btblock.skel.h"

#include <bpf/libbpf.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace btblock::test {
namespace {

constexpr unsigned ceiling = 22000;

// "processed N insns" of the verifier's statistics, 0 if it is not there.
unsigned processed(const std::string& log) {
    constexpr const char* word = "processed ";
    const std::size_t at = log.rfind(word);
    return at == std::string::npos
               ? 0
               : static_cast<unsigned>(std::strtoul(log.c_str() + at + std::strlen(word), nullptr, 10));
}

// The verifier's last words about the program that it does not take.
std::string why_refused() {
    const std::unique_ptr<btblock_bpf, void (*)(btblock_bpf*)> skeleton(btblock_bpf__open(), btblock_bpf__destroy);
    std::vector<std::pair<bpf_program*, std::vector<char>>> logs;
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, skeleton->obj) logs.emplace_back(program, std::vector<char>(1 << 24));
    for (auto& [p, log] : logs) {
        bpf_program__set_log_buf(p, log.data(), log.size());
        bpf_program__set_log_level(p, 1);
    }
    btblock_bpf__load(skeleton.get());
    std::string words;
    for (const auto& [p, log] : logs)
        if (const std::string text = log.data(); !text.empty() && bpf_program__fd(p) < 0)
            words += std::string(bpf_program__name(p)) + ": ..." +
                     text.substr(text.size() - std::min<std::size_t>(text.size(), 1500));
    return words;
}

TEST(VerifierTest, InstructionsWalked) {
    if (const std::string why = Kernel::missing(); !why.empty())
        GTEST_SKIP() << why;
    bpf::raise_memlock();
    const std::unique_ptr<btblock_bpf, void (*)(btblock_bpf*)> skeleton(btblock_bpf__open(), btblock_bpf__destroy);
    ASSERT_TRUE(skeleton);
    std::vector<std::pair<bpf_program*, std::vector<char>>> logs;
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, skeleton->obj) logs.emplace_back(program, std::vector<char>(1 << 20));
    for (auto& [p, log] : logs) {
        ASSERT_EQ(bpf_program__set_log_buf(p, log.data(), log.size()), 0);
        ASSERT_EQ(bpf_program__set_log_level(p, 4), 0); // statistics only
    }
    ASSERT_EQ(btblock_bpf__load(skeleton.get()), 0) << why_refused();
    ASSERT_EQ(logs.size(), bpf::program_names.size());
    for (const auto& [p, log] : logs) {
        unsigned walked = processed(log.data());
        if (!walked) {
            bpf_prog_info info{};
            __u32 size = sizeof info;
            ASSERT_EQ(bpf_obj_get_info_by_fd(bpf_program__fd(p), &info, &size), 0);
            walked = info.verified_insns;
        }
        std::printf("%-16s %6u instructions walked\n", bpf_program__name(p), walked);
        EXPECT_GT(walked, 0u) << bpf_program__name(p);
        EXPECT_LT(walked, ceiling) << bpf_program__name(p);
    }
}

} // namespace
} // namespace btblock::test
