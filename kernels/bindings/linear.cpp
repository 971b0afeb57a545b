// Linears, feed-forwards and the arithmetic limit.
#include "schedule/linear.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <vector>

#include "bindings/kernels.h"
#include "schedule/threads.h"

namespace triform {
namespace {

// The packed weight (out, in) of a linear.
struct Weight {
    BytesIn packed;
    Format format;
    int64_t in, out;
};

Linear make_linear(const FloatsIn& x, const Weight& weight, const std::optional<FloatsIn>& bias,
                   Activation activation) {
    Linear l{};
    l.x = x.data();
    l.rows = int64_t(x.shape(0));
    l.weight = weight.packed.data();
    l.format = weight.format;
    l.in = l.x_stride = weight.in;
    l.out = weight.out;
    l.bias = data_or_null(bias);
    l.activation = activation;
    return l;
}

void linear(const Kernels& kernels, const FloatsIn& x, const Weight& weight, const std::optional<FloatsIn>& bias,
            const std::optional<FloatsIn>& residual, const FloatsOut& y, Activation activation) {
    Linear l = make_linear(x, weight, bias, activation);
    l.residual = data_or_null(residual);
    l.y = y.data();
    ReleasedGil gil;
    linears(kernels.operations, &l, 1);
}

// Several weights of the same rows.
void projections(const Kernels& kernels, const FloatsIn& x, const std::vector<const Weight*>& weights,
                 const std::vector<std::optional<FloatsIn>>& biases, const std::vector<FloatsOut>& ys) {
    std::vector<Linear> each;
    for (size_t i = 0; i < weights.size(); ++i) {
        each.push_back(make_linear(x, *weights[i], biases[i], Activation::kNone));
        each.back().y = ys[i].data();
    }
    ReleasedGil gil;
    linears(kernels.operations, each.data(), int64_t(each.size()));
}

void bind_feed_forward(KernelsClass& kernels) {
    kernels.def(
        "feed_forward",
        [](const Kernels& self, const FloatsIn& x, const Weight* gate, const std::optional<FloatsIn>& gate_bias,
           const Weight& up, const std::optional<FloatsIn>& up_bias, const Weight& down,
           const std::optional<FloatsIn>& down_bias, Activation activation, const std::optional<FloatsIn>& residual,
           const FloatsOut& y) {
            Linear first = make_linear(x, up, up_bias, gate ? Activation::kNone : activation), gating{};
            if (gate) gating = make_linear(x, *gate, gate_bias, activation);
            Linear second = make_linear(x, down, down_bias, Activation::kNone);
            second.residual = data_or_null(residual);
            second.y = y.data();
            ReleasedGil gil;
            feed_forward(self.operations, gate ? &gating : nullptr, first, second);
        },
        nb::arg("x"), nb::kw_only(), nb::arg("gate").none(), nb::arg("gate_bias").none(), nb::arg("up"),
        nb::arg("up_bias").none(), nb::arg("down"), nb::arg("down_bias").none(), nb::arg("activation"),
        nb::arg("residual").none(), nb::arg("y").noconvert());
}

// Operations a second of all threads that do nothing but multiply and add; a multiply-add counts as two.
double peak(const Kernels& kernels, Format format) {
    constexpr int64_t kRounds = 1 << 22;
    std::atomic<int64_t> count{0};
    auto begin = std::chrono::steady_clock::now();
    parallel_for(num_threads(), [&](int64_t) {
        float result = 1;
        count += kernels.operations.peak(format, kRounds, &result);
    });
    return double(count) / std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

void bind_linear(nb::module_& m, KernelsClass& kernels) {
    nb::enum_<Format>(m, "Format")
        .value("FLOAT32", Format::kFloat32)
        .value("FLOAT16", Format::kFloat16)
        .value("BFLOAT16", Format::kBFloat16)
        .value("INT8", Format::kInt8)
        .value("INT4", Format::kInt4);
    nb::enum_<Activation>(m, "Activation")
        .value("NONE", Activation::kNone)
        .value("GELU", Activation::kGelu)
        .value("GELU_TANH", Activation::kGeluTanh)
        .value("RELU", Activation::kRelu)
        .value("SILU", Activation::kSilu)
        .value("TANH", Activation::kTanh);
    nb::class_<Weight>(m, "Weight").def(nb::init<BytesIn, Format, int64_t, int64_t>());
    kernels.def("linear", &linear, nb::arg(), nb::arg(), nb::arg().none(), nb::arg().none(), nb::arg(), nb::arg())
        .def("projections", &projections)
        .def("peak", &peak, nb::call_guard<ReleasedGil>());
    bind_feed_forward(kernels);
}

}  // namespace triform
