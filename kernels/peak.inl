// What the arithmetic units can do at most: the instruction of the kernels alone, on registers.

namespace TRIFORM_ISA {

// Multiplies and adds `rounds` times into all sums of a tile; returns the number of operations.
int64_t multiply(Format format, int64_t rounds, float* result) {
    // The result is needed, its terms are known only as the program runs, and no two sums are alike: nothing can be left
    // out.
    float seed = *result;
    Sums<kRows> sums;
    Dots<kRows> dots;
    for (int r = 0; r < kRows; ++r)
        for (int half = 0; half < 2; ++half) {
            sums.v[r][half] = all(seed * static_cast<float>(2 * r + half));
            dots.v[r][half] = all_ints(static_cast<int32_t>(seed) * (2 * r + half));
        }
    if (format == Format::kInt8) {
        int8_t quad[kQuad] = {static_cast<int8_t>(seed), 1, 2, 3};
        Bytes x = all_quads(quad);
        for (int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 12
            for (int r = 0; r < kRows; ++r)
                for (int half = 0; half < 2; ++half) dots.v[r][half] = dot(dots.v[r][half], x, x);
        for (int r = 0; r < kRows; ++r)
            for (int half = 0; half < 2; ++half) sums.v[r][half] = to_floats(dots.v[r][half]);
    } else {
        Floats x = all(seed);
        for (int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 12
            for (int r = 0; r < kRows; ++r)
                for (int half = 0; half < 2; ++half) sums.v[r][half] = multiply_add(x, x, sums.v[r][half]);
    }
    for (auto& row : sums.v) *result += sum(row[0] + row[1]);
    return rounds * kRows * 2 * 16 * 2 * (format == Format::kInt8 ? kQuad : 1);
}

}  // namespace TRIFORM_ISA
