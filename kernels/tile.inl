// The one product of all kernels: some rows times a block of kBlock columns.
//
// Each element is one ascending chain of multiply-adds along k, whatever the number of rows: a sequence has the same
// result alone and in any batch.

namespace TRIFORM_ISA {

template <int Rows>
struct Sums {
    Floats v[Rows][2];
};

struct AsFloat32 {
    using Stored = float;
    static Floats widen(const float* p) { return load(p); }
};
struct AsFloat16 {
    using Stored = uint16_t;
    static Floats widen(const uint16_t* p) { return widen_half(p); }
};
struct AsBFloat16 {
    using Stored = uint16_t;
    static Floats widen(const uint16_t* p) { return widen_bfloat(p); }
};

constexpr int64_t kAhead = 16;  // inputs: the processor itself looks ahead no further than the end of a page of memory

// sums += x (Rows, k) · w (k, kBlock), the rows of either `x_stride` and `w_stride` numbers apart.
template <int Rows, class As>
inline void add_product(Sums<Rows>& sums, const float* x, int64_t x_stride, const typename As::Stored* w,
                        int64_t w_stride, int64_t k) {
    for (int64_t i = 0; i < k; ++i, w += w_stride) {
        __builtin_prefetch(w + kAhead * w_stride);
        __builtin_prefetch(w + kAhead * w_stride + 16);
        Floats low = As::widen(w), high = As::widen(w + 16);
#pragma GCC unroll 12
        for (int r = 0; r < Rows; ++r) {
            Floats xi = all(x[r * x_stride + i]);
            sums.v[r][0] = multiply_add(xi, low, sums.v[r][0]);
            sums.v[r][1] = multiply_add(xi, high, sums.v[r][1]);
        }
    }
}

// Calls f with the number of rows of each tile as a constant: `kRows` at a time, and what is left.
template <class F, int Rows = kRows>
inline void for_rest([[maybe_unused]] int64_t row, [[maybe_unused]] int64_t rest, F&& f) {
    if constexpr (Rows > 0) {
        if (rest == Rows) return f(std::integral_constant<int, Rows>{}, row);
        for_rest<F, Rows - 1>(row, rest, static_cast<F&&>(f));
    }
}
template <int Rows, class F>
inline void for_tiles_of(int64_t row, int64_t end, F&& f) {
    for (; row + Rows <= end; row += Rows) f(std::integral_constant<int, Rows>{}, row);
    for_rest<F, Rows - 1>(row, end - row, static_cast<F&&>(f));
}
template <class F>
inline void for_tiles(int64_t row, int64_t end, F&& f) {
    for_tiles_of<kRows>(row, end, static_cast<F&&>(f));
}

}  // namespace TRIFORM_ISA
