// Pooling: one vector for each sequence. Rows are added in ascending order.

namespace triform::TRIFORM_ISA {

// Σ weight(row) · x[row] / divisor over the rows of x (rows, width).
template <class F>
inline void weighted_mean(const float* x, int64_t rows, int64_t width, F&& weight, float divisor, float* y) {
    for_vectors(width, [&](int64_t i, int n) {
        Float32x16 total = set1(0.0f);
        for (int64_t row = 0; row < rows; ++row)
            total = mul_add(set1(weight(row)), load_n(x + row * width + i, n), total);
        store_n(y + i, total / set1(divisor), n);
    });
}

// NaN wins over every number, so that it is not lost.
inline void max_over_rows(const float* x, int64_t rows, int64_t width, float* y) {
    for (int64_t i = 0; i < width; ++i) y[i] = x[i];
    for (int64_t row = 1; row < rows; ++row)
        for (int64_t i = 0; i < width; ++i) {
            float value = x[row * width + i];
            y[i] = value > y[i] || value != value ? value : y[i];
        }
}

void pool(const float* x, int64_t rows, int64_t width, Pooling pooling, float* y) {
    float length = static_cast<float>(rows);
    auto one = [](int64_t) { return 1.0f; };
    auto position = [](int64_t row) { return static_cast<float>(row + 1); };
    switch (pooling) {
        case Pooling::kFirst:
            return max_over_rows(x, 1, width, y);
        case Pooling::kLast:
            return max_over_rows(x + (rows - 1) * width, 1, width, y);
        case Pooling::kMax:
            return max_over_rows(x, rows, width, y);
        case Pooling::kMean:
            return weighted_mean(x, rows, width, one, length, y);
        case Pooling::kMeanSqrtLength:
            return weighted_mean(x, rows, width, one, std::sqrt(length), y);
        case Pooling::kWeightedMean: {
            int64_t sum_of_positions = rows * (rows + 1) / 2;
            return weighted_mean(x, rows, width, position, static_cast<float>(sum_of_positions), y);
        }
    }
}

}  // namespace triform::TRIFORM_ISA
