// SPDX-License-Identifier: MIT
// Map<K, V>: typed access to one BPF map through its descriptor.
#pragma once

#include "core/Fd.h"
#include "core/Result.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace btblock::bpf {

// Bytes of kernel memory that a map takes, 0 when the kernel does not say.
std::uint64_t map_memory(int fd);

// The untyped calls, so that the template stays a thin cast. All are thread-safe.
class RawMap {
public:
    RawMap() = default;
    // Takes the descriptor; the error names the map when its key, value or type differ from what we expect.
    static Result<RawMap> adopt(Fd fd, const std::string& name, std::size_t key_size, std::size_t value_size);
    static Result<RawMap> open_pinned(const std::string& path, std::size_t key_size, std::size_t value_size);

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    [[nodiscard]] unsigned capacity() const noexcept { return capacity_; }

protected:
    Result<bool> lookup_raw(const void* key, void* value) const; // false: no such key
    Result<void> update_raw(const void* key, const void* value) const;
    Result<bool> erase_raw(const void* key) const; // false: no such key
    Result<void> update_many_raw(const void* keys, const void* values, std::size_t count) const;
    // Of entries that come or go meanwhile some are left out; none that stays is.
    Result<std::size_t> for_each_raw(const std::function<void(const void* key, const void* value)>& visit) const;

private:
    using Visitor = std::function<void(const void* key, const void* value)>;
    std::optional<Result<std::size_t>> walk_batches(const Visitor& visit) const;
    Result<std::size_t> walk_keys(const Visitor& visit) const;

    Fd fd_;
    std::string name_;
    unsigned capacity_ = 0;
    std::size_t key_size_ = 0;
    std::size_t value_size_ = 0;
};

template <class K, class V> class Map : public RawMap {
public:
    Map() = default;
    static Result<Map> adopt(Fd fd, const std::string& name) {
        return wrap(RawMap::adopt(std::move(fd), name, sizeof(K), sizeof(V)));
    }
    static Result<Map> open_pinned(const std::string& path) {
        return wrap(RawMap::open_pinned(path, sizeof(K), sizeof(V)));
    }

    Result<std::optional<V>> lookup(const K& key) const {
        V value{};
        auto found = lookup_raw(&key, &value);
        if (!found)
            return found.error();
        return *found ? std::optional<V>(value) : std::nullopt;
    }
    Result<void> update(const K& key, const V& value) const { return update_raw(&key, &value); }
    // Stops at the first failure: what stood before it is in the map.
    Result<void> update_many(const std::vector<K>& keys, const std::vector<V>& values) const {
        return update_many_raw(keys.data(), values.data(), keys.size());
    }
    Result<bool> erase(const K& key) const { return erase_raw(&key); }
    Result<std::size_t> for_each(const std::function<void(const K&, const V&)>& visit) const {
        return for_each_raw([&](const void* key, const void* value) {
            visit(*static_cast<const K*>(key), *static_cast<const V*>(value));
        });
    }

private:
    static Result<Map> wrap(Result<RawMap> raw) {
        if (!raw)
            return raw.error();
        Map map;
        static_cast<RawMap&>(map) = std::move(*raw);
        return map;
    }
};

} // namespace btblock::bpf
