// RMSNorm and its gradients. Grid, but for the weight's gradient: a warp for each row of up to 1024 columns, eight in a
// block, the kernels named _rows; a block of 256 threads for each longer one.
#include "Layers/Teams.cuh"
#include "BFloat16.cuh"

constexpr int Threads = TeamBlock;

// The first half of RMSNorm alone, ahead of rms_norm_quantize. Bytes: input once.
template <int Size>
__device__ void scale(const Matrix& input, float* inverse_rms, float epsilon) {
    const int row = Team<Size>::row();
    if (row >= input.rows) return;
    const float r = inverse_rms_of<Size>(input.row(row), input.columns, epsilon);
    if (Team<Size>::lane() == 0) inverse_rms[row] = r;
}

// output = input * weight / sqrt(mean(input^2) + epsilon). Bytes: input twice (the second time from cache), output
// once.
template <int Size, int Kept = Team<Size>::Kept>
__device__ void normalize(
    const Matrix& input, const float* weight, const Stored& output, float* inverse_rms, float epsilon) {
    const int row = Team<Size>::row();
    if (row >= input.rows) return;
    const float* x = input.row(row);
    const int lane = Team<Size>::lane();
    if (input.columns <= Kept * Size) {
        // All loads at once, the weight's too: a write might be to what a load behind it reads.
        float values[Kept], scales[Kept], sum = 0;
#pragma unroll
        for (int i = 0; i < Kept; i++) {
            const int d = lane + i * Size;
            values[i] = d < input.columns ? x[d] : 0.0f;
            scales[i] = d < input.columns ? weight[d] : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < Kept; i++)
            if (lane + i * Size < input.columns) sum = fmaf(values[i], values[i], sum);
        const float r = 1.0f / sqrtf(Team<Size>::sum(sum) / input.columns + epsilon);
        if (lane == 0) inverse_rms[row] = r;
#pragma unroll
        for (int i = 0; i < Kept; i++)
            if (lane + i * Size < input.columns) output.write(row, lane + i * Size, values[i] * r * scales[i]);
        return;
    }

    const float r = inverse_rms_of<Size>(x, input.columns, epsilon);
    if (lane == 0) inverse_rms[row] = r;
#pragma unroll 8
    for (int d = lane; d < input.columns; d += Size) output.write(row, d, x[d] * r * weight[d]);
}

// gradInput = added + r (g w - x r^2 mean(g w x)); `added` may be gradInput, or null.
template <int Size>
__device__ void backward(
    const Matrix& grad_output, const Matrix& input, const float* weight, const float* inverse_rms,
    const Matrix& grad_input, const Matrix& added) {
    const int row = Team<Size>::row(), lane = Team<Size>::lane();
    if (row >= input.rows) return;
    const float* x = input.row(row);
    const float* g = grad_output.row(row);
    float* gx = grad_input.row(row);
    const float* sum = added.data ? added.row(row) : nullptr;
    const float r = inverse_rms[row];
    float mean = 0;
#pragma unroll 8
    for (int d = lane; d < input.columns; d += Size) mean = fmaf(g[d] * weight[d], x[d], mean);
    const float shrink = r * r * (Team<Size>::sum(mean) / input.columns);
#pragma unroll 8
    for (int d = lane; d < input.columns; d += Size) {
        const float gradient = r * (g[d] * weight[d] - x[d] * shrink);
        gx[d] = sum ? sum[d] + gradient : gradient;
    }
}

#define NORM_KERNELS(suffix, size) \
    extern "C" __global__ void __launch_bounds__(Threads) rms_norm_scale##suffix( \
        Matrix input, float* inverse_rms, float epsilon) { \
        scale<size>(input, inverse_rms, epsilon); \
    } \
    extern "C" __global__ void __launch_bounds__(Threads) rms_norm##suffix( \
        Matrix input, const float* weight, Stored output, float* inverse_rms, float epsilon) { \
        normalize<size>(input, weight, output, inverse_rms, epsilon); \
    } \
    extern "C" __global__ void __launch_bounds__(Threads) rms_norm_backward_input##suffix( \
        Matrix grad_output, Matrix input, const float* weight, const float* inverse_rms, Matrix grad_input, \
        Matrix added) { \
        backward<size>(grad_output, input, weight, inverse_rms, grad_input, added); \
    }

NORM_KERNELS(, Threads)
NORM_KERNELS(_rows, 32)

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
