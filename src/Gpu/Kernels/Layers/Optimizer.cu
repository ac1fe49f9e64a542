// AdamW of many parameters. Grid: a block of 256 threads for each 1024 columns of each row, the parameters one behind
// the other. Bytes: weight, gradient and moments read and written, the rounded weight written where one is kept.
#include "Tensors.cuh"
#include "BFloat16.cuh"

constexpr int BlockColumns = 1024;

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
    int first_block;
};

// Rates of a step; mirrors DeviceAdamWStep. step_size = lr / (1 - beta1^t), correction = 1 - beta2^t.
struct Step {
    float decay, step_size, correction, beta1, beta2, epsilon, gradient_scale;
};

// The parameter of a block: the last that begins at it or ahead of it, 32 looked at a time by every warp.
__device__ int parameter_of(const Parameter* parameters, int count, int block) {
    const int lane = threadIdx.x % 32;
    int index = -1;
    for (int start = 0; start < count; start += 32) {
        const bool begins = start + lane < count && parameters[start + lane].first_block <= block;
        const int passed = __popc(__ballot_sync(0xffffffffu, begins));
        index += passed;
        if (passed < 32) break;
    }

    return index;
}

// Every product and sum is rounded on its own. The update uses the moments before they are rounded to their type. The
// gradient becomes zero; `rounded`, where there is one, takes the new weight in bfloat16.
extern "C" __global__ void __launch_bounds__(256) adamw(const Parameter* parameters, int count, Step step) {
    const Parameter p = parameters[parameter_of(parameters, count, blockIdx.x)];
    const int columns = p.weight.columns;
    const int blocks = (columns + BlockColumns - 1) / BlockColumns;
    const int block = blockIdx.x - p.first_block;
    const long long row = block / blocks;
    const float decay = p.decays ? step.decay : 0.0f;
    float* weight = p.weight.row(row);
    float* gradient = p.gradient.row(row);
    BFloat16* rounded = p.rounded ? p.rounded + row * p.rounded_stride : nullptr;
    const long long first = row * p.first.stride, second = row * p.second.stride;
    const int begin = block % blocks * BlockColumns;
    const int end = min(begin + BlockColumns, columns);
#pragma unroll 4
    for (int i = begin + threadIdx.x; i < end; i += 256) {
        float g = gradient[i] * step.gradient_scale;
        float w = weight[i];
        w -= decay * w;
        float m = step.beta1 * p.first.read(first + i) + (1.0f - step.beta1) * g;
        float v = step.beta2 * p.second.read(second + i) + (1.0f - step.beta2) * (g * g);
        p.first.write(first + i, m);
        p.second.write(second + i, v);
        w -= step.step_size * m / (sqrtf(v / step.correction) + step.epsilon);
        weight[i] = w;
        gradient[i] = 0;
        if (rounded) rounded[i].bits = (unsigned short)bfloat16_bits(w);
    }
}
