// Quantised matrices as kernels take them, and what quantising kernels share.
#pragma once

#include "Quantization/Minifloats.cuh"
#include "Tensors.cuh"

constexpr int Side = 128, WarpRows = 8, Lanes = 32, Warps = Side / WarpRows, QuantizeThreads = Warps * Lanes;

// A quantised matrix that is written; mirrors DeviceQuantized. `codes` is null where it is not wanted.
struct Quantized {
    void* codes;
    float* scales;
    int rows, columns;
    int tile_rows, tile_columns;
    float element_max, smallest_max;
    int power_of_two;
    int element;

    __device__ int tiles() const { return (columns + tile_columns - 1) / tile_columns; }

    __device__ Scale scale_of(unsigned max) const {
        return Scale::of(max, element_max, smallest_max, power_of_two);
    }
};

__device__ inline unsigned magnitude(float x) { return __float_as_uint(x) & 0x7FFFFFFFu; }

__device__ inline unsigned warp_maximum(unsigned value) {
#if __CUDA_ARCH__ >= 800
    return __reduce_max_sync(~0u, value);
#else
    for (int distance = 1; distance < Lanes; distance *= 2) value = max(value, __shfl_xor_sync(~0u, value, distance));
    return value;
#endif
}

// Four values of a row from `column` on, zeros past its end; in one load where the matrix is aligned.
__device__ inline void load_four(float (&x)[4], const float* row, int column, int columns, bool aligned) {
    if (aligned) {
        const float4 four = *(const float4*)(row + column);
        x[0] = four.x, x[1] = four.y, x[2] = four.z, x[3] = four.w;
        return;
    }
#pragma unroll
    for (int j = 0; j < 4; j++) x[j] = column + j < columns ? row[column + j] : 0.0f;
}

// The reverse, of which only what lies before the row's end is written.
__device__ inline void store_four(const float (&x)[4], float* row, int column, int columns, bool aligned) {
    if (aligned) {
        *(float4*)(row + column) = {x[0], x[1], x[2], x[3]};
        return;
    }
#pragma unroll
    for (int j = 0; j < 4; j++)
        if (column + j < columns) row[column + j] = x[j];
}

// Whether every row starts at a multiple of 16 bytes and is whole fours.
__device__ inline bool is_aligned(const Matrix& matrix) {
    return (unsigned long long)matrix.data % 16 == 0 && matrix.stride % 4 == 0 && matrix.columns % 4 == 0;
}
