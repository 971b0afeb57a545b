// Turns channels i and i + half of each head by the angle of its row and of i; channels beyond them stay. Su et al. 2021.

namespace TRIFORM_ISA {

void rotary(const float* x, const float* cosines, const float* sines, float* y, int64_t rows, int64_t heads,
            int64_t head_dim, int64_t half) {
    for (; rows; --rows, cosines += half, sines += half)
        for (int64_t head = 0; head < heads; ++head, x += head_dim, y += head_dim) {
            for_vectors(half, [&](int64_t i, int n) {
                Floats first = load_first(x + i, n), second = load_first(x + half + i, n);
                Floats cosine = load_first(cosines + i, n), sine = load_first(sines + i, n);
                store_first(y + i, first * cosine - second * sine, n);
                store_first(y + half + i, second * cosine + first * sine, n);
            });
            for (int64_t i = 2 * half; i < head_dim; ++i) y[i] = x[i];
        }
}

}  // namespace TRIFORM_ISA
