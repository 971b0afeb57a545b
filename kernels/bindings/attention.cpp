// Attention, and writing keys and values into pages of the KV cache.
#include "schedule/attention.h"

#include <nanobind/stl/optional.h>

#include <optional>
#include <stdexcept>
#include <utility>

#include "bindings/kernels.h"

namespace triform {
namespace {

// The arguments of one attention, which several calls may use. Keeps the arrays alive. Shapes as in triform::Attention.
struct AttentionArguments {
    FloatsIn query;
    FloatsOut output;
    FloatsIn keys, values;
    std::optional<IntegersIn> pages;
    IntegersIn query_begins, query_ends, key_begins, num_keys;
    float scale;
    bool causal;
    std::optional<int64_t> window;
    std::optional<FloatsIn> bias;
    int64_t bias_zero;

    int64_t num_sequences() const { return int64_t(num_keys.shape(0)); }

    Attention pointers() const {
        return {
            .query = query.data(),
            .output = output.data(),
            .keys = keys.data(),
            .values = values.data(),
            .pages = data_or_null(pages),
            .query_begins = query_begins.data(),
            .query_ends = query_ends.data(),
            .num_keys = num_keys.data(),
            .key_begins = key_begins.data(),
            .heads = int64_t(query.shape(1)),
            .kv_heads = int64_t(keys.shape(1)),
            .head_dim = int64_t(query.shape(2)),
            .scale = scale,
            .causal = causal,
            .window = window.value_or(kNoWindow),
            .bias = data_or_null(bias),
            .distances = bias ? int64_t(bias->shape(1)) : 0,
            .bias_zero = bias_zero,
        };
    }
};

void attend(const Kernels& kernels, const AttentionArguments& arguments) {
    ReleasedGil gil;
    attention(kernels.operations, arguments.pointers(), arguments.num_sequences());
}

// One pass over queries [begin, end) of one sequence: kProbabilities fills `probabilities` (kv_heads, queries ·
// heads_per_kv, keys in whole blocks), kValues writes the output rows from them.
template <Pass pass>
void attend_in_pass(const Kernels& kernels, const AttentionArguments& arguments, int64_t sequence, int64_t begin,
                    int64_t end, const FloatsOut& probabilities) {
    Attention a = arguments.pointers();
    if (sequence < 0 || sequence >= arguments.num_sequences())
        throw std::invalid_argument("sequence: expected the index of a sequence of the arguments");
    if (begin < 0 || begin > end || end > a.query_ends[sequence] - a.query_begins[sequence])
        throw std::invalid_argument("query_begin, query_end: expected a range of the queries of the sequence");
    int64_t rows = (end - begin) * a.heads_per_kv(), width = count_blocks(a.num_keys[sequence]) * kBlock;
    if (probabilities.ndim() != 3 || std::cmp_not_equal(probabilities.shape(0), a.kv_heads) ||
        std::cmp_not_equal(probabilities.shape(1), rows) || std::cmp_not_equal(probabilities.shape(2), width))
        throw std::invalid_argument(
            "probabilities: expected the shape (kv_heads, queries * heads / kv_heads, keys rounded up to BLOCK)");
    ReleasedGil gil;
    attention_pass(kernels.operations, a, sequence, begin, end, pass, probabilities.data());
}

void write_new_pages(const Kernels& kernels, const FloatsIn& key, const FloatsIn& value, const IntegersIn& slots,
                     const FloatsOut& key_pages, const FloatsOut& value_pages) {
    ReleasedGil gil;
    write_pages(kernels.operations, key.data(), value.data(), slots.data(), int64_t(slots.shape(0)),
                int64_t(key_pages.shape(1)), int64_t(key_pages.shape(2)), key_pages.data(), value_pages.data());
}

}  // namespace

void bind_attention(nb::module_& m, KernelsClass& kernels) {
    nb::class_<AttentionArguments>(m, "AttentionArguments")
        .def(nb::init<FloatsIn, FloatsOut, FloatsIn, FloatsIn, std::optional<IntegersIn>, IntegersIn, IntegersIn,
                      IntegersIn, IntegersIn, float, bool, std::optional<int64_t>, std::optional<FloatsIn>, int64_t>(),
             nb::kw_only(), nb::arg("query"), nb::arg("output").noconvert(), nb::arg("keys"), nb::arg("values"),
             nb::arg("pages").none(), nb::arg("query_begins"), nb::arg("query_ends"), nb::arg("key_begins"),
             nb::arg("num_keys"), nb::arg("scale"), nb::arg("causal"), nb::arg("window").none(), nb::arg("bias").none(),
             nb::arg("bias_zero"));
    kernels.def("attention", &attend)
        .def("attention_probabilities", &attend_in_pass<Pass::kProbabilities>, nb::arg(), nb::kw_only(),
             nb::arg("sequence"), nb::arg("query_begin"), nb::arg("query_end"), nb::arg("probabilities").noconvert())
        .def("attention_values", &attend_in_pass<Pass::kValues>, nb::arg(), nb::kw_only(), nb::arg("sequence"),
             nb::arg("query_begin"), nb::arg("query_end"), nb::arg("probabilities").noconvert())
        .def("write_pages", &write_new_pages);
}

}  // namespace triform
