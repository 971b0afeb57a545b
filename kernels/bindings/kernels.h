// What the files of bindings/ share: the types of NumPy arrays, and the class that Python calls kernels on.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>

#include "generic/operations.h"

namespace triform {

namespace nb = nanobind;

// Calls a function that takes the GIL.
//
// When the interpreter ends, Python ends a thread that asks for the GIL by unwinding its stack, which would abort the
// process at the first frame that must not throw. The thread waits for the end of the process instead, as in Python
// 3.14.
template <class Function>
auto wait_at_exit(Function&& function) {
    try {
        return function();
    } catch (...) {
        for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
}

// Releases the GIL while it lives.
class ReleasedGil {
public:
    ReleasedGil() : state_(PyEval_SaveThread()) {}
    ~ReleasedGil() {
        wait_at_exit([this] { PyEval_RestoreThread(state_); });
    }
    ReleasedGil(const ReleasedGil&) = delete;
    ReleasedGil& operator=(const ReleasedGil&) = delete;

private:
    PyThreadState* state_;
};

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
