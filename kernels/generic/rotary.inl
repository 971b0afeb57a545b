// Rotary position embedding (Su et al. 2021): rotates channels i and i + half of each head by the angle of row and i.
// Channels from 2 · half on are copied.

namespace triform::TRIFORM_ISA {

void rotary(const float* x, const float* cosines, const float* sines, float* y, int64_t rows, int64_t heads,
            int64_t head_dim, int64_t half) {
    for (; rows; --rows, cosines += half, sines += half)
        for (int64_t head = 0; head < heads; ++head, x += head_dim, y += head_dim) {
            for_vectors(half, [&](int64_t i, int n) {
                Float32x16 first = load_n(x + i, n), second = load_n(x + half + i, n);
                Float32x16 cosine = load_n(cosines + i, n), sine = load_n(sines + i, n);
                store_n(y + i, first * cosine - second * sine, n);
                store_n(y + half + i, second * cosine + first * sine, n);
            });
            for (int64_t i = 2 * half; i < head_dim; ++i) y[i] = x[i];
        }
}

}  // namespace triform::TRIFORM_ISA
