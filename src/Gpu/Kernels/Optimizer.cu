// AdamW. Grid: blocks of 256 elements. Bytes: weight and moments read and written, gradient read.
#include "Tensors.cuh"

// A moment: float32, or bfloat16 where half is set. Mirrors DeviceMoment.
struct Moment {
    void* data;
    int stride;
    int half;

    __device__ float read(long long row, int column) const {
        long long at = row * stride + column;
        return half ? __uint_as_float((unsigned int)((const unsigned short*)data)[at] << 16) : ((const float*)data)[at];
    }

    // bfloat16 by rounding to nearest, ties to even.
    __device__ void write(long long row, int column, float value) const {
        long long at = row * stride + column;
        if (!half) {
            ((float*)data)[at] = value;
            return;
        }

        unsigned int bits = __float_as_uint(value);
        bool nan = value != value;
        ((unsigned short*)data)[at] =
            (unsigned short)(nan ? (bits >> 16) | 0x40 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }
};

// Rates of a step; mirrors DeviceAdamWStep. step_size = lr / (1 - beta1^t), correction = 1 - beta2^t.
struct Step {
    float decay, step_size, correction, beta1, beta2, epsilon, gradient_scale;
};

// Every product and sum is rounded on its own. The update uses the moments before they are rounded to their type.
extern "C" __global__ void adamw(Matrix weight, Matrix gradient, Moment first, Moment second, Step step) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    long long row = i / weight.columns;
    int column = (int)(i % weight.columns);
    if (row >= weight.rows) return;
    float g = gradient.row(row)[column] * step.gradient_scale;
    float w = weight.row(row)[column];
    w -= step.decay * w;
    float m = step.beta1 * first.read(row, column) + (1.0f - step.beta1) * g;
    float v = step.beta2 * second.read(row, column) + (1.0f - step.beta2) * (g * g);
    first.write(row, column, m);
    second.write(row, column, v);
    weight.row(row)[column] = w - step.step_size * m / (sqrtf(v / step.correction) + step.epsilon);
}
