// Functions of sixteen floats. Where an argument is NaN, so is the result: max and min return their second one then.

namespace TRIFORM_ISA {

// Calls f(i, n) for each n = 16 of `count` numbers from i on, and for what is left: but for the end, n is a constant.
template <class F>
inline void for_vectors(int64_t count, F&& f) {
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) f(i, 16);
    if (i < count) f(i, static_cast<int>(count - i));
}

// Whether no lane is NaN or infinite: their products with nought are NaN.
inline bool is_finite(Floats x) { return sum(x * all(0.0f)) == 0.0f; }

// exp, within 1 unit in the last place of its polynomial: 2ⁿ·exp(r), r = x − n·ln 2. Cody and Waite 1980, chapter 6.
inline Floats exp(Floats x) {
    x = min(all(88.72f), max(all(-106.0f), x));
    Floats n = round(x * all(1.44269504f));
    Floats r = multiply_add(n, all(-0.693359375f), x);
    r = multiply_add(n, all(2.12194440e-4f), r);
    // Taylor's series to the seventh power, its last coefficients fitted on [−ln 2 / 2, ln 2 / 2].
    Floats p = all(1.9875691500e-4f);
    p = multiply_add(p, r, all(1.3981999507e-3f));
    p = multiply_add(p, r, all(8.3334519073e-3f));
    p = multiply_add(p, r, all(4.1665795894e-2f));
    p = multiply_add(p, r, all(1.6666665459e-1f));
    p = multiply_add(p, r, all(5.0000001201e-1f));
    p = multiply_add(p, r * r, r) + all(1.0f);
    return scale_by_power(p, n);
}

inline Floats tanh(Floats x) {
    // 1 − 2 / (exp(2x) + 1): off by no more than a rounding of 1, which is what its users add it to.
    return all(1.0f) - all(2.0f) / (exp(x + x) + all(1.0f));
}

// x·Φ(x) = max(x, 0) − |x|/2 · erfc(|x|/√2). Abramowitz and Stegun 1964, formula 7.1.28, for erfc, with eight
// coefficients of our own fit and a power of 8: off by at most 5e-8, and by what float32 rounds.
inline Floats gelu(Floats x) {
    Floats nought = all(0.0f), magnitude = max(x, nought - x);
    Floats p = all(2.9324735e-6f);
    for (float c : {-1.6746981e-5f, 9.758108e-5f, 1.1135346e-4f, 9.806590e-4f, 8.5916342e-3f, 4.47888e-2f, 9.97325e-2f,
                    1.0f})
        p = multiply_add(p, magnitude, all(c));
    p = p * p;
    p = p * p;
    return max(x, nought) - all(0.5f) * magnitude / (p * p);
}

inline Floats activate(Floats x, Activation activation) {
    switch (activation) {
        case Activation::kGelu:
            return gelu(x);
        case Activation::kGeluTanh:
            return all(0.5f) * x *
                   (all(1.0f) + tanh(all(0.79788456f) * multiply_add(all(0.044715f) * x * x, x, x)));
        case Activation::kRelu:
            return max(all(0.0f), x);
        case Activation::kSilu:
            return x / (all(1.0f) + exp(all(0.0f) - x));
        case Activation::kTanh:
            return tanh(x);
        case Activation::kNone:
            return x;
    }
    return x;
}

}  // namespace TRIFORM_ISA
