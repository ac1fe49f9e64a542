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

// gradWeight[d] += sum over rows of g x r. Grid: 32 columns a block; block: 32 columns by 8 lanes, lane l takes rows
// l, l + 8, ..., and the lanes' sums are added in rising order.
extern "C" __global__ void __launch_bounds__(256)
rms_norm_backward_weight(Matrix grad_output, Matrix input, const float* inverse_rms, float* grad_weight) {
    __shared__ float room[8][32];
    int column = threadIdx.x % 32, lane = threadIdx.x / 32;
    int d = blockIdx.x * 32 + column;
    float sum = 0;
    if (d < input.columns)
        for (int m = lane; m < input.rows; m += 8)
            sum = fmaf(grad_output.row(m)[d], input.row(m)[d] * inverse_rms[m], sum);
    room[lane][column] = sum;
    __syncthreads();
    if (lane == 0 && d < input.columns) {
        for (int l = 1; l < 8; l++) sum += room[l][column];
        grad_weight[d] += sum;
    }
}
