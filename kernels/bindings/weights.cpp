// Packing the weights of linears, block by block, and unpacking some of their output channels.
#include "layout/weights.h"

#include "bindings/kernels.h"
#include "schedule/threads.h"

namespace triform {
namespace {

// Floats of `size` bytes.
void pack(const BytesIn& weight, int64_t out, int64_t in, int64_t size, const BytesOut& packed) {
    ReleasedGil gil;
    auto pack_as = [&](auto zero) {
        using T = decltype(zero);
        parallel_for(count_blocks(out), [&](int64_t block) {
            pack_block(reinterpret_cast<const T*>(weight.data()), out, in, block, reinterpret_cast<T*>(packed.data()));
        });
    };
    size == 4 ? pack_as(uint32_t()) : pack_as(uint16_t());
}

void pack_int8(const BytesIn& weight, const FloatsIn& scales, int64_t out, int64_t in, const BytesOut& packed) {
    ReleasedGil gil;
    parallel_for(count_blocks(out),
                 [&](int64_t block) { pack_int8_block(weight.data(), scales.data(), out, in, block, packed.data()); });
}

void pack_int4(const BytesIn& weight, const BytesIn& scales, int64_t out, int64_t in, const BytesOut& packed) {
    ReleasedGil gil;
    parallel_for(count_blocks(out),
                 [&](int64_t block) { pack_int4_block(weight.data(), scales.data(), out, in, block, packed.data()); });
}

// Calls f(row, channel) for the output channels that are asked for.
template <class F>
void for_channels(const IntegersIn& channels, F&& f) {
    parallel_for_chunks(int64_t(channels.shape(0)), 16, [&](int64_t row, int64_t end) {
        for (; row < end; ++row) f(row, channels.data()[row]);
    });
}

void unpack(const BytesIn& packed, const IntegersIn& channels, int64_t in, int64_t size, const BytesOut& weight) {
    ReleasedGil gil;
    auto unpack_as = [&](auto zero) {
        using T = decltype(zero);
        for_channels(channels, [&](int64_t row, int64_t channel) {
            unpack_channel(reinterpret_cast<const T*>(packed.data()), channel, in,
                           reinterpret_cast<T*>(weight.data()) + row * in);
        });
    };
    size == 4 ? unpack_as(uint32_t()) : unpack_as(uint16_t());
}

void unpack_int8(const BytesIn& packed, const IntegersIn& channels, int64_t in, const BytesOut& weight,
                 const FloatsOut& scales) {
    ReleasedGil gil;
    for_channels(channels, [&](int64_t row, int64_t channel) {
        unpack_int8_channel(packed.data(), channel, in, weight.data() + row * in, scales.data() + row);
    });
}

void unpack_int4(const BytesIn& packed, const IntegersIn& channels, int64_t in, const BytesOut& weight,
                 const BytesOut& scales) {
    ReleasedGil gil;
    int64_t groups = count_groups(in);
    for_channels(channels, [&](int64_t row, int64_t channel) {
        unpack_int4_channel(packed.data(), channel, in, weight.data() + row * groups * (kGroup / 2),
                            scales.data() + row * groups * 2);
    });
}

}  // namespace

void bind_weights(nb::module_& m) {
    m.def("int8_block_size", &int8_block_size);
    m.def("int4_block_size", &int4_block_size);
    m.def("pack", &pack);
    m.def("unpack", &unpack);
    m.def("pack_int8", &pack_int8);
    m.def("pack_int4", &pack_int4);
    m.def("unpack_int8", &unpack_int8);
    m.def("unpack_int4", &unpack_int4);
}

}  // namespace triform
