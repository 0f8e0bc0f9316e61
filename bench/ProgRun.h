// SPDX-License-Identifier: MIT
// ProgRun: what BPF_PROG_TEST_RUN needs around it: other people's objects, an empty program, a frame, random keys.
#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <linux/bpf.h>
#include <memory>
#include <optional>
#include <string>
#include <unistd.h>

namespace btblock::bench {

struct Run {
    double ns = -1; // average of one run; negative: refused
    int answer = 0; // of the last run
};

inline Run prog_run(int program, const std::string& frame, unsigned repeat) {
    LIBBPF_OPTS(bpf_test_run_opts, opts);
    opts.data_in = frame.data();
    opts.data_size_in = static_cast<__u32>(frame.size());
    opts.repeat = static_cast<int>(repeat);
    if (bpf_prog_test_run_opts(program, &opts) != 0)
        return {};
    return {static_cast<double>(opts.duration), static_cast<int>(opts.retval)};
}

inline int empty_program(bpf_prog_type type, int answer) {
    const bpf_insn code[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, answer}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
    LIBBPF_OPTS(bpf_prog_load_opts, opts);
    if (type == BPF_PROG_TYPE_XDP) // as libbpf loads SEC("xdp"); programs of one tail call map must agree
        opts.expected_attach_type = BPF_XDP;
    return bpf_prog_load(type, "bt_empty", "Dual MIT/GPL", code, 2, &opts);
}

// Bytes of kernel memory that a map holds now.
inline std::uint64_t map_memory(int fd) {
    std::ifstream info("/proc/self/fdinfo/" + std::to_string(fd));
    for (std::string word; info >> word;)
        if (word == "memlock:") {
            std::uint64_t bytes = 0;
            info >> bytes;
            return bytes;
        }
    return 0;
}

// An object file with one program of interest. Nothing of it is pinned.
class ObjectFile {
public:
    // grow: entries that every plain hash map gets at least; 0 leaves them.
    static std::optional<ObjectFile> load(const std::string& path, unsigned grow = 0) {
        ObjectFile file(bpf_object__open_file(path.c_str(), nullptr));
        if (!file.object_)
            return std::nullopt;
        bpf_map* map = nullptr;
        bpf_object__for_each_map(map, file.object_.get()) {
            bpf_map__set_pin_path(map, nullptr);
            const bool hash = bpf_map__type(map) == BPF_MAP_TYPE_HASH || bpf_map__type(map) == BPF_MAP_TYPE_PERCPU_HASH;
            if (hash && bpf_map__max_entries(map) < grow)
                bpf_map__set_max_entries(map, grow);
        }
        bpf_program* program = nullptr;
        bpf_object__for_each_program(program, file.object_.get()) {
            if (std::strcmp(bpf_program__section_name(program), "tc") == 0)
                bpf_program__set_type(program, BPF_PROG_TYPE_SCHED_CLS);
        }
        if (bpf_object__load(file.object_.get()) != 0)
            return std::nullopt;
        return file;
    }
    [[nodiscard]] int program(const char* name = nullptr) const {
        return bpf_program__fd(name ? bpf_object__find_program_by_name(object_.get(), name)
                                    : bpf_object__next_program(object_.get(), nullptr));
    }
    [[nodiscard]] int map(const char* name) const { return bpf_object__find_map_fd_by_name(object_.get(), name); }

private:
    struct Close {
        void operator()(bpf_object* object) const noexcept { bpf_object__close(object); }
    };
    explicit ObjectFile(bpf_object* object) : object_(object) {}
    std::unique_ptr<bpf_object, Close> object_;
};

// Where a frame's source address is, and what it becomes: base + 0..mask.
struct KeySpace {
    std::uint32_t base = 0, mask = 0, offset = 0;
};

class RandomKeys {
public:
    static std::optional<RandomKeys> load(const std::string& path) {
        auto object = ObjectFile::load(path);
        return object ? std::optional(RandomKeys(std::move(*object))) : std::nullopt;
    }
    // Negative ns when the kernel does not let `program` run behind the one that changes the key.
    [[nodiscard]] Run run(int program, bool xdp, const KeySpace& space, const std::string& frame,
                          unsigned repeat) const {
        const std::uint32_t zero = 0;
        std::uint32_t value[4];
        bpf_map_lookup_elem(object_.map("keys"), &zero, value);
        const std::uint32_t next = value[3]; // goes on where the last run ended
        const std::uint32_t wanted[4] = {space.base, space.mask, space.offset, next};
        if (bpf_map_update_elem(object_.map("keys"), &zero, wanted, BPF_ANY) != 0 ||
            bpf_map_update_elem(object_.map(xdp ? "xdp_slot" : "tc_slot"), &zero, &program, BPF_ANY) != 0)
            return {};
        return prog_run(object_.program(xdp ? "random_xdp" : "random_tc"), frame, repeat);
    }

private:
    explicit RandomKeys(ObjectFile object) : object_(std::move(object)) {}
    ObjectFile object_;
};

} // namespace btblock::bench
