// What the forward and both backward kernels of attention share: sizes, tiles of rows in shared memory, and the two
// products of a tile. Tiles have `pad` columns, a multiple of four with zeros behind the row, so that four values are
// read at once; the rows of keys lie one more apart, so that 32 rows lie in 32 banks.
#pragma once
#include "Tensors.cuh"

constexpr int Threads = 128;

// Rows of a tile of queries, and of every tile that sums over 16 rows.
constexpr int Rows = 16;

// Mirrors DeviceAttention.
struct AttentionSizes {
    int heads, nope, rope, value;
    float scale;
    int tokens;
    // 1 where operands of products are rounded to bfloat16.
    int rounded;

    __device__ int key() const { return nope + rope; }
    __device__ int key_pad() const { return (nope + rope + 3) / 4 * 4; }
    __device__ int value_pad() const { return (value + 3) / 4 * 4; }

    // A value as the operand of a product; rounding to the nearest even leaves a NaN as it is.
    __device__ float operand(float value) const {
        if (!rounded || value != value) return value;
        unsigned bits = __float_as_uint(value);
        return __uint_as_float((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
    }
};

// Rows [first, end) of one tile within the sequence [start, stop); mirrors TokenTile.
struct TokenTile {
    int start, stop, first, end;
};

// room[i][d], rows `distance` apart: `columns` columns of row first + i from `base` on, as operands; zeros past `end`
// and, up to `pad`, behind the row. A warp takes a row.
template <int Count>
__device__ void load_rows(
    float* room, int distance, const AttentionSizes& sizes, const Matrix& source, int base, int columns, int pad,
    int first, int end) {
    for (int i = threadIdx.x / 32; i < Count; i += Threads / 32) {
        const bool inside = first + i < end;
        const float* row = source.row(first + i) + base;
        for (int d = threadIdx.x % 32; d < pad; d += 32)
            room[i * distance + d] = inside && d < columns ? sizes.operand(row[d]) : 0.0f;
    }
}

// The same of keys, [without position | rotated], rows key_pad + 1 apart.
template <int Count>
__device__ void load_keys(
    float* room, const Matrix& key_value, const Matrix& key_rope, const AttentionSizes& sizes, int head, int first,
    int end) {
    const int base = head * (sizes.nope + sizes.value), pad = sizes.key_pad();
    for (int i = threadIdx.x / 32; i < Count; i += Threads / 32) {
        const bool inside = first + i < end;
        const float* nope = key_value.row(first + i) + base;
        const float* rope = key_rope.row(first + i) - sizes.nope;
        for (int d = threadIdx.x % 32; d < pad; d += 32) {
            float value = 0.0f;
            if (inside && d < sizes.nope) value = nope[d];
            else if (inside && d < sizes.key()) value = rope[d];
            room[i * (pad + 1) + d] = sizes.operand(value);
        }
    }
}

// out[e] = dot(left row e, right) over `pad` columns, a chain in rising order; left rows `pad` apart and aligned.
template <int Each>
__device__ void dots(const float* left, const float* right, int pad, float* out) {
#pragma unroll
    for (int e = 0; e < Each; e++) out[e] = 0;
    for (int d = 0; d < pad; d += 4) {
        float r0 = right[d], r1 = right[d + 1], r2 = right[d + 2], r3 = right[d + 3];
#pragma unroll
        for (int e = 0; e < Each; e++) {
            float4 l = *(const float4*)&left[e * pad + d];
            out[e] = fmaf(l.w, r3, fmaf(l.z, r2, fmaf(l.y, r1, fmaf(l.x, r0, out[e]))));
        }
    }
}

// sums[i][c] += sum over j of weights[j][i] values[j][c], j rising, for 16 rows i and `columns` columns c; where there
// are factors, sums[i] is multiplied by factors[i] first. A thread takes a column; weights lie 16 apart, aligned.
template <int Inner>
__device__ void accumulate(
    float* sums, int columns, int pad, const float* weights, const float* values, int distance, const float* factors) {
    for (int c = threadIdx.x; c < columns; c += Threads) {
        float sum[Rows];
#pragma unroll
        for (int i = 0; i < Rows; i++) sum[i] = factors ? sums[i * pad + c] * factors[i] : sums[i * pad + c];
        for (int j = 0; j < Inner; j++) {
            float value = values[j * distance + c];
#pragma unroll
            for (int i = 0; i < Rows; i += 4) {
                float4 w = *(const float4*)&weights[j * Rows + i];
                sum[i] = fmaf(w.x, value, sum[i]);
                sum[i + 1] = fmaf(w.y, value, sum[i + 1]);
                sum[i + 2] = fmaf(w.z, value, sum[i + 2]);
                sum[i + 3] = fmaf(w.w, value, sum[i + 3]);
            }
        }

#pragma unroll
        for (int i = 0; i < Rows; i++) sums[i * pad + c] = sum[i];
    }
}
