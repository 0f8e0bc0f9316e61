// SPDX-License-Identifier: MIT
// Memory for tables that are met in random order: with small pages most of the time goes into finding where they are.
#pragma once

#include <cstddef>
#include <new>
#include <sys/mman.h>

namespace btblock::detect {

inline constexpr std::size_t large_page = std::size_t{1} << 21;

// For standard containers. Small blocks are ordinary ones, so that a small table stays small.
template <class T> struct LargePages {
    using value_type = T;
    LargePages() = default;
    template <class U> explicit(false) LargePages(const LargePages<U>&) noexcept {}

    T* allocate(std::size_t count) {
        const std::size_t bytes = count * sizeof(T);
        if (bytes < large_page)
            return static_cast<T*>(::operator new(bytes));
        void* memory = ::operator new (bytes, std::align_val_t{large_page});
        ::madvise(memory, bytes, MADV_HUGEPAGE); // a kernel without them does as well
        return static_cast<T*>(memory);
    }
    void deallocate(T* memory, std::size_t count) noexcept {
        if (count * sizeof(T) < large_page)
            ::operator delete(memory);
        else
            ::operator delete (memory, std::align_val_t{large_page});
    }
    friend bool operator==(LargePages, LargePages) noexcept { return true; }
};

} // namespace btblock::detect
