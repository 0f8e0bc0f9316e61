// SPDX-License-Identifier: MIT
// Map<K, V>: typed access to one BPF map through its descriptor.
#pragma once

#include "core/Fd.h"
#include "core/Result.h"

#include <array>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>

namespace btblock::bpf {

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
    // Keys first, then values: entries that vanish meanwhile are left out, none is visited twice.
    Result<std::size_t> for_each_raw(const std::function<void(const void* key, const void* value)>& visit) const;

private:
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
