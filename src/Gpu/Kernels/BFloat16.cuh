// bfloat16 in memory: the upper half of a float32.
#pragma once

struct BFloat16 {
    unsigned short bits;
};

__device__ inline float widen(float value) { return value; }

__device__ inline float widen(BFloat16 value) { return __uint_as_float((unsigned int)value.bits << 16); }

// Bits of the nearest bfloat16, ties to even; a NaN becomes 0x7fc0.
__device__ inline unsigned int bfloat16_bits(float value) {
    unsigned int bits = __float_as_uint(value);
    return value == value ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fc0;
}

// A matrix that a kernel writes in float32, or in bfloat16 where `half` is set; mirrors DeviceStored.
struct Stored {
    void* data;
    int stride;
    int half;

    __device__ void write(long long row, int column, float value) const {
        const long long at = row * stride + column;
        if (half) ((BFloat16*)data)[at].bits = (unsigned short)bfloat16_bits(value);
        else ((float*)data)[at] = value;
    }

    // Four columns of a row, which are aligned to four elements.
    __device__ void write_four(long long row, int column, const float (&x)[4]) const {
        const long long at = row * stride + column;
        if (half)
            *(uint2*)((BFloat16*)data + at) = {bfloat16_bits(x[0]) | bfloat16_bits(x[1]) << 16,
                                               bfloat16_bits(x[2]) | bfloat16_bits(x[3]) << 16};
        else
            *(float4*)((float*)data + at) = {x[0], x[1], x[2], x[3]};
    }
};
