// Combine of experts that live on this device, and its gradients; the bits of sum_rows, gather_rows and dot_rows over lists
// of the host. Bytes: the rows of all assignments once, the tokens' once each way.
#include "RowDots.cuh"

constexpr int CombineThreads = 256, Lanes = 32;

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
    const int lane = blockIdx.y * Lanes + threadIdx.x % Lanes, lanes = gridDim.y * Lanes;
    for (int d = lane * Each; d < columns; d += lanes * Each) {
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
// token, 8 a block, by parts of the columns where few tokens would leave the card idle. `aligned`: rows of both matrices can be read four channels at a time.
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

// grad_source[a] = weight grad_output[t], unless that is null; grad_weights[t, k] = dot(round(source[a]),
// grad_output[t]), see row_dot. Grid: a warp for each (token, choice), 8 a block. `stored`: the gradient is bfloat16;
// `aligned`: rows of the gradient that is written take four channels at a time.
extern "C" __global__ void __launch_bounds__(CombineThreads) combine_experts_backward(
    Matrix grad_output, Matrix source, const int* assignments, Matrix weights, int rounds, void* grad_source, int stride,
    int stored, int aligned, Matrix grad_weights) {
    const int pair = blockIdx.x * (CombineThreads / Lanes) + threadIdx.x / Lanes, lane = threadIdx.x % Lanes;
    const int top_k = weights.columns, columns = grad_output.columns;
    if (pair >= grad_output.rows * top_k) return;
    const int token = pair / top_k, k = pair % top_k, assignment = assignments[pair];
    const float* g = grad_output.row(token);
    const float* x = source.row(assignment);
    const float weight = weights.row(token)[k];
    const long long start = (long long)assignment * stride;
    const float sum = row_dot(x, g, columns, rounds, in_fours(source) && in_fours(grad_output));
    if (lane == 0) grad_weights.row(token)[k] = sum;
    if (!grad_source) return;

    const int stores = aligned && in_fours(grad_output) ? columns / 4 * 4 : 0;
#pragma unroll 4
    for (int d = lane * 4; d < stores; d += Lanes * 4) {
        Channels<4> four = Channels<4>::load(g + d);
        unsigned int bits[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            four.x[j] *= weight;
            bits[j] = bfloat16_bits(four.x[j]);
        }

        if (stored) *(uint2*)((BFloat16*)grad_source + start + d) = uint2{bits[0] | bits[1] << 16, bits[2] | bits[3] << 16};
        else four.store((float*)grad_source + start + d);
    }

    for (int d = stores + lane; d < columns; d += Lanes) {
        const float value = weight * g[d];
        if (stored) ((BFloat16*)grad_source)[start + d].bits = (unsigned short)bfloat16_bits(value);
        else ((float*)grad_source)[start + d] = value;
    }
}
