// The greatest numbers of a row, and its log-softmax. A row is the work of one thread: its result is the same alone.

namespace TRIFORM_ISA {

bool all_finite(const float* x, int64_t count) {
    Floats most = all(0.0f);
    for_vectors(count, [&](int64_t i, int n) { most = greater_magnitude(most, load_first(x + i, n)); });
    return is_finite(most);
}

// Keeps the k best so far in order, and passes over sixteen numbers at a time of which none is greater than the last.
void top_k(const float* x, int64_t width, int64_t k, float* values, int64_t* indices) {
    // The lower index stays ahead of its equals.
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
        uint32_t greater = which_greater(load_first(x + i, n), all(values[k - 1])) & ((1u << n) - 1);
        for (int lane = 0; greater; greater >>= 1, ++lane)
            if (greater & 1 && x[i + lane] > values[k - 1]) insert(k - 1, i + lane);
    });
}

// log Σ exp(x − greatest).
inline float log_sum(const float* x, int64_t width, float greatest) {
    Floats top = all(greatest), total = all(0.0f);
    for_vectors(width, [&](int64_t i, int n) {
        total = total + keep_first(exp(load_first(x + i, n) - top), n, 0.0f);
    });
    return std::log(sum(total));
}

// The log-probabilities of the k greatest logits; NaN, where one of the row is not finite.
void top_log_probabilities(const float* x, int64_t width, int64_t k, float* values, int64_t* indices) {
    top_k(x, width, k, values, indices);
    float greatest = values[0], rest = log_sum(x, width, greatest);
    if (!all_finite(x, width)) rest = std::numeric_limits<float>::quiet_NaN();
    for (int64_t i = 0; i < k; ++i) values[i] = values[i] - greatest - rest;
}

void log_softmax(const float* x, int64_t width, float* y) {
    Floats lanes = all(-std::numeric_limits<float>::infinity());
    for_vectors(width, [&](int64_t i, int n) {
        lanes = max(keep_first(load_first(x + i, n), n, -std::numeric_limits<float>::infinity()), lanes);
    });
    float top = greatest(lanes), rest = log_sum(x, width, top);
    for_vectors(width, [&](int64_t i, int n) {
        store_first(y + i, load_first(x + i, n) - all(top) - all(rest), n);
    });
}

}  // namespace TRIFORM_ISA
