// Kernels of independent rows: norms, sums of embeddings, rotary positions, pooling.
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <vector>

#include "bindings/kernels.h"
#include "schedule/threads.h"

namespace triform {
namespace {

// Calls f(offset, rows, width) for the rows of x (…, width), cut into chunks.
template <class F>
void for_rows(const FloatsIn& x, F&& f) {
    ReleasedGil gil;
    int64_t width = int64_t(x.shape(x.ndim() - 1)), rows = int64_t(x.size()) / std::max<int64_t>(1, width);
    parallel_for_rows(rows, width, [&](int64_t row, int64_t end) { f(row * width, end - row, width); });
}

void layer_norm(const Kernels& kernels, const FloatsIn& x, const FloatsIn& weight, const FloatsIn& bias,
                const FloatsOut& y, float eps) {
    for_rows(x, [&](int64_t at, int64_t rows, int64_t width) {
        kernels.operations.layer_norm(x.data() + at, weight.data(), bias.data(), y.data() + at, rows, width, eps);
    });
}

void rms_norm(const Kernels& kernels, const FloatsIn& x, const FloatsIn& weight, const FloatsOut& y, float eps) {
    for_rows(x, [&](int64_t at, int64_t rows, int64_t width) {
        kernels.operations.rms_norm(x.data() + at, weight.data(), y.data() + at, rows, width, eps);
    });
}

void normalize(const Kernels& kernels, const FloatsIn& x, const FloatsOut& y) {
    for_rows(x, [&](int64_t at, int64_t rows, int64_t width) {
        kernels.operations.normalize(x.data() + at, y.data() + at, rows, width);
    });
}

// Tables (entries, width) as bytes, their formats, and the ids that are looked up in each.
void embedding_sum(const Kernels& kernels, const std::vector<BytesIn>& tables, const std::vector<Format>& formats,
                   const std::vector<IntegersIn>& ids, const FloatsOut& y) {
    std::vector<Lookup> lookups;
    lookups.reserve(tables.size());
    for (size_t i = 0; i < tables.size(); ++i) lookups.push_back({tables[i].data(), formats[i], ids[i].data()});
    ReleasedGil gil;
    int64_t width = int64_t(y.shape(1));
    parallel_for_rows(int64_t(y.shape(0)), width, [&](int64_t row, int64_t end) {
        kernels.operations.embedding_sum(lookups.data(), int64_t(lookups.size()), row, end, width, y.data());
    });
}

// x (T, heads, head_dim); table (2, T, half): cosines and sines.
void rotary(const Kernels& kernels, const FloatsIn& x, const FloatsIn& table, const FloatsOut& y) {
    ReleasedGil gil;
    int64_t rows = int64_t(x.shape(0)), heads = int64_t(x.shape(1)), head_dim = int64_t(x.shape(2));
    int64_t half = int64_t(table.shape(2)), width = heads * head_dim;
    parallel_for_rows(rows, width, [&](int64_t row, int64_t end) {
        const float *cosines = table.data() + row * half, *sines = table.data() + (rows + row) * half;
        kernels.operations.rotary(x.data() + row * width, cosines, sines, y.data() + row * width, end - row, heads,
                                  head_dim, half);
    });
}

// x (T, width), one vector of y (sequences, width) for rows [begins, ends) of each sequence.
void pool(const Kernels& kernels, const FloatsIn& x, const IntegersIn& begins, const IntegersIn& ends, Pooling pooling,
          const FloatsOut& y) {
    ReleasedGil gil;
    int64_t width = int64_t(x.shape(1));
    parallel_for(int64_t(begins.shape(0)), [&](int64_t sequence) {
        int64_t begin = begins.data()[sequence], rows = ends.data()[sequence] - begin;
        kernels.operations.pool(x.data() + begin * width, rows, width, pooling, y.data() + sequence * width);
    });
}

}  // namespace

void bind_rows(nb::module_& m, KernelsClass& kernels) {
    nb::enum_<Pooling>(m, "Pooling")
        .value("FIRST", Pooling::kFirst)
        .value("LAST", Pooling::kLast)
        .value("MAX", Pooling::kMax)
        .value("MEAN", Pooling::kMean)
        .value("MEAN_SQRT_LENGTH", Pooling::kMeanSqrtLength)
        .value("WEIGHTED_MEAN", Pooling::kWeightedMean);
    kernels.def("layer_norm", &layer_norm)
        .def("rms_norm", &rms_norm)
        .def("normalize", &normalize)
        .def("embedding_sum", &embedding_sum)
        .def("rotary", &rotary)
        .def("pool", &pool);
}

}  // namespace triform
