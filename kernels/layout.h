// How the weights of linears lie in memory: blocks of kBlock = 32 output channels, in order, the last one filled up with
// noughts. One layout for every instruction set: output channels along the vector lanes, inputs in ascending order.
//
// Floats, (in, 32) numbers a block:
//
//     input 0: channel 0 … 31 │ input 1: channel 0 … 31 │ …
//
// int8, inputs filled up to whole groups of 32. A quad is four neighbouring inputs of one channel, each as q + 128:
//
//     scales: 32 floats │ inputs 0–3: quads of channel 0 … 31 │ inputs 4–7: quads of channel 0 … 31 │ …
//
// int4, a group of 32 inputs after another, so that a weight is read in one stream. In a byte the low nibble is that of
// input i and the high one that of input i + 16, each as q + 8:
//
//     scales: 32 bfloats │ channels 0–15: quads 0|4, 1|5, 2|6, 3|7 of 16 channels each │ channels 16–31: the same
#pragma once
#include "operations.h"

namespace triform {

constexpr int64_t kQuad = 4;
constexpr int64_t kInt4Group = 2 * kBlock + kBlock * kGroup / 2;  // bytes

inline int64_t whole_groups(int64_t in) { return (in + kGroup - 1) / kGroup; }
inline int64_t int8_block(int64_t in) { return 4 * kBlock + whole_groups(in) * kGroup * kBlock; }  // bytes
inline int64_t int4_block(int64_t in) { return whole_groups(in) * kInt4Group; }  // bytes

}  // namespace triform
