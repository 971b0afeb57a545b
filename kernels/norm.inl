// Norms over rows, each by itself.

namespace TRIFORM_ISA {

template <class F>
inline float sum_of(int64_t width, F&& term) {
    Floats total = all(0.0f);
    for_vectors(width, [&](int64_t i, int n) { total = total + term(i, n); });
    return sum(total);
}

void layer_norm(const float* x, const float* weight, const float* bias, float* y, int64_t rows, int64_t width,
                float eps) {
    for (; rows; --rows, x += width, y += width) {
        Floats mean = all(sum_of(width, [&](int64_t i, int n) { return load_first(x + i, n); }) / width);
        float variance = sum_of(width, [&](int64_t i, int n) {
            Floats d = keep_first(load_first(x + i, n) - mean, n, 0.0f);
            return d * d;
        });
        Floats precision = all(1.0f / std::sqrt(variance / width + eps));
        for_vectors(width, [&](int64_t i, int n) {
            Floats normal = (load_first(x + i, n) - mean) * precision;
            store_first(y + i, multiply_add(normal, load_first(weight + i, n), load_first(bias + i, n)), n);
        });
    }
}

void rms_norm(const float* x, const float* weight, float* y, int64_t rows, int64_t width, float eps) {
    for (; rows; --rows, x += width, y += width) {
        float square = sum_of(width, [&](int64_t i, int n) {
            Floats v = load_first(x + i, n);
            return v * v;
        });
        Floats precision = all(1.0f / std::sqrt(square / width + eps));
        for_vectors(width, [&](int64_t i, int n) {
            store_first(y + i, load_first(x + i, n) * precision * load_first(weight + i, n), n);
        });
    }
}

}  // namespace TRIFORM_ISA
