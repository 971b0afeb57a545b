#include "layout/weights.h"

#include <algorithm>
#include <cstring>

namespace triform {
namespace {

constexpr int64_t kNibblePairs = kGroup / 2;  // bytes of one channel and group

// Offset of the first quad of a channel within an int8 block, and within an int4 group.
int64_t int8_channel_offset(int64_t lane) { return kInt8Scales + lane * kQuad; }
int64_t int4_channel_offset(int64_t lane) { return kInt4Scales + lane / kLanes * kInt4Half + lane % kLanes * kQuad; }

}  // namespace

template <class T>
void pack_block(const T* weight, int64_t out, int64_t in, int64_t block, T* packed) {
    T* to = packed + block * in * kBlock;
    int64_t channels = std::min<int64_t>(kBlock, out - block * kBlock);
    if (channels < kBlock) std::memset(to, 0, size_t(in) * kBlock * sizeof(T));
    for (int64_t lane = 0; lane < channels; ++lane)
        for (int64_t i = 0; i < in; ++i) to[i * kBlock + lane] = weight[(block * kBlock + lane) * in + i];
}

template <class T>
void unpack_channel(const T* packed, int64_t channel, int64_t in, T* row) {
    const T* from = packed + channel / kBlock * in * kBlock + channel % kBlock;
    for (int64_t i = 0; i < in; ++i) row[i] = from[i * kBlock];
}

template void pack_block(const uint16_t*, int64_t, int64_t, int64_t, uint16_t*);
template void pack_block(const uint32_t*, int64_t, int64_t, int64_t, uint32_t*);
template void unpack_channel(const uint16_t*, int64_t, int64_t, uint16_t*);
template void unpack_channel(const uint32_t*, int64_t, int64_t, uint32_t*);

void pack_int8_block(const uint8_t* weight, const float* scales, int64_t out, int64_t in, int64_t block,
                     uint8_t* packed) {
    uint8_t* start = packed + block * int8_block_size(in);
    for (int64_t lane = 0; lane < kBlock; ++lane) {
        int64_t channel = block * kBlock + lane;
        bool is_padding = channel >= out;
        float scale = is_padding ? 0.0f : scales[channel];
        std::memcpy(start + lane * int64_t(sizeof scale), &scale, sizeof scale);
        uint8_t* to = start + int8_channel_offset(lane);
        for (int64_t i = 0; i < count_groups(in) * kGroup; ++i) {
            uint8_t q = is_padding || i >= in ? 0 : weight[channel * in + i];
            to[i / kQuad * kInt8Step + i % kQuad] = q ^ 128;
        }
    }
}

void unpack_int8_channel(const uint8_t* packed, int64_t channel, int64_t in, uint8_t* row, float* scale) {
    const uint8_t* start = packed + channel / kBlock * int8_block_size(in);
    int64_t lane = channel % kBlock;
    std::memcpy(scale, start + lane * int64_t(sizeof *scale), sizeof *scale);
    const uint8_t* from = start + int8_channel_offset(lane);
    for (int64_t i = 0; i < in; ++i) row[i] = from[i / kQuad * kInt8Step + i % kQuad] ^ 128;
}

void pack_int4_block(const uint8_t* weight, const uint8_t* scales, int64_t out, int64_t in, int64_t block,
                     uint8_t* packed) {
    int64_t groups = count_groups(in);
    for (int64_t lane = 0; lane < kBlock; ++lane) {
        int64_t channel = block * kBlock + lane;
        bool is_padding = channel >= out;
        for (int64_t group = 0; group < groups; ++group) {
            uint8_t* start = packed + block * int4_block_size(in) + group * kInt4Group;
            int64_t from = channel * groups + group;
            if (is_padding)
                std::memset(start + 2 * lane, 0, 2);
            else
                std::memcpy(start + 2 * lane, scales + 2 * from, 2);
            uint8_t* to = start + int4_channel_offset(lane);
            for (int64_t i = 0; i < kNibblePairs; ++i)
                to[i / kQuad * kInt4Step + i % kQuad] = is_padding ? 0x88 : weight[from * kNibblePairs + i];
        }
    }
}

void unpack_int4_channel(const uint8_t* packed, int64_t channel, int64_t in, uint8_t* row, uint8_t* scales) {
    int64_t lane = channel % kBlock;
    for (int64_t group = 0; group < count_groups(in); ++group) {
        const uint8_t* start = packed + channel / kBlock * int4_block_size(in) + group * kInt4Group;
        std::memcpy(scales + 2 * group, start + 2 * lane, 2);
        const uint8_t* from = start + int4_channel_offset(lane);
        for (int64_t i = 0; i < kNibblePairs; ++i)
            row[group * kNibblePairs + i] = from[i / kQuad * kInt4Step + i % kQuad];
    }
}

}  // namespace triform
