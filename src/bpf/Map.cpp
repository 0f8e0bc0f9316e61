// SPDX-License-Identifier: MIT
#include "bpf/Map.h"

#include <bpf/bpf.h>
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

} // namespace btblock::bpf
