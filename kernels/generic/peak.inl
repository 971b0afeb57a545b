// The arithmetic limit of a core: the multiply-add instructions of the micro-kernels alone, on registers.

namespace triform::TRIFORM_ISA {

int64_t peak(Format format, int64_t rounds, float* result) {
    // The compiler can leave nothing out: the result is used, the inputs are known at run time only, and no two
    // accumulators are equal.
    float seed = *result;
    Accumulators<kTileRows> sums;
    IntAccumulators<kTileRows> dots;
    for (int r = 0; r < kTileRows; ++r)
        for (int half = 0; half < 2; ++half) {
            sums.v[r][half] = set1(seed * static_cast<float>(2 * r + half));
            dots.v[r][half] = set1_i32(static_cast<int32_t>(seed) * (2 * r + half));
        }
    if (format == Format::kInt8) {
        int8_t quad[kQuad] = {static_cast<int8_t>(seed), 1, 2, 3};
        Int8x64 x = set1_quad(quad);
        for (int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 12
            for (auto& row : dots.v)
                for (auto& sum : row) sum = dot_i8(sum, x, x);
        for (int r = 0; r < kTileRows; ++r)
            for (int half = 0; half < 2; ++half) sums.v[r][half] = convert_to_f32(dots.v[r][half]);
    } else {
        Float32x16 x = set1(seed);
        for (int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 12
            for (auto& row : sums.v)
                for (auto& sum : row) sum = mul_add(x, x, sum);
    }
    for (auto& row : sums.v) *result += reduce_sum(row[0] + row[1]);
    return rounds * kTileRows * 2 * kLanes * 2 * (format == Format::kInt8 ? kQuad : 1);
}

}  // namespace triform::TRIFORM_ISA
