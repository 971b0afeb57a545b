// Memory of large arrays, kept in a free list and used again: each page of fresh memory costs a page fault.
//
// After five seconds without a request the list is returned to the system.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace triform {

// Memory for `bytes` bytes, aligned to a cache line, with any content. Throws std::bad_alloc.
void* allocate(size_t bytes);

// Takes back memory that `allocate` returned for the same number of bytes.
void deallocate(void* memory, size_t bytes);

// Scratch memory for `count` values, in a vector that the thread keeps for its next call.
template <class T>
T* reserve(std::vector<T>& memory, int64_t count) {
    if (memory.size() < size_t(count)) memory.resize(size_t(count));
    return memory.data();
}

}  // namespace triform
