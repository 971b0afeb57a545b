#include "schedule/memory.h"

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

constexpr size_t kMaxKept = size_t(512) << 20;  // bytes of the free list
constexpr std::chrono::seconds kIdle(5);
// Huge pages, of 2 MiB, in place of 512 pages of 4 KiB: one page fault and one entry of the TLB.
constexpr size_t kHugePage = size_t(2) << 20;

struct FreeList {
    std::mutex mutex;
    std::multimap<size_t, void*> blocks;  // by size
    size_t bytes = 0;
    int64_t requests = 0;
    pid_t watched_in = 0;  // the process whose thread runs release_when_idle; a forked child has none
};

// Never destroyed: arrays may outlive all static objects.
FreeList& free_list() {
    static FreeList* list = new FreeList;
    return *list;
}

// Body of a thread that frees the list once no request has come for kIdle, and ends.
void release_when_idle() {
    for (int64_t seen = -1;;) {
        std::this_thread::sleep_for(kIdle);
        FreeList& list = free_list();
        std::scoped_lock lock(list.mutex);
        if (list.requests == seen) {
            for (auto& [size, memory] : list.blocks) std::free(memory);
            list.blocks.clear();
            list.bytes = 0;
            list.watched_in = 0;
            return;
        }
        seen = list.requests;
    }
}

// The size class of an array: rounded up, by at most a quarter, so that arrays of similar size use each other's memory.
size_t size_class(size_t bytes) {
    size_t step = std::bit_floor(bytes | 4096) / 4;
    return (bytes + step - 1) / step * step;
}

}  // namespace

void* allocate(size_t bytes) {
    size_t size = size_class(bytes);
    FreeList& list = free_list();
    // Try only: a child that was forked while another thread held the lock would wait for ever.
    if (std::unique_lock lock(list.mutex, std::try_to_lock); lock) {
        ++list.requests;
        auto found = list.blocks.find(size);
        if (found != list.blocks.end()) {
            void* memory = found->second;
            list.blocks.erase(found);
            list.bytes -= size;
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

void deallocate(void* memory, size_t bytes) {
    size_t size = size_class(bytes);
    FreeList& list = free_list();
    std::unique_lock lock(list.mutex, std::try_to_lock);
    if (!lock || list.bytes + size > kMaxKept) return std::free(memory);
    if (list.watched_in != getpid()) {
        try {
            std::thread(release_when_idle).detach();
        } catch (const std::system_error&) {
            return std::free(memory);
        }
        list.watched_in = getpid();
    }
    // Before its equals, so that it is used first: it may still be in a cache.
    list.blocks.emplace_hint(list.blocks.lower_bound(size), size, memory);
    list.bytes += size;
}

}  // namespace triform
