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
