// Number formats, and the sizes that every packed layout shares.
#pragma once
#include <cstdint>

namespace triform {

enum class Format { kFloat32, kFloat16, kBFloat16, kInt8, kInt4 };

constexpr int kLanes = 16;  // float32 lanes of a vector, the same for every instruction set
constexpr int kBlock = 32;  // output channels of a packed block, and keys of a page: two vectors
constexpr int kGroup = 32;  // inputs that share one scale in int4
constexpr int kQuad = 4;  // neighbouring inputs that one lane of a dot-product instruction multiplies and adds

constexpr int64_t round_up(int64_t count, int64_t step) { return (count + step - 1) / step * step; }
constexpr int64_t count_blocks(int64_t count) { return (count + kBlock - 1) / kBlock; }
constexpr int64_t count_groups(int64_t inputs) { return (inputs + kGroup - 1) / kGroup; }

constexpr bool is_integer(Format format) { return format == Format::kInt8 || format == Format::kInt4; }

}  // namespace triform
