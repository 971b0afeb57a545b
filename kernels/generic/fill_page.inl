// Writing keys and values of new tokens into a page of the KV cache; see layout/pages.h.

namespace triform::TRIFORM_ISA {

void fill_page(const float* keys, const float* values, int64_t stride, int64_t rows, int64_t head_dim, float* key_page,
               float* value_page, int64_t token) {
    key_page += token;
    value_page += token * padded_head_dim(head_dim);
    // Keys are transposed, four tokens by four channels at a time where they divide.
    int64_t by_four = head_dim % 4 == 0 ? rows / 4 * 4 : 0;
    for (int64_t row = 0; row < by_four; row += 4)
        for (int64_t i = 0; i < head_dim; i += 4)
            transpose_4x4(keys + row * stride + i, stride, key_page + i * kBlock + row, kBlock);
    for (int64_t row = by_four; row < rows; ++row)
        for (int64_t i = 0; i < head_dim; ++i) key_page[i * kBlock + row] = keys[row * stride + i];
    for (; rows; --rows, values += stride, value_page += padded_head_dim(head_dim))
        for_vectors(head_dim, [&](int64_t i, int n) { store_n(value_page + i, load_n(values + i, n), n); });
}

}  // namespace triform::TRIFORM_ISA
