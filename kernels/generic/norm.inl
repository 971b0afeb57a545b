// Layer norm and RMS norm, row by row.

namespace triform::TRIFORM_ISA {

// The sum of term(i, n) over the vectors of a row.
template <class F>
inline float sum_over_row(int64_t width, F&& term) {
    Float32x16 total = set1(0.0f);
    for_vectors(width, [&](int64_t i, int n) { total = total + term(i, n); });
    return reduce_sum(total);
}

inline float sum_of_squares(const float* x, int64_t width) {
    return sum_over_row(width, [&](int64_t i, int n) {
        Float32x16 v = load_n(x + i, n);
        return v * v;
    });
}

void layer_norm(const float* x, const float* weight, const float* bias, float* y, int64_t rows, int64_t width,
                float eps) {
    for (; rows; --rows, x += width, y += width) {
        Float32x16 mean =
            set1(sum_over_row(width, [&](int64_t i, int n) { return load_n(x + i, n); }) / static_cast<float>(width));
        float variance = sum_over_row(width, [&](int64_t i, int n) {
            Float32x16 d = select(first_n(n), load_n(x + i, n) - mean, set1(0.0f));
            return d * d;
        });
        Float32x16 precision = set1(1.0f / std::sqrt(variance / static_cast<float>(width) + eps));
        for_vectors(width, [&](int64_t i, int n) {
            Float32x16 normal = (load_n(x + i, n) - mean) * precision;
            store_n(y + i, mul_add(normal, load_n(weight + i, n), load_n(bias + i, n)), n);
        });
    }
}

void rms_norm(const float* x, const float* weight, float* y, int64_t rows, int64_t width, float eps) {
    for (; rows; --rows, x += width, y += width) {
        Float32x16 precision = set1(1.0f / std::sqrt(sum_of_squares(x, width) / static_cast<float>(width) + eps));
        for_vectors(width,
                    [&](int64_t i, int n) { store_n(y + i, load_n(x + i, n) * precision * load_n(weight + i, n), n); });
    }
}

// Divides rows by their Euclidean length; lengths below 1e-12 count as 1e-12.
void normalize(const float* x, float* y, int64_t rows, int64_t width) {
    for (; rows; --rows, x += width, y += width) {
        float length = std::sqrt(sum_of_squares(x, width));
        Float32x16 divisor = set1(length < 1e-12f ? 1e-12f : length);
        for_vectors(width, [&](int64_t i, int n) { store_n(y + i, load_n(x + i, n) / divisor, n); });
    }
}

}  // namespace triform::TRIFORM_ISA
