#include "memory.h"

#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

namespace triform {
namespace {

constexpr size_t kMostKept = size_t(256) << 20;

struct Kept {
    std::mutex mutex;
    std::multimap<size_t, void*> blocks;  // by size
    size_t bytes = 0;
};

// Never destroyed: arrays may outlive everything else.
Kept& kept() {
    static Kept* all = new Kept;
    return *all;
}

// Rounded up, by a quarter at most, so that arrays of nearly the same size fit each other's place.
size_t size_class(size_t bytes) {
    size_t step = std::bit_floor(bytes | 4096) / 4;
    return (bytes + step - 1) / step * step;
}

}  // namespace

void* take_memory(size_t bytes) {
    size_t size = size_class(bytes);
    // A child forked while another thread held the lock never gets it.
    if (std::unique_lock lock(kept().mutex, std::try_to_lock); lock) {
        auto found = kept().blocks.find(size);
        if (found != kept().blocks.end()) {
            void* memory = found->second;
            kept().blocks.erase(found);
            kept().bytes -= size;
            return memory;
        }
    }
    if (void* memory = std::aligned_alloc(64, size)) return memory;
    throw std::bad_alloc();
}

void give_memory(void* memory, size_t bytes) {
    size_t size = size_class(bytes);
    if (std::unique_lock lock(kept().mutex, std::try_to_lock); lock && kept().bytes + size <= kMostKept) {
        kept().blocks.emplace(size, memory);
        kept().bytes += size;
        return;
    }
    std::free(memory);
}

void release_memory() {
    std::unique_lock lock(kept().mutex, std::try_to_lock);
    if (!lock) return;
    for (auto& [size, memory] : kept().blocks) std::free(memory);
    kept().blocks.clear();
    kept().bytes = 0;
}

}  // namespace triform
