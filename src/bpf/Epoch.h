// SPDX-License-Identifier: MIT
// Epoch: tells the kernel that something was banned, condemned or is no longer allowed, so that running flows ask
// again.
#pragma once

#include "bpf/Map.h"

#include <atomic>
#include <memory>
#include <sys/mman.h>
#include <unistd.h>

namespace btblock::bpf {

// The counter of the map bt_epoch, in memory shared with the kernel. Thread-safe; copies share it.
class Epoch {
public:
    Epoch() = default;
    static Result<Epoch> adopt(const Fd& map) {
        const auto length = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        void* at = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, map.get(), 0);
        if (at == MAP_FAILED)
            return errno_error("map bt_epoch: mmap");
        Epoch epoch;
        epoch.counter_.reset(static_cast<std::uint32_t*>(at), [length](std::uint32_t* p) { munmap(p, length); });
        return epoch;
    }
    void advance() const {
        if (counter_)
            std::atomic_ref(*counter_).fetch_add(1);
    }

private:
    std::shared_ptr<std::uint32_t> counter_;
};

// A map whose changes can stop running flows. Not a Map to others: through one a change would go unnoticed.
template <class K, class V> class WatchedMap : private Map<K, V> {
public:
    using Map<K, V>::fd;
    using Map<K, V>::capacity;
    using Map<K, V>::lookup;
    using Map<K, V>::for_each;

    static Result<WatchedMap> adopt(Fd fd, const std::string& name) {
        return wrap(Map<K, V>::adopt(std::move(fd), name));
    }
    static Result<WatchedMap> open_pinned(const std::string& path) { return wrap(Map<K, V>::open_pinned(path)); }
    void watched_by(Epoch epoch) { epoch_ = std::move(epoch); }

    Result<void> update(const K& key, const V& value) const {
        auto done = Map<K, V>::update(key, value);
        epoch_.advance(); // after the change: who asks from now on finds it
        return done;
    }
    Result<void> update_many(const std::vector<K>& keys, const std::vector<V>& values) const {
        auto done = Map<K, V>::update_many(keys, values);
        epoch_.advance();
        return done;
    }
    Result<bool> erase(const K& key) const {
        auto done = Map<K, V>::erase(key);
        epoch_.advance();
        return done;
    }

private:
    static Result<WatchedMap> wrap(Result<Map<K, V>> plain) {
        if (!plain)
            return plain.error();
        WatchedMap map;
        static_cast<Map<K, V>&>(map) = std::move(*plain);
        return map;
    }
    Epoch epoch_;
};

} // namespace btblock::bpf
