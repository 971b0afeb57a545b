// The kernels as Python sees them: NumPy arrays in, NumPy arrays out, the work cut into tasks for the pool.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "attention.h"
#include "layout.h"
#include "linear.h"
#include "memory.h"
#include "operations.h"
#include "threads.h"

namespace nb = nanobind;
using namespace triform;

namespace {

using In = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Out = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using Integers = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Indices = nb::ndarray<int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using ConstBytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

std::vector<const Operations*> usable() {
    std::vector<const Operations*> found;
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vnni"))
        found.push_back(&kAvx512);
    if (avx2) found.push_back(&kAvx2);
#endif
    found.push_back(&kPlain);
    return found;
}

// The packed weight of a linear.
struct Weight {
    ConstBytes packed;
    int format;
    int64_t in, out;
};

// The arguments of one attention, which several calls may use; the arrays are kept alive. Shapes as in triform::Attention.
struct AttentionArguments {
    In query;
    Out output;
    In keys, values;
    std::optional<Integers> pages;
    Integers query_begins, query_ends, key_begins, num_keys;
    float scale;
    bool causal;
    std::optional<int64_t> window;
    std::optional<In> bias;
    int64_t bias_zero;

    Attention pointers() const {
        return {query.data(), output.data(), keys.data(), values.data(), pages ? pages->data() : nullptr,
                query_begins.data(), query_ends.data(), num_keys.data(), key_begins.data(), int64_t(query.shape(1)),
                int64_t(keys.shape(1)), int64_t(query.shape(2)), scale, causal, window.value_or(kNoWindow),
                bias ? bias->data() : nullptr, bias ? int64_t(bias->shape(1)) : 0, bias_zero};
    }
};

// A set of kernels for one instruction set.
struct Kernels {
    const Operations* operations;

    explicit Kernels(const std::string& name) : operations(nullptr) {
        for (const Operations* each : usable())
            if (name == each->name) operations = each;
        if (!operations) throw std::invalid_argument(name + " is no instruction set that can be used here");
    }

    void linear(In x, const Weight& weight, std::optional<In> bias, std::optional<In> residual, Out y,
                int activation) const {
        Linear l = of_rows(x, weight, bias, Activation(activation));
        if (residual) l.residual = residual->data();
        l.y = y.data();
        nb::gil_scoped_release release;
        linears(*operations, &l, 1);
    }

    // Several weights of the same rows.
    void projections(In x, const std::vector<const Weight*>& weights, const std::vector<std::optional<In>>& biases,
                     const std::vector<Out>& ys) const {
        std::vector<Linear> each;
        for (size_t i = 0; i < weights.size(); ++i) {
            each.push_back(of_rows(x, *weights[i], biases[i], Activation::kNone));
            each.back().y = ys[i].data();
        }
        nb::gil_scoped_release release;
        linears(*operations, each.data(), int64_t(each.size()));
    }

    void feed_forward(In x, const Weight* gate, std::optional<In> gate_bias, const Weight& up,
                      std::optional<In> up_bias, const Weight& down, std::optional<In> down_bias, int activation,
                      std::optional<In> residual, Out y) const {
        Activation function = Activation(activation);
        Linear first = of_rows(x, up, up_bias, gate ? Activation::kNone : function);
        Linear second = of_rows(x, down, down_bias, Activation::kNone), gating{};
        if (gate) gating = of_rows(x, *gate, gate_bias, function);
        if (residual) second.residual = residual->data();
        second.y = y.data();
        nb::gil_scoped_release release;
        triform::feed_forward(*operations, gate ? &gating : nullptr, first, second);
    }

    static Linear of_rows(const In& x, const Weight& weight, const std::optional<In>& bias, Activation activation) {
        Linear l{};
        l.x = x.data();
        l.rows = int64_t(x.shape(0));
        l.weight = weight.packed.data();
        l.format = Format(weight.format);
        l.in = l.x_stride = weight.in;
        l.out = weight.out;
        l.bias = bias ? bias->data() : nullptr;
        l.activation = activation;
        return l;
    }

    template <class F>
    static void by_rows(const In& x, F&& f) {
        nb::gil_scoped_release release;
        int64_t width = int64_t(x.shape(x.ndim() - 1)), rows = int64_t(x.size()) / std::max<int64_t>(1, width);
        int64_t some = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width));
        run((rows + some - 1) / some, [&](int64_t task) {
            f(task * some * width, std::min(some, rows - task * some), width);
        });
    }

    void layer_norm(In x, In weight, In bias, Out y, float eps) const {
        by_rows(x, [&](int64_t at, int64_t rows, int64_t width) {
            operations->layer_norm(x.data() + at, weight.data(), bias.data(), y.data() + at, rows, width, eps);
        });
    }

    void rms_norm(In x, In weight, Out y, float eps) const {
        by_rows(x, [&](int64_t at, int64_t rows, int64_t width) {
            operations->rms_norm(x.data() + at, weight.data(), y.data() + at, rows, width, eps);
        });
    }

    void attention(const AttentionArguments& arguments) const {
        nb::gil_scoped_release release;
        triform::attention(*operations, arguments.pointers(), int64_t(arguments.num_keys.shape(0)));
    }

    // Fills `probabilities` (groups, queries · heads / groups, keys in whole blocks) of queries [begin, end) of a sequence.
    void attention_probabilities(const AttentionArguments& arguments, int64_t sequence, int64_t begin, int64_t end,
                                 Out probabilities) const {
        one_pass(arguments, sequence, begin, end, Pass::kProbabilities, probabilities);
    }

    // Writes the output rows of queries [begin, end) of a sequence, from `probabilities`.
    void attention_values(const AttentionArguments& arguments, int64_t sequence, int64_t begin, int64_t end,
                          Out probabilities) const {
        one_pass(arguments, sequence, begin, end, Pass::kValues, probabilities);
    }

    void one_pass(const AttentionArguments& arguments, int64_t sequence, int64_t begin, int64_t end, Pass pass,
                  const Out& probabilities) const {
        Attention a = arguments.pointers();
        if (sequence < 0 || sequence >= int64_t(arguments.num_keys.shape(0)))
            throw std::invalid_argument("sequence is not one of the attention's");
        if (begin < 0 || begin > end || end > a.query_ends[sequence] - a.query_begins[sequence])
            throw std::invalid_argument("queries are not those of the sequence");
        int64_t rows = (end - begin) * (a.heads / a.groups), width = whole_blocks(a.num_keys[sequence]) * kBlock;
        if (probabilities.ndim() != 3 || int64_t(probabilities.shape(0)) != a.groups ||
            int64_t(probabilities.shape(1)) != rows || int64_t(probabilities.shape(2)) != width)
            throw std::invalid_argument(
                "probabilities: expected the shape (groups, queries * heads / groups, keys in whole blocks)");
        nb::gil_scoped_release release;
        attention_pass(*operations, a, sequence, begin, end, pass, probabilities.data());
    }

    // Operations a second of all threads, doing nothing else; two for each multiply-add.
    double peak(int format) const {
        constexpr int64_t kRounds = 1 << 22;
        std::atomic<int64_t> count{0};
        auto begin = std::chrono::steady_clock::now();
        run(num_threads(), [&](int64_t) {
            float result = 1;
            count += operations->multiply(Format(format), kRounds, &result);
        });
        return double(count) / std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }

    void write_pages(In key, In value, Integers slots, Out keys, Out values) const {
        nb::gil_scoped_release release;
        triform::write_pages(*operations, key.data(), value.data(), slots.data(), int64_t(slots.shape(0)),
                             int64_t(keys.shape(1)), int64_t(keys.shape(2)), keys.data(), values.data());
    }
};

// Rows to choose from: x (rows, width).

template <class F>
void each_row(const In& x, F&& f) {
    nb::gil_scoped_release release;
    run(int64_t(x.shape(0)), [&](int64_t row) { f(row, x.data() + row * int64_t(x.shape(1)), int64_t(x.shape(1))); });
}

bool all_finite(const Kernels& kernels, In x) {
    nb::gil_scoped_release release;
    constexpr int64_t kPiece = 65536;
    int64_t count = int64_t(x.size());
    std::atomic<bool> finite{true};
    run((count + kPiece - 1) / kPiece, [&](int64_t task) {
        int64_t at = task * kPiece;
        if (!kernels.operations->all_finite(x.data() + at, std::min(kPiece, count - at))) finite = false;
    });
    return finite;
}

void top_k(const Kernels& kernels, In x, Out values, Indices indices) {
    int64_t k = int64_t(values.shape(1));
    each_row(x, [&](int64_t row, const float* own, int64_t width) {
        kernels.operations->top_k(own, width, k, values.data() + row * k, indices.data() + row * k);
    });
}

void top_log_probabilities(const Kernels& kernels, In x, Out values, Indices indices) {
    int64_t k = int64_t(values.shape(1));
    each_row(x, [&](int64_t row, const float* own, int64_t width) {
        kernels.operations->top_log_probabilities(own, width, k, values.data() + row * k, indices.data() + row * k);
    });
}

void log_softmax(const Kernels& kernels, In x, Out y) {
    each_row(x, [&](int64_t row, const float* own, int64_t width) {
        kernels.operations->log_softmax(own, width, y.data() + row * width);
    });
}

// Rows apart from each other, some at a time: f(first, end).
template <class F>
void some_rows(int64_t rows, int64_t width, F&& f) {
    nb::gil_scoped_release release;
    int64_t some = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width));
    run((rows + some - 1) / some, [&](int64_t task) { f(task * some, std::min(rows, (task + 1) * some)); });
}

// Tables (entries, width) as bytes, their formats, and the ids looked up in each.
void embedding_sum(const Kernels& kernels, const std::vector<ConstBytes>& tables, const std::vector<int>& formats,
                   const std::vector<Integers>& ids, Out y) {
    std::vector<Lookup> lookups;
    for (size_t i = 0; i < tables.size(); ++i) lookups.push_back({tables[i].data(), Format(formats[i]), ids[i].data()});
    int64_t width = int64_t(y.shape(1));
    some_rows(int64_t(y.shape(0)), width, [&](int64_t row, int64_t end) {
        kernels.operations->embedding_sum(lookups.data(), int64_t(lookups.size()), row, end, width, y.data());
    });
}

// x (T, heads, head_dim), cosines and sines (2, T, half).
void rotary(const Kernels& kernels, In x, In table, Out y) {
    int64_t rows = int64_t(x.shape(0)), heads = int64_t(x.shape(1)), head_dim = int64_t(x.shape(2));
    int64_t half = int64_t(table.shape(2)), width = heads * head_dim;
    some_rows(rows, width, [&](int64_t row, int64_t end) {
        const float *cosines = table.data() + row * half, *sines = table.data() + (rows + row) * half;
        kernels.operations->rotary(x.data() + row * width, cosines, sines, y.data() + row * width, end - row, heads,
                                   head_dim, half);
    });
}

void pool(const Kernels& kernels, In x, Integers begins, Integers ends, int pooling, Out y) {
    nb::gil_scoped_release release;
    int64_t width = int64_t(x.shape(1));
    run(int64_t(begins.shape(0)), [&](int64_t sequence) {
        int64_t begin = begins.data()[sequence], rows = ends.data()[sequence] - begin;
        kernels.operations->pool(x.data() + begin * width, rows, width, Pooling(pooling), y.data() + sequence * width);
    });
}

void normalize(const Kernels& kernels, In x, Out y) {
    int64_t width = int64_t(x.shape(1));
    some_rows(int64_t(x.shape(0)), width, [&](int64_t row, int64_t end) {
        kernels.operations->normalize(x.data() + row * width, y.data() + row * width, end - row, width);
    });
}

// (out, in) → blocks of kBlock output channels, (blocks, in, kBlock), the last one filled up with noughts.
template <class T>
void pack_as(const T* weight, int64_t out, int64_t in, T* packed) {
    int64_t blocks = (out + kBlock - 1) / kBlock;
    run(blocks, [&](int64_t block) {
        T* to = packed + block * in * kBlock;
        int64_t n = std::min<int64_t>(kBlock, out - block * kBlock);
        if (n < kBlock) std::memset(to, 0, size_t(in) * kBlock * sizeof(T));
        for (int64_t c = 0; c < n; ++c)
            for (int64_t i = 0; i < in; ++i) to[i * kBlock + c] = weight[(block * kBlock + c) * in + i];
    });
}

template <class T>
void unpack_as(const T* packed, const int64_t* rows, int64_t count, int64_t in, T* weight) {
    run((count + 15) / 16, [&](int64_t task) {
        for (int64_t r = task * 16; r < std::min(count, task * 16 + 16); ++r) {
            const T* from = packed + rows[r] / kBlock * in * kBlock + rows[r] % kBlock;
            for (int64_t i = 0; i < in; ++i) weight[r * in + i] = from[i * kBlock];
        }
    });
}

void pack(ConstBytes weight, int64_t out, int64_t in, int64_t size, Bytes packed) {
    nb::gil_scoped_release release;
    if (size == 4)
        pack_as(reinterpret_cast<const uint32_t*>(weight.data()), out, in, reinterpret_cast<uint32_t*>(packed.data()));
    else
        pack_as(reinterpret_cast<const uint16_t*>(weight.data()), out, in, reinterpret_cast<uint16_t*>(packed.data()));
}

void unpack(ConstBytes packed, Integers rows, int64_t in, int64_t size, Bytes weight) {
    nb::gil_scoped_release release;
    int64_t count = int64_t(rows.shape(0));
    if (size == 4)
        unpack_as(reinterpret_cast<const uint32_t*>(packed.data()), rows.data(), count, in,
                  reinterpret_cast<uint32_t*>(weight.data()));
    else
        unpack_as(reinterpret_cast<const uint16_t*>(packed.data()), rows.data(), count, in,
                  reinterpret_cast<uint16_t*>(weight.data()));
}

// f(block, place in it, channel of the weight or −1 where there is none).
template <class F>
void by_channel(int64_t out, F&& f) {
    run(whole_blocks(out), [&](int64_t block) {
        for (int64_t c = 0; c < kBlock; ++c) f(block, c, block * kBlock + c < out ? block * kBlock + c : -1);
    });
}

// int8 (out, in) and its scales (out,).
void pack_int8(ConstBytes weight, In scales, int64_t out, int64_t in, Bytes packed) {
    nb::gil_scoped_release release;
    by_channel(out, [&](int64_t block, int64_t c, int64_t channel) {
        uint8_t* to = packed.data() + block * int8_block(in);
        float scale = channel < 0 ? 0.0f : scales.data()[channel];
        std::memcpy(to + c * sizeof scale, &scale, sizeof scale);
        to += kBlock * sizeof scale + c * kQuad;
        for (int64_t i = 0; i < whole_groups(in) * kGroup; ++i) {
            uint8_t q = channel < 0 || i >= in ? 0 : weight.data()[channel * in + i];
            to[i / kQuad * kQuad * kBlock + i % kQuad] = q ^ 128;
        }
    });
}

// Pairs of nibbles (out, groups, 16) and the scales of groups (out, groups), bfloats.
void pack_int4(ConstBytes weight, ConstBytes scales, int64_t out, int64_t in, Bytes packed) {
    nb::gil_scoped_release release;
    int64_t groups = whole_groups(in);
    constexpr int64_t kPairs = kGroup / 2;
    by_channel(out, [&](int64_t block, int64_t c, int64_t channel) {
        for (int64_t g = 0; g < groups; ++g) {
            uint8_t* to = packed.data() + block * int4_block(in) + g * kInt4Group;
            int64_t from = channel * groups + g;
            if (channel < 0) std::memset(to + 2 * c, 0, 2);
            else std::memcpy(to + 2 * c, scales.data() + 2 * from, 2);
            to += 2 * kBlock + c / 16 * 256 + c % 16 * kQuad;
            for (int64_t i = 0; i < kPairs; ++i)
                to[i / kQuad * 64 + i % kQuad] = channel < 0 ? 0x88 : weight.data()[from * kPairs + i];
        }
    });
}

// The rows of these numbers as they were before packing.
void unpack_int8(ConstBytes packed, Integers rows, int64_t in, Bytes weight, Out scales) {
    nb::gil_scoped_release release;
    run(int64_t(rows.shape(0)), [&](int64_t r) {
        int64_t block = rows.data()[r] / kBlock, c = rows.data()[r] % kBlock;
        const uint8_t* from = packed.data() + block * int8_block(in);
        std::memcpy(scales.data() + r, from + c * sizeof(float), sizeof(float));
        from += kBlock * sizeof(float) + c * kQuad;
        for (int64_t i = 0; i < in; ++i) weight.data()[r * in + i] = from[i / kQuad * kQuad * kBlock + i % kQuad] ^ 128;
    });
}

void unpack_int4(ConstBytes packed, Integers rows, int64_t in, Bytes weight, Bytes scales) {
    nb::gil_scoped_release release;
    int64_t groups = whole_groups(in);
    constexpr int64_t kPairs = kGroup / 2;
    run(int64_t(rows.shape(0)), [&](int64_t r) {
        int64_t block = rows.data()[r] / kBlock, c = rows.data()[r] % kBlock;
        for (int64_t g = 0; g < groups; ++g) {
            const uint8_t* from = packed.data() + block * int4_block(in) + g * kInt4Group;
            int64_t to = r * groups + g;
            std::memcpy(scales.data() + 2 * to, from + 2 * c, 2);
            from += 2 * kBlock + c / 16 * 256 + c % 16 * kQuad;
            for (int64_t i = 0; i < kPairs; ++i) weight.data()[to * kPairs + i] = from[i / kQuad * 64 + i % kQuad];
        }
    });
}

// An array of float32 in memory that is used again when the array has gone.
nb::ndarray<nb::numpy, float, nb::c_contig> empty(const std::vector<size_t>& shape) {
    struct Block {
        void* memory;
        size_t bytes;
    };
    size_t bytes = sizeof(float);
    for (size_t length : shape) bytes *= length;
    auto* block = new Block{take_memory(bytes), bytes};
    nb::capsule owner(block, [](void* pointer) noexcept {
        auto* block = static_cast<Block*>(pointer);
        give_memory(block->memory, block->bytes);
        delete block;
    });
    return {block->memory, shape.size(), shape.data(), owner};
}

// Copies pages (pages, …) of one layer within their array.
void copy_pages(Out pages, Integers sources, Integers targets) {
    nb::gil_scoped_release release;
    int64_t size = int64_t(pages.size()) / std::max<int64_t>(1, int64_t(pages.shape(0)));
    run(int64_t(sources.shape(0)), [&](int64_t task) {
        std::memcpy(pages.data() + targets.data()[task] * size, pages.data() + sources.data()[task] * size,
                    size_t(size) * sizeof(float));
    });
}

// Ctrl-C, or another signal whose handler raised an exception, which is then that of the call.
bool signal_raised() {
    nb::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
}

}  // namespace

NB_MODULE(_kernels, m) {
    asked_to_stop = signal_raised;
    nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
        try {
            std::rethrow_exception(thrown);
        } catch (const Stopped&) {
            // The exception is there already.
        }
    });
    m.attr("BLOCK") = kBlock;
    m.def("int8_block", &int8_block);
    m.def("int4_block", &int4_block);
    m.def("instruction_sets", [] {
        std::vector<std::string> names;
        for (const Operations* each : usable()) names.emplace_back(each->name);
        return names;
    });
    m.def("num_threads", &num_threads);
    m.def("set_num_threads", &set_num_threads, nb::call_guard<nb::gil_scoped_release>());
    m.def("empty", &empty);
    m.def("pack", &pack);
    m.def("unpack", &unpack);
    m.def("pack_int8", &pack_int8);
    m.def("pack_int4", &pack_int4);
    m.def("unpack_int8", &unpack_int8);
    m.def("unpack_int4", &unpack_int4);
    m.def("copy_pages", &copy_pages);
    nb::class_<Weight>(m, "Weight").def(nb::init<ConstBytes, int, int64_t, int64_t>());
    nb::class_<AttentionArguments>(m, "AttentionArguments")
        .def(nb::init<In, Out, In, In, std::optional<Integers>, Integers, Integers, Integers, Integers, float, bool,
                      std::optional<int64_t>, std::optional<In>, int64_t>(),
             nb::kw_only(), nb::arg("query"), nb::arg("output").noconvert(), nb::arg("keys"), nb::arg("values"),
             nb::arg("pages").none(), nb::arg("query_begins"), nb::arg("query_ends"), nb::arg("key_begins"),
             nb::arg("num_keys"), nb::arg("scale"), nb::arg("causal"), nb::arg("window").none(),
             nb::arg("bias").none(), nb::arg("bias_zero"));
    nb::class_<Kernels>(m, "Kernels")
        .def(nb::init<const std::string&>())
        .def("linear", &Kernels::linear, nb::arg(), nb::arg(), nb::arg().none(), nb::arg().none(), nb::arg(), nb::arg())
        .def("projections", &Kernels::projections)
        .def("feed_forward", &Kernels::feed_forward, nb::arg(), nb::arg().none(), nb::arg().none(), nb::arg(),
             nb::arg().none(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg().none(), nb::arg())
        .def("layer_norm", &Kernels::layer_norm)
        .def("rms_norm", &Kernels::rms_norm)
        .def("attention", &Kernels::attention)
        .def("attention_probabilities", &Kernels::attention_probabilities, nb::arg(), nb::kw_only(),
             nb::arg("sequence"), nb::arg("query_begin"), nb::arg("query_end"), nb::arg("probabilities").noconvert())
        .def("attention_values", &Kernels::attention_values, nb::arg(), nb::kw_only(), nb::arg("sequence"),
             nb::arg("query_begin"), nb::arg("query_end"), nb::arg("probabilities").noconvert())
        .def("peak", &Kernels::peak, nb::call_guard<nb::gil_scoped_release>())
        .def("write_pages", &Kernels::write_pages)
        .def("all_finite", &all_finite)
        .def("top_k", &top_k)
        .def("top_log_probabilities", &top_log_probabilities)
        .def("log_softmax", &log_softmax)
        .def("embedding_sum", &embedding_sum)
        .def("rotary", &rotary)
        .def("pool", &pool)
        .def("normalize", &normalize);
}
