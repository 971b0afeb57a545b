// Rows of floats → rows of integers with a scale: q = rint(x · (127 / max|x|)), scale = max|x| / 127.
//
// A row too small to divide 127 by its greatest number is noughts; the scale of one with NaN or infinity is NaN.

namespace TRIFORM_ISA {

inline void quantize_row(const float* x, int64_t in, int8_t* q, int64_t padded, float* scale) {
    Floats top = all(0.0f), nought = all(0.0f);
    for (int64_t i = 0; i < in; i += 16) {
        Floats v = load_first(x + i, in - i < 16 ? static_cast<int>(in - i) : 16);
        top = max(top, max(v, all(0.0f) - v));
        nought = multiply_add(v, all(0.0f), nought);  // NaN, if anything is NaN or infinite
    }
    float most = greatest(top), none = sum(nought), inverse = 127.0f / most;
    bool is_finite = none == 0.0f, is_used = is_finite && inverse < std::numeric_limits<float>::infinity();
    *scale = is_used ? most / 127.0f : is_finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
    for (int64_t i = 0; i < padded; i += 16) {
        int64_t left = in - i;
        int n = !is_used || left <= 0 ? 0 : left < 16 ? static_cast<int>(left) : 16;
        store_rounded(q + i, n ? load_first(x + i, n) * all(inverse) : all(0.0f));
    }
}

void quantize(const float* x, int64_t row, int64_t row_end, int64_t in, const Quantized& to) {
    for (; row < row_end; ++row) {
        int8_t* q = to.q + row * to.stride;
        int32_t *sums = to.sums + row * (to.groups + 1), total = 0;
        quantize_row(x + row * in, in, q, to.groups * kGroup, to.scales + row);
        for (int64_t group = 0; group < to.groups; ++group) total += sums[group] = sum_of_bytes(q + group * kGroup, kGroup);
        sums[to.groups] = total;
    }
}

}  // namespace TRIFORM_ISA
