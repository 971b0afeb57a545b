// Arrays whose memory is used again, and copies of pages of the KV cache.
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "bindings/kernels.h"
#include "schedule/memory.h"
#include "schedule/threads.h"

namespace triform {
namespace {

// An array of float32 with any content. Its memory goes to the free list when the array is deleted.
nb::ndarray<nb::numpy, float, nb::c_contig> empty(const std::vector<size_t>& shape) {
    struct Block {
        void* memory;
        size_t bytes;
    };
    size_t bytes = sizeof(float);
    for (size_t length : shape) bytes *= length;
    auto* block = new Block{allocate(bytes), bytes};
    nb::capsule owner(block, [](void* pointer) noexcept {
        auto* owned = static_cast<Block*>(pointer);
        deallocate(owned->memory, owned->bytes);
        delete owned;
    });
    return {block->memory, shape.size(), shape.data(), owner};
}

// Copies pages of an array (pages, …) onto others of the same array.
void copy_pages(const FloatsOut& pages, const IntegersIn& sources, const IntegersIn& targets) {
    ReleasedGil gil;
    int64_t size = int64_t(pages.size()) / std::max<int64_t>(1, int64_t(pages.shape(0)));
    parallel_for(int64_t(sources.shape(0)), [&](int64_t task) {
        std::memcpy(pages.data() + targets.data()[task] * size, pages.data() + sources.data()[task] * size,
                    size_t(size) * sizeof(float));
    });
}

}  // namespace

void bind_memory(nb::module_& m) {
    m.def("empty", &empty);
    m.def("copy_pages", &copy_pages);
}

}  // namespace triform
