// Packed weights of linears: blocks of kBlock = 32 output channels, in order, the last one padded with zeros.
//
// One layout serves every instruction set: output channels lie along the vector lanes, inputs follow in ascending
// order. A block is one contiguous stream (a panel in the words of BLIS) that the micro-kernel reads from end to end.
//
// Floats, (in, 32) numbers a block:
//
//     input 0: channel 0 … 31 │ input 1: channel 0 … 31 │ …
//
// int8, inputs padded to whole groups of 32. A quad is four neighbouring inputs of one channel, each stored as q + 128,
// since the dot-product instruction multiplies unsigned bytes by signed ones:
//
//     scales: 32 floats │ inputs 0–3: quads of channel 0 … 31 │ inputs 4–7: quads of channel 0 … 31 │ …
//
// int4, one group of 32 inputs after the other, each with its scales, so that a weight is read in one stream. The low
// nibble of a byte holds input i, the high nibble input i + 16, each as q + 8:
//
//     scales: 32 bfloat16 │ channels 0–15: quads 0|4, 1|5, 2|6, 3|7 of 16 channels each │ channels 16–31: the same
#pragma once
#include "layout/formats.h"

namespace triform {

constexpr int64_t kInt8Scales = kBlock * sizeof(float);  // bytes
constexpr int64_t kInt8Step = kBlock * kQuad;  // bytes of four inputs of all channels of a block
constexpr int64_t kInt4Scales = kBlock * 2;  // bytes
constexpr int64_t kInt4Step = kLanes * kQuad;  // bytes of one quad of 16 channels: one vector
constexpr int64_t kInt4Half = kGroup / 2 / kQuad * kInt4Step;  // bytes of 16 channels of a group
constexpr int64_t kInt4Group = kInt4Scales + 2 * kInt4Half;  // bytes

constexpr int64_t int8_block_size(int64_t in) { return kInt8Scales + count_groups(in) * kGroup * kBlock; }  // bytes
constexpr int64_t int4_block_size(int64_t in) { return count_groups(in) * kInt4Group; }  // bytes

// Packs the `block`th block of a weight (out, in) of 2 or 4 bytes a number.
template <class T>
void pack_block(const T* weight, int64_t out, int64_t in, int64_t block, T* packed);

// Copies output channel `channel` of a packed weight to row (in,).
template <class T>
void unpack_channel(const T* packed, int64_t channel, int64_t in, T* row);

// int8 (out, in) and scales (out,).
void pack_int8_block(const uint8_t* weight, const float* scales, int64_t out, int64_t in, int64_t block,
                     uint8_t* packed);
void unpack_int8_channel(const uint8_t* packed, int64_t channel, int64_t in, uint8_t* row, float* scale);

// Pairs of nibbles (out, groups, 16) and scales (out, groups), the bits of bfloat16.
void pack_int4_block(const uint8_t* weight, const uint8_t* scales, int64_t out, int64_t in, int64_t block,
                     uint8_t* packed);
void unpack_int4_channel(const uint8_t* packed, int64_t channel, int64_t in, uint8_t* row, uint8_t* scales);

}  // namespace triform
