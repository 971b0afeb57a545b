// Functions of sixteen floats. Where an argument is NaN, so is the result: max and min return their second one then.

namespace TRIFORM_ISA {

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

// tanh(x · Σ c[k]·x²ᵏ), the fit of the reference engine.
inline Floats erf(Floats x) {
    x = min(all(4.2f), max(all(-4.2f), x));
    Floats square = x * x;
    Floats p = all(1.5895071e-7f);
    for (float c : {-5.98556e-6f, 8.971195e-5f, -6.257182e-4f, -1.8438496e-4f, 0.10276548f, 1.1283797f})
        p = multiply_add(p, square, all(c));
    return tanh(p * x);
}

inline Floats activate(Floats x, Activation activation) {
    switch (activation) {
        case Activation::kGelu:
            return all(0.5f) * x * (all(1.0f) + erf(x * all(0.70710678f)));
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

// The sum of all lanes, always in the same order.
inline float sum(Floats x) {
    float v[16];
    store(v, x);
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; ++i) v[i] += v[i + width];
    return v[0];
}

inline float greatest(Floats x) {
    float v[16];
    store(v, x);
    float best = v[0];
    for (int i = 1; i < 16; ++i) best = best > v[i] ? best : v[i];
    return best;
}

}  // namespace TRIFORM_ISA
