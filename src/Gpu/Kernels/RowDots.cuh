// The dot of two rows in one order for all kernels that need it, so that plans of the host and of the device agree in
// every bit. It depends on the columns alone, not on how rows lie in memory.
#pragma once

#include "BFloat16.cuh"
#include "Tensors.cuh"

// Whether every row starts at a multiple of 16 bytes.
__device__ inline bool in_fours(const Matrix& matrix) {
    return (unsigned long long)matrix.data % 16 == 0 && matrix.stride % 4 == 0;
}

__device__ inline float rounded(float x, int rounds) { return rounds ? __uint_as_float(bfloat16_bits(x) << 16) : x; }

// Sum over the columns of a[d] b[d], a rounded to bfloat16 where `rounds` says so. Of a warp: lane l has one chain over
// columns 4 l to 4 l + 3 of each 128, of four the last first, then over one of each 32 that are left; then lanes.
// `aligned`: both rows start at multiples of 16 bytes.
__device__ inline float row_dot(const float* a, const float* b, int columns, int rounds, bool aligned) {
    constexpr int Lanes = 32;
    const int lane = threadIdx.x % Lanes, fours = columns / 4 * 4;
    float sum = 0;
#pragma unroll 4
    for (int d = lane * 4; d < fours; d += Lanes * 4) {
        float4 x, y;
        if (aligned) {
            x = *(const float4*)(a + d);
            y = *(const float4*)(b + d);
        } else {
            x = {a[d], a[d + 1], a[d + 2], a[d + 3]};
            y = {b[d], b[d + 1], b[d + 2], b[d + 3]};
        }

        sum = fmaf(rounded(x.w, rounds), y.w, sum);
        sum = fmaf(rounded(x.z, rounds), y.z, sum);
        sum = fmaf(rounded(x.y, rounds), y.y, sum);
        sum = fmaf(rounded(x.x, rounds), y.x, sum);
    }

    for (int d = fours + lane; d < columns; d += Lanes) sum = fmaf(rounded(a[d], rounds), b[d], sum);
    return warp_sum(sum);
}
