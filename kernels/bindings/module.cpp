// The module: instruction sets, threads, Ctrl-C, and the subjects of the other files.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "bindings/kernels.h"
#include "isa/sets.h"
#include "schedule/threads.h"

namespace triform {
namespace {

const Operations& find_set(const std::string& name) {
    for (const Operations* set : usable_sets())
        if (name == set->name) return *set;
    throw std::invalid_argument("instruction set " + name + ": this machine cannot run it");
}

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Operations* set : usable_sets()) names.emplace_back(set->name);
    return names;
}

// True after Ctrl-C, or another signal whose Python handler raised an exception.
bool signal_raised() {
    return wait_at_exit([] {
        nb::gil_scoped_acquire gil;
        return PyErr_CheckSignals() != 0;
    });
}

void translate_stopped(const std::exception_ptr& thrown, void*) {
    try {
        std::rethrow_exception(thrown);
    } catch (const Stopped&) {
        // The signal handler has set the Python exception.
    }
}

}  // namespace

Kernels::Kernels(const std::string& instruction_set) : operations(find_set(instruction_set)) {}

}  // namespace triform

NB_MODULE(_kernels, m) {
    using namespace triform;
    asked_to_stop = signal_raised;
    // A thread of Python that is in a kernel when the interpreter ends keeps its arrays.
    nb::set_leak_warnings(false);
    nb::register_exception_translator(translate_stopped);
    m.attr("BLOCK") = kBlock;
    m.def("instruction_sets", &instruction_sets);
    m.def("num_threads", &num_threads, nb::call_guard<ReleasedGil>());
    m.def("num_missing_threads", &num_missing_threads, nb::call_guard<ReleasedGil>());
    m.def("set_num_threads", &set_num_threads, nb::call_guard<ReleasedGil>());
    KernelsClass kernels(m, "Kernels");
    kernels.def(nb::init<const std::string&>());
    bind_memory(m);
    bind_weights(m);
    bind_linear(m, kernels);
    bind_attention(m, kernels);
    bind_rows(m, kernels);
    bind_top_k(kernels);
}
