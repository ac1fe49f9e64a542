// Kernels that pick, add and compare rows: dispatch, combine and the embedding. A warp for each row of the result, eight
// in a block, but for the embedding's gradient; sums and copies have a warp for each 1024 columns. Four columns a lane
// where rows lie on 16 bytes. Bytes: each row once.
#include "RowDots.cuh"

constexpr int RowsOfBlock = 8, ColumnsOfWarp = 1024;

// output[r] (+)= sum over i in [starts[r], starts[r+1]) of scale[i] source[rows[i]], in that order: the first term a
// product, each later one a fused multiply-add.
extern "C" __global__ void __launch_bounds__(256) sum_rows(
    Matrix source, const int* rows, const float* scale, const int* starts, Matrix output, int accumulate,
    const Fault* fault) {
    const int row = blockIdx.x * RowsOfBlock + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= output.rows || is_set(fault)) return;
    const int first = starts[row], end = starts[row + 1];
    const int begin = blockIdx.y * ColumnsOfWarp, stop = min(begin + ColumnsOfWarp, output.columns);
    const int fours = in_fours(source) && in_fours(output) ? stop / 4 * 4 : begin;
    float* y = output.row(row);
    for (int d = begin + lane * 4; d < fours; d += 128) {
        float4 sum = {0, 0, 0, 0};
#pragma unroll 4
        for (int i = first; i < end; i++) {
            const float4 x = *(const float4*)(source.row(rows[i]) + d);
            const float factor = scale ? scale[i] : 1.0f;
            sum = i == first
                ? float4{factor * x.x, factor * x.y, factor * x.z, factor * x.w}
                : float4{fmaf(factor, x.x, sum.x), fmaf(factor, x.y, sum.y), fmaf(factor, x.z, sum.z),
                         fmaf(factor, x.w, sum.w)};
        }

        if (accumulate) {
            const float4 old = *(const float4*)(y + d);
            sum = {old.x + sum.x, old.y + sum.y, old.z + sum.z, old.w + sum.w};
        }

        *(float4*)(y + d) = sum;
    }

    for (int d = fours + lane; d < stop; d += 32) {
        float sum = 0;
        for (int i = first; i < end; i++) {
            float x = source.row(rows[i])[d];
            float factor = scale ? scale[i] : 1.0f;
            sum = i == first ? factor * x : fmaf(factor, x, sum);
        }

        y[d] = accumulate ? y[d] + sum : sum;
    }
}

// output[i] = scale[i] source[rows[i]].
extern "C" __global__ void __launch_bounds__(256) gather_rows(
    Matrix source, const int* rows, const float* scale, Matrix output, const Fault* fault) {
    const int row = blockIdx.x * RowsOfBlock + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= output.rows || is_set(fault)) return;
    const float factor = scale ? scale[row] : 1.0f;
    const float* x = source.row(rows[row]);
    const int begin = blockIdx.y * ColumnsOfWarp, stop = min(begin + ColumnsOfWarp, output.columns);
    const int fours = in_fours(source) && in_fours(output) ? stop / 4 * 4 : begin;
    float* y = output.row(row);
#pragma unroll 4
    for (int d = begin + lane * 4; d < fours; d += 128) {
        const float4 four = *(const float4*)(x + d);
        *(float4*)(y + d) = {factor * four.x, factor * four.y, factor * four.z, factor * four.w};
    }

    for (int d = fours + lane; d < stop; d += 32) y[d] = factor * x[d];
}

// output[i] = dot(left[left_rows[i]], right[right_rows[i]]); see row_dot.
extern "C" __global__ void __launch_bounds__(256) dot_rows(
    Matrix left, const int* left_rows, Matrix right, const int* right_rows, float* output, int count,
    const Fault* fault) {
    const int row = blockIdx.x * RowsOfBlock + threadIdx.x / 32;
    if (row >= count || is_set(fault)) return;
    const float sum = row_dot(
        left.row(left_rows[row]), right.row(right_rows[row]), left.columns, 0, in_fours(left) && in_fours(right));
    if (threadIdx.x % 32 == 0) output[row] = sum;
}

// gradTable[ids[t]] += gradOutput[t], tokens in order. Grid: tokens by blocks of 256 columns; the block of an id's
// first token adds the rows of all its tokens, the others leave as soon as they see an earlier one. Bytes: gradOutput
// once, the ids once for each block that stays.
extern "C" __global__ void __launch_bounds__(256, 3)
embedding_backward(Matrix grad_output, const int* ids, Matrix grad_table, const Fault* fault) {
    constexpr int Looked = 8;
    __shared__ unsigned int matches[8 * Looked];
    __shared__ int list[256 * Looked];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int first = blockIdx.x;
    int id = ids[first];
    if (is_set(fault) || id < 0) return;
    for (int start = 0; start < first; start += 8 * 256) {
        int earlier = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int t = start + i * 256 + threadIdx.x;
            earlier |= t < first && ids[t] == id;
        }

        if (__syncthreads_or(earlier)) return;
    }

    int d = blockIdx.y * blockDim.x + threadIdx.x;
    bool inside = d < grad_table.columns;
    float sum = inside ? grad_table.row(id)[d] : 0.0f;
    for (int start = first; start < grad_output.rows; start += Looked * 256) {
        unsigned int found[Looked];
#pragma unroll
        for (int i = 0; i < Looked; i++) {
            const int t = start + i * 256 + threadIdx.x;
            found[i] = __ballot_sync(0xffffffffu, t < grad_output.rows && ids[t] == id);
        }

        __syncthreads();
        if (lane == 0)
#pragma unroll
            for (int i = 0; i < Looked; i++) matches[i * 8 + warp] = found[i];
        __syncthreads();

        // The rows in a list, so that their loads need not wait for one another.
        int count = 0, before[Looked];
#pragma unroll
        for (int i = 0; i < Looked; i++)
            for (int w = 0; w < 8; w++) {
                if (w == warp) before[i] = count;
                count += __popc(matches[i * 8 + w]);
            }
#pragma unroll
        for (int i = 0; i < Looked; i++)
            if (found[i] >> lane & 1)
                list[before[i] + __popc(found[i] & ((1u << lane) - 1))] = start + i * 256 + threadIdx.x;
        __syncthreads();
        if (inside)
#pragma unroll 8
            for (int i = 0; i < count; i++) sum += grad_output.row(list[i])[d];
    }

    if (inside) grad_table.row(id)[d] = sum;
}
