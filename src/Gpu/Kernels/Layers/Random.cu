// Normal values from a counter: a pair by Box and Muller's formula in float64 from numbers 2i and 2i + 1 of SplitMix64,
// as NormalSequence.cs. A thread makes a pair; blocks of 256 threads. Bytes: the destination once.
#include "Tensors.cuh"

__device__ inline double uniform(unsigned long long state) {
    unsigned long long z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return (double)((z ^ (z >> 31)) >> 11) * (1.0 / 9007199254740992.0);
}

extern "C" __global__ void __launch_bounds__(256)
fill_normal(float* values, long long count, unsigned long long state, double standard_deviation) {
    const long long i = 2 * ((long long)blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= count) return;
    constexpr unsigned long long Increment = 0x9E3779B97F4A7C15ull;
    const unsigned long long first = state + (unsigned long long)(i + 1) * Increment;
    const double radius = sqrt(-2.0 * log(1.0 - uniform(first)));
    double sine, cosine;
    sincos(6.283185307179586476925 * uniform(first + Increment), &sine, &cosine);
    values[i] = (float)(standard_deviation * radius * cosine);
    if (i + 1 < count) values[i + 1] = (float)(standard_deviation * radius * sine);
}
