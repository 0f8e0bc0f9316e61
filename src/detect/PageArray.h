// SPDX-License-Identifier: MIT
// An array that grows by moving its pages: nothing is copied, and memory that was touched once goes on to be used.
#pragma once

#include "detect/LargePages.h"

#include <cstddef>
#include <new>
#include <sys/mman.h>
#include <type_traits>

namespace btblock::detect {

template <class T> class PageArray {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

public:
    PageArray() = default;
    ~PageArray() { clear(); }
    PageArray(const PageArray&) = delete;
    PageArray& operator=(const PageArray&) = delete;

    // References stay good until the next one is added.
    T& add() {
        if ((size_ + 1) * sizeof(T) > bytes_)
            grow();
        return *::new (&memory_[size_++]) T;
    }
    T& operator[](std::size_t i) noexcept { return memory_[i]; }
    const T& operator[](std::size_t i) const noexcept { return memory_[i]; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] const T* begin() const noexcept { return memory_; }
    [[nodiscard]] const T* end() const noexcept { return memory_ + size_; }
    void clear() noexcept {
        if (memory_)
            ::munmap(memory_, bytes_);
        memory_ = nullptr;
        size_ = bytes_ = 0;
    }

private:
    static constexpr std::size_t first = std::size_t{1} << 16;

    void grow() {
        const std::size_t bytes = bytes_ ? 2 * bytes_ : first;
        void* memory = bytes_ ? ::mremap(memory_, bytes_, bytes, MREMAP_MAYMOVE)
                              : ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            throw std::bad_alloc();
        if (bytes > large_page)
            ::madvise(memory, bytes, MADV_HUGEPAGE);
        memory_ = static_cast<T*>(memory);
        bytes_ = bytes;
    }

    T* memory_ = nullptr;
    std::size_t size_ = 0, bytes_ = 0;
};

} // namespace btblock::detect
