// The choice of the next token: top k, log-softmax, and the check for NaN. Logits are x (rows, width).
#include <algorithm>
#include <atomic>

#include "bindings/kernels.h"
#include "schedule/threads.h"

namespace triform {
namespace {

using IndicesOut = nb::ndarray<int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// Calls f(row, logits, width) for each row: a row of logits is enough work for one task.
template <class F>
void for_each_row(const FloatsIn& x, F&& f) {
    ReleasedGil gil;
    int64_t width = int64_t(x.shape(1));
    parallel_for(int64_t(x.shape(0)), [&](int64_t row) { f(row, x.data() + row * width, width); });
}

bool all_finite(const Kernels& kernels, const FloatsIn& x) {
    ReleasedGil gil;
    constexpr int64_t kChunk = 65536;
    std::atomic<bool> finite{true};
    parallel_for_chunks(int64_t(x.size()), kChunk, [&](int64_t begin, int64_t end) {
        if (!kernels.operations.all_finite(x.data() + begin, end - begin)) finite = false;
    });
    return finite;
}

void top_k(const Kernels& kernels, const FloatsIn& x, const FloatsOut& values, const IndicesOut& indices) {
    int64_t k = int64_t(values.shape(1));
    for_each_row(x, [&](int64_t row, const float* logits, int64_t width) {
        kernels.operations.top_k(logits, width, k, values.data() + row * k, indices.data() + row * k);
    });
}

void top_log_probabilities(const Kernels& kernels, const FloatsIn& x, const FloatsOut& values,
                           const IndicesOut& indices) {
    int64_t k = int64_t(values.shape(1));
    for_each_row(x, [&](int64_t row, const float* logits, int64_t width) {
        kernels.operations.top_log_probabilities(logits, width, k, values.data() + row * k, indices.data() + row * k);
    });
}

void log_softmax(const Kernels& kernels, const FloatsIn& x, const FloatsOut& y) {
    for_each_row(x, [&](int64_t row, const float* logits, int64_t width) {
        kernels.operations.log_softmax(logits, width, y.data() + row * width);
    });
}

}  // namespace

void bind_top_k(KernelsClass& kernels) {
    kernels.def("all_finite", &all_finite)
        .def("top_k", &top_k)
        .def("top_log_probabilities", &top_log_probabilities)
        .def("log_softmax", &log_softmax);
}

}  // namespace triform
