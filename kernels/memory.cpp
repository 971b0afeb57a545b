#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

namespace triform {
namespace {

constexpr size_t kMostKept = size_t(512) << 20;
constexpr std::chrono::seconds kIdle(5);
// As much memory as 512 pages, for one fault and one place in the processor's table of pages.
constexpr size_t kHugePage = size_t(2) << 20;

struct Kept {
    std::mutex mutex;
    std::multimap<size_t, void*> blocks;  // by size
    size_t bytes = 0;
    int64_t uses = 0;
    pid_t watched_in = 0;  // a forked child has nobody who watches
};

// Never destroyed: arrays may outlive everything else.
Kept& kept() {
    static Kept* all = new Kept;
    return *all;
}

void release_when_idle() {
    for (int64_t seen = -1;;) {
        std::this_thread::sleep_for(kIdle);
        std::lock_guard lock(kept().mutex);
        if (kept().uses == seen) {
            for (auto& [size, memory] : kept().blocks) std::free(memory);
            kept().blocks.clear();
            kept().bytes = 0;
            kept().watched_in = 0;
            return;
        }
        seen = kept().uses;
    }
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
        ++kept().uses;
        auto found = kept().blocks.find(size);
        if (found != kept().blocks.end()) {
            void* memory = found->second;
            kept().blocks.erase(found);
            kept().bytes -= size;
            return memory;
        }
    }
    bool is_huge = size >= kHugePage;
    void* memory = std::aligned_alloc(is_huge ? kHugePage : 64, size);
    if (!memory) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (is_huge) madvise(memory, size / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
    return memory;
}

void give_memory(void* memory, size_t bytes) {
    size_t size = size_class(bytes);
    std::unique_lock lock(kept().mutex, std::try_to_lock);
    if (!lock || kept().bytes + size > kMostKept) return std::free(memory);
    if (kept().watched_in != getpid()) {
        try {
            std::thread(release_when_idle).detach();
        } catch (const std::system_error&) {
            return std::free(memory);
        }
        kept().watched_in = getpid();
    }
    // The last one first: it may still be in a cache.
    kept().blocks.emplace_hint(kept().blocks.lower_bound(size), size, memory);
    kept().bytes += size;
}

}  // namespace triform
