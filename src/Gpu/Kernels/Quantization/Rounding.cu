// Values rounded to bfloat16, ties to even. Grid: a block of 256 threads for each 1024 columns of each row. Bytes: source
// and destination once.
#include "Tensors.cuh"
#include "BFloat16.cuh"

constexpr int Each = 4;

// The destination is bfloat16 where `stored` is set, else float32, where the values are widened again; it may be the
// source then. With `aligned`, a thread's four values are so in both tensors, and within their rows.
extern "C" __global__ void __launch_bounds__(256)
round_to_bfloat16(Matrix source, void* destination, int stride, int stored, int aligned) {
    const int blocks = (source.columns + 1023) / 1024;
    const int first = blockIdx.x % blocks * 1024 + threadIdx.x * Each;
    if (first >= source.columns) return;
    const long long row = blockIdx.x / blocks;
    const float* from = source.row(row) + first;
    const long long at = row * stride + first;
    unsigned int bits[Each];
    if (aligned) {
        const float4 values = *(const float4*)from;
        bits[0] = bfloat16_bits(values.x);
        bits[1] = bfloat16_bits(values.y);
        bits[2] = bfloat16_bits(values.z);
        bits[3] = bfloat16_bits(values.w);
        if (stored) {
            *(uint2*)((BFloat16*)destination + at) = uint2{bits[0] | bits[1] << 16, bits[2] | bits[3] << 16};
        } else {
            *(uint4*)((float*)destination + at) = uint4{bits[0] << 16, bits[1] << 16, bits[2] << 16, bits[3] << 16};
        }

        return;
    }

    const int count = min(Each, source.columns - first);
    for (int i = 0; i < count; i++) {
        const unsigned int one = bfloat16_bits(from[i]);
        if (stored) ((BFloat16*)destination)[at + i].bits = (unsigned short)one;
        else ((float*)destination)[at + i] = __uint_as_float(one << 16);
    }
}
