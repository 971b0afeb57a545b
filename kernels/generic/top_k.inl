// Top k, log-softmax and the check for NaN. One thread computes a whole row, so that results are batch-invariant.

namespace triform::TRIFORM_ISA {

bool all_finite(const float* x, int64_t count) {
    Float32x16 largest = set1(0.0f);
    for_vectors(count, [&](int64_t i, int n) { largest = max_abs(largest, load_n(x + i, n)); });
    return is_finite(largest);
}

// Keeps the k largest so far in order; a vector with no value above the last of them is skipped after one comparison.
void top_k(const float* x, int64_t width, int64_t k, float* values, int64_t* indices) {
    // Inserts after all values that are equal: the lower index stays ahead.
    auto insert = [&](int64_t place, int64_t index) {
        float value = x[index];
        for (; place > 0 && values[place - 1] < value; --place) {
            values[place] = values[place - 1];
            indices[place] = indices[place - 1];
        }
        values[place] = value;
        indices[place] = index;
    };
    for (int64_t i = 0; i < k; ++i) insert(i, i);
    for_vectors(width - k, [&](int64_t i, int n) {
        i += k;
        uint32_t larger = bits_from_mask(cmp_gt(load_n(x + i, n), set1(values[k - 1]))) & ((1u << n) - 1);
        for (int lane = 0; larger; larger >>= 1, ++lane)
            if (larger & 1 && x[i + lane] > values[k - 1]) insert(k - 1, i + lane);
    });
}

// log Σ exp(x − largest).
inline float log_sum_exp(const float* x, int64_t width, float largest) {
    Float32x16 shift = set1(largest), total = set1(0.0f);
    for_vectors(width, [&](int64_t i, int n) {
        total = total + select(first_n(n), exp(load_n(x + i, n) - shift), set1(0.0f));
    });
    return std::log(reduce_sum(total));
}

// Log-probabilities of the k largest logits; NaN if any logit of the row is not finite.
void top_log_probabilities(const float* x, int64_t width, int64_t k, float* values, int64_t* indices) {
    top_k(x, width, k, values, indices);
    float largest = values[0], rest = log_sum_exp(x, width, largest);
    if (!all_finite(x, width)) rest = std::numeric_limits<float>::quiet_NaN();
    for (int64_t i = 0; i < k; ++i) values[i] = values[i] - largest - rest;
}

void log_softmax(const float* x, int64_t width, float* y) {
    Float32x16 lowest = set1(-std::numeric_limits<float>::infinity()), lanes = lowest;
    for_vectors(width, [&](int64_t i, int n) { lanes = max(select(first_n(n), load_n(x + i, n), lowest), lanes); });
    float largest = reduce_max(lanes), rest = log_sum_exp(x, width, largest);
    for_vectors(width, [&](int64_t i, int n) { store_n(y + i, load_n(x + i, n) - set1(largest) - set1(rest), n); });
}

}  // namespace triform::TRIFORM_ISA
