// Kernels that pick, add and compare rows: dispatch, combine and the embedding. A block of 256 threads for each row of
// the result, but for the embedding's gradient. Bytes: each row once.
#include "Tensors.cuh"

// output[r] (+)= sum over i in [starts[r], starts[r+1]) of scale[i] source[rows[i]], in that order: the first term a
// product, each later one a fused multiply-add.
extern "C" __global__ void sum_rows(
    Matrix source, const int* rows, const float* scale, const int* starts, Matrix output, int accumulate,
    const Fault* fault) {
    if (is_set(fault)) return;
    const int first = starts[blockIdx.x], end = starts[blockIdx.x + 1];
    float* y = output.row(blockIdx.x);
    for (int d = threadIdx.x; d < output.columns; d += blockDim.x) {
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
extern "C" __global__ void gather_rows(
    Matrix source, const int* rows, const float* scale, Matrix output, const Fault* fault) {
    if (is_set(fault)) return;
    const float factor = scale ? scale[blockIdx.x] : 1.0f;
    const float* x = source.row(rows[blockIdx.x]);
    float* y = output.row(blockIdx.x);
#pragma unroll 4
    for (int d = threadIdx.x; d < output.columns; d += blockDim.x) y[d] = factor * x[d];
}

// output[i] = dot(left[left_rows[i]], right[right_rows[i]]). Grid: a block of 256 threads for each i.
extern "C" __global__ void __launch_bounds__(256) dot_rows(
    Matrix left, const int* left_rows, Matrix right, const int* right_rows, float* output, const Fault* fault) {
    __shared__ float room[8];
    if (is_set(fault)) return;
    const float* a = left.row(left_rows[blockIdx.x]);
    const float* b = right.row(right_rows[blockIdx.x]);
    float sum = 0;
    for (int d = threadIdx.x; d < left.columns; d += blockDim.x) sum = fmaf(a[d], b[d], sum);
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) output[blockIdx.x] = sum;
}

// gradTable[ids[t]] += gradOutput[t], tokens in order. Grid: tokens by blocks of 256 columns; the block of an id's
// first token adds the rows of all its tokens, the others leave. Bytes: gradOutput once, the ids once for each block.
extern "C" __global__ void __launch_bounds__(256)
embedding_backward(Matrix grad_output, const int* ids, Matrix grad_table, const Fault* fault) {
    __shared__ unsigned int matches[8];
    int first = blockIdx.x;
    int id = ids[first];
    if (is_set(fault) || id < 0) return;
    int earlier = 0;
    for (int t = threadIdx.x; t < first; t += blockDim.x) earlier |= ids[t] == id;
    if (__syncthreads_or(earlier)) return;

    int d = blockIdx.y * blockDim.x + threadIdx.x;
    bool inside = d < grad_table.columns;
    float sum = inside ? grad_table.row(id)[d] : 0.0f;
    for (int start = first; start < grad_output.rows; start += blockDim.x) {
        int t = start + threadIdx.x;
        unsigned int found = __ballot_sync(0xffffffffu, t < grad_output.rows && ids[t] == id);
        __syncthreads();
        if (threadIdx.x % 32 == 0) matches[threadIdx.x / 32] = found;
        __syncthreads();
        for (int w = 0; w < 8; w++)
            for (unsigned int rest = matches[w]; rest != 0; rest &= rest - 1)
                if (inside) sum += grad_output.row(start + w * 32 + __ffs(rest) - 1)[d];
    }

    if (inside) grad_table.row(id)[d] = sum;
}
