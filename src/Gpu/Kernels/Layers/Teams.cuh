// The threads of a row, all of one block or one of its warps, and the root mean square that they find together.
#pragma once

#include "Tensors.cuh"

constexpr int TeamBlock = 256;

template <int Size>
struct Team {
    // Columns of a row that a thread keeps in registers between two passes.
    static constexpr int Kept = Size == 32 ? 32 : 16;

    __device__ static int row() { return blockIdx.x * (TeamBlock / Size) + threadIdx.x / Size; }

    __device__ static int lane() { return threadIdx.x % Size; }

    __device__ static float sum(float value) {
        __shared__ float room[TeamBlock / 32];
        return Size == 32 ? warp_sum(value) : block_sum(value, room);
    }
};

// 1 / sqrt(mean(x^2) + epsilon) of a row, for every thread of its team.
template <int Size>
__device__ float inverse_rms_of(const float* x, int columns, float epsilon) {
    float sum = 0;
#pragma unroll 8
    for (int d = Team<Size>::lane(); d < columns; d += Size) sum = fmaf(x[d], x[d], sum);
    return 1.0f / sqrtf(Team<Size>::sum(sum) / columns + epsilon);
}
