// What the forward and both backward kernels of attention share: sizes, tiles of rows in shared memory, scores.
#pragma once
#include "Tensors.cuh"

constexpr int Threads = 128;

// Mirrors DeviceAttention.
struct AttentionSizes {
    int heads, nope, rope, value;
    float scale;
    int tokens;

    __device__ int key() const { return nope + rope; }
};

// Rows [first, end) of one tile within the sequence [start, stop); mirrors AttentionTile.
struct TokenTile {
    int start, stop, first, end;
};

// room[i][d] = the query of row first + i, the keys' order [without position | rotated]; zeros past `end`.
template <int Rows>
__device__ void load_queries(float* room, const Matrix& query, const AttentionSizes& sizes, int head, int first, int end) {
    int width = sizes.key();
    for (int i = threadIdx.x; i < Rows * width; i += Threads) {
        int row = first + i / width;
        room[i] = row < end ? query.row(row)[head * width + i % width] : 0.0f;
    }
}

// room[j][d], rows width + 1 apart: the key of row first + j, zeros past `end`. An odd distance keeps 32 rows in 32
// banks; an even width gives one.
template <int Rows>
__device__ void load_keys(
    float* room, const Matrix& key_value, const Matrix& key_rope, const AttentionSizes& sizes, int head, int first,
    int end) {
    int width = sizes.key();
    const int base = head * (sizes.nope + sizes.value);
    for (int i = threadIdx.x; i < Rows * width; i += Threads) {
        int row = first + i / width, d = i % width;
        float value = 0.0f;
        if (row < end) value = d < sizes.nope ? key_value.row(row)[base + d] : key_rope.row(row)[d - sizes.nope];
        room[i / width * (width + 1) + d] = value;
    }
}

// room[j][v], rows `distance` apart: `columns` columns of row first + j from `base` on, zeros past `end`.
template <int Rows>
__device__ void load_values(float* room, const Matrix& source, int base, int columns, int distance, int first, int end) {
    for (int i = threadIdx.x; i < Rows * columns; i += Threads) {
        int row = first + i / columns, v = i % columns;
        room[i / columns * distance + v] = row < end ? source.row(row)[base + v] : 0.0f;
    }
}

__device__ inline float dot(const float* a, const float* b, int n) {
    float sum = 0;
    for (int d = 0; d < n; d++) sum = fmaf(a[d], b[d], sum);
    return sum;
}
