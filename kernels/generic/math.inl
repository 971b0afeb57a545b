// Elementwise functions of sixteen floats. NaN in, NaN out: min and max return their second argument for NaN.

namespace triform::TRIFORM_ISA {

// Calls f(i, n) for each vector of `count` floats: with n = kLanes, a constant after inlining, and for the tail with
// the number of floats that are left.
template <class F>
inline void for_vectors(int64_t count, F&& f) {
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) f(i, kLanes);
    if (i < count) f(i, static_cast<int>(count - i));
}

// True where no lane is NaN or infinite: the product of either with zero is NaN.
inline bool is_finite(Float32x16 x) { return reduce_sum(x * set1(0.0f)) == 0.0f; }

// exp, within 1 ulp of its polynomial: 2ⁿ·exp(r), r = x − n·ln 2 (Cody and Waite 1980, chapter 6).
inline Float32x16 exp(Float32x16 x) {
    x = min(set1(88.72f), max(set1(-106.0f), x));
    Float32x16 n = round(x * set1(1.44269504f));
    Float32x16 r = mul_add(n, set1(-0.693359375f), x);
    r = mul_add(n, set1(2.12194440e-4f), r);
    // Taylor series to the seventh power, the last coefficients fitted on [−ln 2 / 2, ln 2 / 2].
    Float32x16 p = set1(1.9875691500e-4f);
    p = mul_add(p, r, set1(1.3981999507e-3f));
    p = mul_add(p, r, set1(8.3334519073e-3f));
    p = mul_add(p, r, set1(4.1665795894e-2f));
    p = mul_add(p, r, set1(1.6666665459e-1f));
    p = mul_add(p, r, set1(5.0000001201e-1f));
    p = mul_add(p, r * r, r) + set1(1.0f);
    return scalef(p, n);
}

inline Float32x16 tanh(Float32x16 x) {
    // 1 − 2 / (exp(2x) + 1). The absolute error is one rounding of 1, which is enough for callers that add 1 to it.
    return set1(1.0f) - set1(2.0f) / (exp(x + x) + set1(1.0f));
}

// x·Φ(x) = max(x, 0) − |x|/2 · erfc(|x|/√2), with erfc by formula 7.1.28 of Abramowitz and Stegun 1964, here with eight
// coefficients fitted anew and a power of 8: an error of at most 5e-8 plus float32 rounding.
inline Float32x16 gelu(Float32x16 x) {
    Float32x16 zero = set1(0.0f), magnitude = max(x, zero - x);
    Float32x16 p = set1(2.9324735e-6f);
    for (float c :
         {-1.6746981e-5f, 9.758108e-5f, 1.1135346e-4f, 9.806590e-4f, 8.5916342e-3f, 4.47888e-2f, 9.97325e-2f, 1.0f})
        p = mul_add(p, magnitude, set1(c));
    p = p * p;
    p = p * p;
    return max(x, zero) - set1(0.5f) * magnitude / (p * p);
}

inline Float32x16 activate(Float32x16 x, Activation activation) {
    switch (activation) {
        case Activation::kGelu:
            return gelu(x);
        case Activation::kGeluTanh:
            return set1(0.5f) * x * (set1(1.0f) + tanh(set1(0.79788456f) * mul_add(set1(0.044715f) * x * x, x, x)));
        case Activation::kRelu:
            return max(set1(0.0f), x);
        case Activation::kSilu:
            return x / (set1(1.0f) + exp(set1(0.0f) - x));
        case Activation::kTanh:
            return tanh(x);
        case Activation::kNone:
            return x;
    }
    return x;
}

}  // namespace triform::TRIFORM_ISA
