// SPDX-License-Identifier: MIT
#include "bpf/Map.h"

#include <algorithm>
#include <bpf/bpf.h>
#include <fstream>
#include <vector>

namespace btblock::bpf {

Result<RawMap> RawMap::adopt(Fd fd, const std::string& name, std::size_t key_size, std::size_t value_size) {
    bpf_map_info info{};
    __u32 length = sizeof info;
    if (bpf_obj_get_info_by_fd(fd.get(), &info, &length) < 0)
        return errno_error("map " + name);
    if (info.key_size != key_size || info.value_size != value_size)
        return error("map " + name + ": made by another version of btblock (key " + std::to_string(info.key_size) +
                     ", value " + std::to_string(info.value_size) + " bytes); run `btblock detach` first");
    RawMap map;
    map.fd_ = std::move(fd);
    map.name_ = name;
    map.capacity_ = info.max_entries;
    map.key_size_ = key_size;
    map.value_size_ = value_size;
    return map;
}

Result<RawMap> RawMap::open_pinned(const std::string& path, std::size_t key_size, std::size_t value_size) {
    Fd fd(bpf_obj_get(path.c_str()));
    if (!fd)
        return errno_error(path);
    return adopt(std::move(fd), path, key_size, value_size);
}

Result<bool> RawMap::lookup_raw(const void* key, void* value) const {
    if (bpf_map_lookup_elem(fd(), key, value) == 0)
        return true;
    if (errno == ENOENT)
        return false;
    return errno_error("map " + name_ + ": lookup");
}

Result<void> RawMap::update_raw(const void* key, const void* value) const {
    if (bpf_map_update_elem(fd(), key, value, BPF_ANY) < 0) {
        if (errno == E2BIG)
            return error("map " + name_ + " is full (" + std::to_string(capacity_) + " entries)");
        return errno_error("map " + name_ + ": update");
    }
    return {};
}

Result<bool> RawMap::erase_raw(const void* key) const {
    if (bpf_map_delete_elem(fd(), key) == 0)
        return true;
    if (errno == ENOENT)
        return false;
    return errno_error("map " + name_ + ": delete");
}

Result<std::size_t> RawMap::for_each_raw(const std::function<void(const void*, const void*)>& visit) const {
    auto visited = walk_batches(visit);
    return visited ? *visited : walk_keys(visit);
}

// Many entries a call. Nothing when the kernel cannot do it for this type of map.
std::optional<Result<std::size_t>> RawMap::walk_batches(const Visitor& visit) const {
    std::size_t room = 8192; // grows when a single hash bucket has more
    std::vector<std::byte> keys(room * key_size_);
    std::vector<std::byte> values(room * value_size_);
    std::vector<std::byte> at(std::max<std::size_t>(key_size_, sizeof(__u64)));
    std::size_t visited = 0;
    for (bool first = true;;) {
        __u32 count = static_cast<__u32>(room);
        const int failed = bpf_map_lookup_batch(fd(), first ? nullptr : at.data(), at.data(), keys.data(),
                                                values.data(), &count, nullptr);
        const int why = failed < 0 ? errno : 0;
        if (why == ENOSPC) {
            room *= 2;
            keys.resize(room * key_size_);
            values.resize(room * value_size_);
            continue;
        }
        if (first && why != 0 && why != ENOENT)
            return std::nullopt;
        if (why != 0 && why != ENOENT)
            return errno_error("map " + name_ + ": reading many entries", why);
        first = false;
        for (std::size_t i = 0; i < count; ++i)
            visit(keys.data() + i * key_size_, values.data() + i * value_size_);
        visited += count;
        if (why == ENOENT)
            return visited;
    }
}

Result<std::size_t> RawMap::walk_keys(const Visitor& visit) const {
    // Keys are collected first: erasing while walking would restart the walk from the beginning.
    std::vector<std::byte> keys;
    std::vector<std::byte> next(key_size_);
    const void* previous = nullptr;
    // A walk over a map that others change may meet keys again; twice the capacity bounds it.
    for (std::size_t steps = 0; steps < 2 * static_cast<std::size_t>(capacity_); ++steps) {
        if (bpf_map_get_next_key(fd(), previous, next.data()) < 0) {
            if (errno == ENOENT)
                break;
            return errno_error("map " + name_ + ": next key");
        }
        keys.insert(keys.end(), next.begin(), next.end());
        previous = keys.data() + keys.size() - key_size_;
    }
    std::size_t visited = 0;
    std::vector<std::byte> value(value_size_);
    for (std::size_t at = 0; at + key_size_ <= keys.size(); at += key_size_) {
        if (bpf_map_lookup_elem(fd(), keys.data() + at, value.data()) < 0)
            continue;
        visit(keys.data() + at, value.data());
        ++visited;
    }
    return visited;
}

Result<void> RawMap::update_many_raw(const void* keys, const void* values, std::size_t count) const {
    constexpr std::size_t chunk = 32768; // the kernel copies key by key, but may be interrupted between calls only
    for (std::size_t at = 0; at < count; at += chunk) {
        const auto* key = static_cast<const std::byte*>(keys) + at * key_size_;
        const auto* value = static_cast<const std::byte*>(values) + at * value_size_;
        __u32 part = static_cast<__u32>(std::min(chunk, count - at));
        if (bpf_map_update_batch(fd(), key, value, &part, nullptr) == 0)
            continue;
        if (errno == E2BIG)
            return error("map " + name_ + " is full (" + std::to_string(capacity_) + " entries)");
        // This type of map knows no batches: one by one.
        for (std::size_t i = 0; i < std::min(chunk, count - at); ++i)
            if (auto done = update_raw(key + i * key_size_, value + i * value_size_); !done)
                return done;
    }
    return {};
}

std::uint64_t map_memory(int fd) {
    std::ifstream info("/proc/self/fdinfo/" + std::to_string(fd));
    for (std::string word; info >> word;)
        if (std::uint64_t bytes = 0; word == "memlock:" && info >> bytes)
            return bytes;
    return 0;
}

} // namespace btblock::bpf
