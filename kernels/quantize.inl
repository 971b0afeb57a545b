// Rows of floats → rows of integers with a scale: q = rint(x · (127 / max|x|)), scale = max|x| / 127.
//
// A row too small to divide 127 by its greatest number is noughts; the scale of one with NaN or infinity is NaN.

namespace TRIFORM_ISA {

inline void quantize_row(const float* x, int64_t in, int8_t* q, int64_t padded, float* scale) {
    Floats magnitude = all(0.0f);
    for_vectors(in, [&](int64_t i, int n) { magnitude = greater_magnitude(magnitude, load_first(x + i, n)); });
    float most = greatest(magnitude), inverse = 127.0f / most;
    bool is_used = is_finite(magnitude) && inverse < std::numeric_limits<float>::infinity();
    *scale = is_used ? most / 127.0f : is_finite(magnitude) ? 0.0f : std::numeric_limits<float>::quiet_NaN();
    int64_t used = is_used ? in : 0;
    for_vectors(used, [&](int64_t i, int n) { store_rounded(q + i, load_first(x + i, n) * all(inverse)); });
    for (int64_t i = (used + 15) / 16 * 16; i < padded; i += 16) store_rounded(q + i, all(0.0f));
}

void quantize(const float* x, int64_t row, int64_t row_end, int64_t in, const Quantized& to) {
    int64_t padded = whole_groups(in) * kGroup, part = padded / to.parts;
    for (; row < row_end; ++row) {
        int8_t* q = to.q + row * to.stride;
        quantize_row(x + row * in, in, q, padded, to.scales + row);
        for (int64_t i = 0; i < to.parts; ++i) to.sums[row * to.parts + i] = sum_of_bytes(q + i * part, part);
    }
}

}  // namespace TRIFORM_ISA
