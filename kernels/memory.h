// Memory of large arrays, kept when one is done with and given to the next: every page of fresh memory costs a fault.
// After some seconds in which nobody asks for any, the system has it back.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace triform {

// Room for so many bytes, on a cache line; std::bad_alloc where there is none.
void* take_memory(size_t bytes);

// What `take_memory` gave for so many bytes.
void give_memory(void* memory, size_t bytes);

// Room for so many numbers at least, in memory that a thread keeps for itself.
template <class T>
T* at_least(std::vector<T>& memory, int64_t count) {
    if (memory.size() < size_t(count)) memory.resize(size_t(count));
    return memory.data();
}

}  // namespace triform
