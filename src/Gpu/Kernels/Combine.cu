// Combine of experts that live on this device, and its gradients; the bits of sum_rows, gather_rows and dot_rows over lists
// of the host. Bytes: the rows of all assignments once, the tokens' once each way.
#include "Tensors.cuh"
#include "BFloat16.cuh"

constexpr int CombineThreads = 256, Lanes = 32;

__device__ inline float rounded(float x, int rounds) { return rounds ? __uint_as_float(bfloat16_bits(x) << 16) : x; }

// Four channels of a row or one, as the tensors allow.
template <int Each>
struct Channels {
    float x[Each];

    __device__ static Channels load(const float* from) {
        Channels own;
        if constexpr (Each == 4) {
            const float4 four = *(const float4*)from;
            own.x[0] = four.x, own.x[1] = four.y, own.x[2] = four.z, own.x[3] = four.w;
        } else own.x[0] = *from;
        return own;
    }

    __device__ void store(float* to) const {
        if constexpr (Each == 4) *(float4*)to = float4{x[0], x[1], x[2], x[3]};
        else *to = x[0];
    }
};

template <int Each>
__device__ void combine(
    const Matrix& source, const int* assignments, const int* chosen, const float* weights, int top_k, int group_size,
    int rounds, float* y, int columns) {
    for (int d = threadIdx.x % Lanes * Each; d < columns; d += Lanes * Each) {
        Channels<Each> sum = {};
        for (int k = 0; k < top_k;) {
            const int first = k, group = chosen[k] / group_size;
            Channels<Each> part = {};
            for (; k < top_k && chosen[k] / group_size == group; k++) {
                const Channels<Each> own = Channels<Each>::load(source.row(assignments[k]) + d);
                const float weight = weights ? weights[k] : 1.0f;
#pragma unroll
                for (int j = 0; j < Each; j++) {
                    const float x = rounded(own.x[j], rounds);
                    part.x[j] = k == first ? weight * x : fmaf(weight, x, part.x[j]);
                }
            }
#pragma unroll
            for (int j = 0; j < Each; j++) {
                const float x = rounded(part.x[j], rounds);
                sum.x[j] = first == 0 ? x : sum.x[j] + x;
            }
        }

        Channels<Each> total = Channels<Each>::load(y + d);
#pragma unroll
        for (int j = 0; j < Each; j++) total.x[j] += sum.x[j];
        total.store(y + d);
    }
}

// output[t] += sum over groups of round(sum over a group's experts of weight round(source[a])). Grid: a warp for each
// token, 8 a block. `aligned`: rows of both matrices can be read four channels at a time.
extern "C" __global__ void __launch_bounds__(CombineThreads) combine_experts(
    Matrix source, const int* assignments, IntMatrix indices, Matrix weights, int group_size, int rounds, Matrix output,
    int aligned) {
    const int token = blockIdx.x * (CombineThreads / Lanes) + threadIdx.x / Lanes;
    if (token >= output.rows) return;
    const int top_k = indices.columns;
    const int* own = assignments + (long long)token * top_k;
    const float* factors = weights.data ? weights.row(token) : nullptr;
    if (aligned)
        combine<4>(
            source, own, indices.row(token), factors, top_k, group_size, rounds, output.row(token), output.columns);
    else
        combine<1>(
            source, own, indices.row(token), factors, top_k, group_size, rounds, output.row(token), output.columns);
}

// grad_source[a] = weight grad_output[t]; grad_weights[t, k] = dot(round(source[a]), grad_output[t]), each thread's chain,
// then lanes and warps as in block_sum. Grid: a block for each token. Shared: float [K, warps]. `stored`: the gradient is
// bfloat16.
extern "C" __global__ void __launch_bounds__(CombineThreads) combine_experts_backward(
    Matrix grad_output, Matrix source, const int* assignments, Matrix weights, int rounds, void* grad_source, int stride,
    int stored, Matrix grad_weights) {
    constexpr int Warps = CombineThreads / Lanes;
    extern __shared__ float room[];
    const long long token = blockIdx.x;
    const int top_k = weights.columns, columns = grad_output.columns;
    const float* g = grad_output.row(token);
    for (int k = 0; k < top_k; k++) {
        const long long assignment = assignments[token * top_k + k];
        const float* x = source.row(assignment);
        const float weight = weights.row(token)[k];
        const long long start = assignment * stride;
        float sum = 0;
        for (int d = threadIdx.x; d < columns; d += CombineThreads) {
            sum = fmaf(rounded(x[d], rounds), g[d], sum);
            const float value = weight * g[d];
            if (stored) ((BFloat16*)grad_source)[start + d].bits = (unsigned short)bfloat16_bits(value);
            else ((float*)grad_source)[start + d] = value;
        }

        sum = warp_sum(sum);
        if (threadIdx.x % Lanes == 0) room[k * Warps + threadIdx.x / Lanes] = sum;
    }

    __syncthreads();
    for (int k = threadIdx.x; k < top_k; k += CombineThreads) {
        float sum = room[k * Warps];
        for (int w = 1; w < Warps; w++) sum += room[k * Warps + w];
        grad_weights.row(token)[k] = sum;
    }
}
