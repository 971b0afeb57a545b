// One vector for each sequence, and vectors of length 1. Sums over the rows of a sequence are added in their order.

namespace TRIFORM_ISA {

// The weighted sum of rows of x (rows, width), divided.
template <class F>
inline void mean(const float* x, int64_t rows, int64_t width, F&& weight, float divisor, float* y) {
    for_vectors(width, [&](int64_t i, int n) {
        Floats total = all(0.0f);
        for (int64_t row = 0; row < rows; ++row)
            total = multiply_add(all(weight(row)), load_first(x + row * width + i, n), total);
        store_first(y + i, total / all(divisor), n);
    });
}

// NaN is greater than all: it must not be lost.
inline void greatest_of(const float* x, int64_t rows, int64_t width, float* y) {
    for (int64_t i = 0; i < width; ++i) y[i] = x[i];
    for (int64_t row = 1; row < rows; ++row)
        for (int64_t i = 0; i < width; ++i) {
            float own = x[row * width + i];
            y[i] = own > y[i] || own != own ? own : y[i];
        }
}

void pool(const float* x, int64_t rows, int64_t width, Pooling pooling, float* y) {
    float length = static_cast<float>(rows);
    auto one = [](int64_t) { return 1.0f; };
    switch (pooling) {
        case Pooling::kFirst:
            return greatest_of(x, 1, width, y);
        case Pooling::kLast:
            return greatest_of(x + (rows - 1) * width, 1, width, y);
        case Pooling::kMax:
            return greatest_of(x, rows, width, y);
        case Pooling::kMean:
            return mean(x, rows, width, one, length, y);
        case Pooling::kMeanSqrtLength:
            return mean(x, rows, width, one, std::sqrt(length), y);
        case Pooling::kWeightedMean:
            return mean(
                x, rows, width, [](int64_t row) { return static_cast<float>(row + 1); },
                static_cast<float>(rows * (rows + 1) / 2), y);
    }
}

// Rows divided by their Euclidean length; lengths below 1e-12 count as 1e-12.
void normalize(const float* x, float* y, int64_t rows, int64_t width) {
    for (; rows; --rows, x += width, y += width) {
        float length = std::sqrt(sum_of(width, [&](int64_t i, int n) {
            Floats v = load_first(x + i, n);
            return v * v;
        }));
        Floats divisor = all(length < 1e-12f ? 1e-12f : length);
        for_vectors(width, [&](int64_t i, int n) { store_first(y + i, load_first(x + i, n) / divisor, n); });
    }
}

}  // namespace TRIFORM_ISA
