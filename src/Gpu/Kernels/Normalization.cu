// RMSNorm and its gradients. Grid: a block of 256 threads for each row, but for the weight's gradient.
#include "Tensors.cuh"

// 1 / sqrt(mean(x^2) + epsilon) of a row, for every thread of its block.
__device__ float inverse_rms_of(const float* x, int columns, float epsilon) {
    __shared__ float room[8];
    float sum = 0;
    for (int d = threadIdx.x; d < columns; d += blockDim.x) sum = fmaf(x[d], x[d], sum);
    return 1.0f / sqrtf(block_sum(sum, room) / columns + epsilon);
}

// The first half of RMSNorm alone, ahead of rms_norm_quantize. Bytes: input once.
extern "C" __global__ void __launch_bounds__(256) rms_norm_scale(Matrix input, float* inverse_rms, float epsilon) {
    const float r = inverse_rms_of(input.row(blockIdx.x), input.columns, epsilon);
    if (threadIdx.x == 0) inverse_rms[blockIdx.x] = r;
}

// output = input * weight / sqrt(mean(input^2) + epsilon). Bytes: input twice (the second time from cache), output
// once.
extern "C" __global__ void __launch_bounds__(256)
rms_norm(Matrix input, const float* weight, Matrix output, float* inverse_rms, float epsilon) {
    const float* x = input.row(blockIdx.x);
    float* y = output.row(blockIdx.x);
    const float r = inverse_rms_of(x, input.columns, epsilon);
    if (threadIdx.x == 0) inverse_rms[blockIdx.x] = r;
    for (int d = threadIdx.x; d < input.columns; d += blockDim.x) y[d] = x[d] * r * weight[d];
}

// gradInput (+)= r (g w - x r^2 mean(g w x)).
extern "C" __global__ void __launch_bounds__(256)
rms_norm_backward_input(
    Matrix grad_output, Matrix input, const float* weight, const float* inverse_rms, Matrix grad_input,
    int accumulate) {
    __shared__ float room[8];
    const float* x = input.row(blockIdx.x);
    const float* g = grad_output.row(blockIdx.x);
    float* gx = grad_input.row(blockIdx.x);
    float r = inverse_rms[blockIdx.x];
    float mean = 0;
    for (int d = threadIdx.x; d < input.columns; d += blockDim.x) mean = fmaf(g[d] * weight[d], x[d], mean);
    float shrink = r * r * (block_sum(mean, room) / input.columns);
    for (int d = threadIdx.x; d < input.columns; d += blockDim.x) {
        float gradient = r * (g[d] * weight[d] - x[d] * shrink);
        gx[d] = accumulate ? gx[d] + gradient : gradient;
    }
}

// gradWeight[d] += sum over rows of g x r. Grid: 32 columns by 256 rows a block; block: 32 columns by 8 lanes, lane l
// takes rows l, l + 8, ... of its block's, and the lanes' sums are added in rising order. The last block of its columns
// adds the sums of all blocks in the same way; `partial` is [blocks, columns], `done` counts for each 32 columns and is
// left as it was, zero. Bytes: both matrices once.
extern "C" __global__ void __launch_bounds__(256)
rms_norm_backward_weight(
    Matrix grad_output, Matrix input, const float* inverse_rms, float* grad_weight, float* partial, int* done) {
    constexpr int Rows = 256, Lanes = 8;
    __shared__ float room[Lanes][32];
    __shared__ int last;
    const int column = threadIdx.x % 32, lane = threadIdx.x / 32, blocks = gridDim.y;
    const int d = blockIdx.x * 32 + column;
    const bool inside = d < input.columns;
    const auto add_lanes = [&](float sum) {
        room[lane][column] = sum;
        __syncthreads();
        for (int l = 1; lane == 0 && l < Lanes; l++) sum += room[l][column];
        return sum;
    };

    float sum = 0;
    const int end = min(input.rows, (int)(blockIdx.y + 1) * Rows);
    if (inside)
#pragma unroll 8
        for (int m = blockIdx.y * Rows + lane; m < end; m += Lanes)
            sum = fmaf(grad_output.row(m)[d], input.row(m)[d] * inverse_rms[m], sum);
    sum = add_lanes(sum);
    if (blocks > 1) {
        if (lane == 0 && inside) partial[(long long)blockIdx.y * input.columns + d] = sum;
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) last = atomicAdd(&done[blockIdx.x], 1) == blocks - 1;
        __syncthreads();
        if (!last) return;
        __threadfence();
        sum = 0;
        if (inside)
#pragma unroll 8
            for (int b = lane; b < blocks; b += Lanes) sum += __ldcg(&partial[(long long)b * input.columns + d]);
        sum = add_lanes(sum);
        if (threadIdx.x == 0) done[blockIdx.x] = 0;
    }

    if (lane == 0 && inside) grad_weight[d] += sum;
}
