// What the files of bindings/ share: the types of NumPy arrays, and the class that Python calls kernels on.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <optional>
#include <string>

#include "generic/operations.h"

namespace triform {

namespace nb = nanobind;

// Contiguous arrays. nanobind converts an input of another type or order into a copy that lives as long as the call, or
// the object that holds it; outputs are made by the engine.
using FloatsIn = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using FloatsOut = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using IntegersIn = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using BytesIn = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using BytesOut = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// The kernels of one instruction set.
struct Kernels {
    const Operations& operations;

    explicit Kernels(const std::string& instruction_set);
};

using KernelsClass = nb::class_<Kernels>;

template <class Array>
auto data_or_null(const std::optional<Array>& array) {
    return array ? array->data() : nullptr;
}

void bind_memory(nb::module_&);
void bind_weights(nb::module_&);
void bind_linear(nb::module_&, KernelsClass&);
void bind_attention(nb::module_&, KernelsClass&);
void bind_rows(nb::module_&, KernelsClass&);
void bind_top_k(KernelsClass&);

}  // namespace triform
