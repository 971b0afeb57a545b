// Quantization of activations, row by row: q = rint(x · (127 / max|x|)), scale = max|x| / 127.
//
// A row whose 127 / max|x| overflows becomes zeros. The scale of a row with NaN or infinity is NaN.

namespace triform::TRIFORM_ISA {

inline void quantize_row(const float* x, int64_t in, int8_t* q, int64_t padded, float* scale) {
    Float32x16 magnitude = set1(0.0f);
    for_vectors(in, [&](int64_t i, int n) { magnitude = max_abs(magnitude, load_n(x + i, n)); });
    float largest = reduce_max(magnitude), inverse = 127.0f / largest;
    bool is_used = is_finite(magnitude) && inverse < std::numeric_limits<float>::infinity();
    *scale = is_used ? largest / 127.0f : is_finite(magnitude) ? 0.0f : std::numeric_limits<float>::quiet_NaN();
    int64_t used = is_used ? in : 0;
    for_vectors(used, [&](int64_t i, int n) { store_i8(q + i, load_n(x + i, n) * set1(inverse)); });
    for (int64_t i = round_up(used, kLanes); i < padded; i += kLanes) store_i8(q + i, set1(0.0f));
}

void quantize(const float* x, int64_t row, int64_t row_end, int64_t in, const Quantized& to) {
    int64_t padded = count_groups(in) * kGroup, part = padded / to.parts;
    for (; row < row_end; ++row) {
        int8_t* q = to.q + row * to.stride;
        quantize_row(x + row * in, in, q, padded, to.scales + row);
        for (int64_t i = 0; i < to.parts; ++i) to.sums[row * to.parts + i] = reduce_sum_i8(q + i * part, part);
    }
}

}  // namespace triform::TRIFORM_ISA
