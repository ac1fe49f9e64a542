// AdamW of many parameters. Grid: a block of 256 threads for each 4096 columns of each row, the parameters one behind
// the other; a thread takes four neighbours at a time where all tensors lie so that it can. Bytes: weight, gradient and
// moments read and written, the rounded weight written where one is kept.
#include "Tensors.cuh"
#include "BFloat16.cuh"

constexpr int Threads = 256, BlockColumns = 4096;

__device__ bool lies_on(const void* address, int bytes) { return (unsigned long long)address % bytes == 0; }

__device__ uint2 rounded_four(float4 values) {
    return {bfloat16_bits(values.x) | bfloat16_bits(values.y) << 16,
            bfloat16_bits(values.z) | bfloat16_bits(values.w) << 16};
}

// A moment: float32, or bfloat16 where half is set. Mirrors DeviceStored.
struct Moment {
    void* data;
    int stride;
    int half;

    __device__ float read(long long at) const {
        return half ? widen(((const BFloat16*)data)[at]) : ((const float*)data)[at];
    }

    __device__ void write(long long at, float value) const {
        if (half) ((BFloat16*)data)[at].bits = (unsigned short)bfloat16_bits(value);
        else ((float*)data)[at] = value;
    }

    __device__ float4 read_four(long long at) const {
        if (!half) return *(const float4*)((const float*)data + at);
        const uint2 pairs = *(const uint2*)((const BFloat16*)data + at);
        return {__uint_as_float(pairs.x << 16), __uint_as_float(pairs.x & 0xffff0000u), __uint_as_float(pairs.y << 16),
                __uint_as_float(pairs.y & 0xffff0000u)};
    }

    __device__ void write_four(long long at, float4 values) const {
        if (half) *(uint2*)((BFloat16*)data + at) = rounded_four(values);
        else *(float4*)((float*)data + at) = values;
    }

    // Whether groups of four begin where they can be read and written at once.
    __device__ bool takes_fours(long long at) const {
        return half ? lies_on((const BFloat16*)data + at, 8) : lies_on((const float*)data + at, 16);
    }
};

// A parameter, and the number of blocks ahead of it. Mirrors DeviceAdamWParameter.
struct Parameter {
    Matrix weight;
    Matrix gradient;
    Moment first;
    Moment second;
    BFloat16* rounded;
    int rounded_stride;
    int decays;
    int first_tile;
};

// Rates of a step; mirrors DeviceAdamWStep. step_size = lr / (1 - beta1^t), correction = 1 - beta2^t.
struct Step {
    float decay, step_size, correction, beta1, beta2, epsilon, gradient_scale;
};

// One element. Every product and sum is rounded on its own; the update uses the moments before they are rounded to their
// type.
__device__ void update(const Step& step, float decay, float gradient, float& weight, float& first, float& second) {
    const float g = gradient * step.gradient_scale;
    float w = weight;
    w -= decay * w;
    first = step.beta1 * first + (1.0f - step.beta1) * g;
    second = step.beta2 * second + (1.0f - step.beta2) * (g * g);
    weight = w - step.step_size * first / (sqrtf(second / step.correction) + step.epsilon);
}

// The gradient becomes zero; `rounded`, where there is one, takes the new weight in bfloat16.
extern "C" __global__ void __launch_bounds__(Threads) adamw(const Parameter* parameters, int count, Step step) {
    const Parameter p = parameters[item_of_tile(parameters, count, blockIdx.x)];
    const int columns = p.weight.columns;
    const int blocks = (columns + BlockColumns - 1) / BlockColumns;
    const int block = blockIdx.x - p.first_tile;
    const long long row = block / blocks;
    const float decay = p.decays ? step.decay : 0.0f;
    float* weight = p.weight.row(row);
    float* gradient = p.gradient.row(row);
    BFloat16* rounded = p.rounded ? p.rounded + row * p.rounded_stride : nullptr;
    const long long first = row * p.first.stride, second = row * p.second.stride;
    const int begin = block % blocks * BlockColumns;
    const int end = min(begin + BlockColumns, columns);
    const bool fours = lies_on(weight, 16) && lies_on(gradient, 16) && lies_on(rounded, 8)
        && p.first.takes_fours(first) && p.second.takes_fours(second);
    const int whole = fours ? begin + (end - begin) / 4 * 4 : begin;
#pragma unroll 2
    for (int i = begin + threadIdx.x * 4; i < whole; i += Threads * 4) {
        const float4 g = *(const float4*)&gradient[i];
        float4 w = *(const float4*)&weight[i];
        float4 m = p.first.read_four(first + i);
        float4 v = p.second.read_four(second + i);
        update(step, decay, g.x, w.x, m.x, v.x);
        update(step, decay, g.y, w.y, m.y, v.y);
        update(step, decay, g.z, w.z, m.z, v.z);
        update(step, decay, g.w, w.w, m.w, v.w);
        p.first.write_four(first + i, m);
        p.second.write_four(second + i, v);
        *(float4*)&weight[i] = w;
        *(float4*)&gradient[i] = float4{0, 0, 0, 0};
        if (rounded) *(uint2*)&rounded[i] = rounded_four(w);
    }

    for (int i = whole + threadIdx.x; i < end; i += Threads) {
        float w = weight[i], m = p.first.read(first + i), v = p.second.read(second + i);
        update(step, decay, gradient[i], w, m, v);
        p.first.write(first + i, m);
        p.second.write(second + i, v);
        weight[i] = w;
        gradient[i] = 0;
        if (rounded) rounded[i].bits = (unsigned short)bfloat16_bits(w);
    }
}
