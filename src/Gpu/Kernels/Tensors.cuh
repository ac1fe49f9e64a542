// What every kernel of this folder shares: views of tensors, the fault record, sums of fixed order. No toolkit header.
#pragma once

// A float32 matrix: row-major, rows `stride` elements apart. Mirrors DeviceMatrix in DeviceTypes.cs.
struct Matrix {
    float* data;
    int rows;
    int columns;
    int stride;

    __device__ float* row(long long r) const { return data + r * stride; }

    __device__ long long count() const { return (long long)rows * columns; }

    // Element i in row-major order; without a division where the rows have no gaps.
    __device__ float& at(long long i) const {
        return stride == columns ? data[i] : row(i / columns)[i % columns];
    }
};

// An Int32 matrix or vector of the same layout.
struct IntMatrix {
    int* data;
    int rows;
    int columns;
    int stride;

    __device__ int* row(long long r) const { return data + r * stride; }
};

// The first bad index of a submission; mirrors KernelFault.cs. `argument` is 0 while there is none. Kernels that index
// by what a caller gave do nothing once it is set, so a bad index never reaches memory; those that index by a plan which a
// kernel of ours made need not ask.
struct Fault {
    int argument;
    int kind;
    int position;
    int value;
    int limit;
};

__device__ inline bool is_set(const Fault* fault) { return *(const volatile int*)&fault->argument != 0; }

// The item of a list that a tile belongs to: the last whose `first_tile` is not behind it.
template <class Item>
__device__ int item_of_tile(const Item* items, int count, int tile) {
    int low = 0, high = count - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (items[middle].first_tile <= tile) low = middle;
        else high = middle - 1;
    }

    return low;
}

#define NEGATIVE_INFINITY __int_as_float(0xff800000)

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// Sum over the lanes of a warp in the order of a butterfly: every lane gets the same bits.
__device__ inline float warp_sum(float value) {
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
    return value;
}

__device__ inline float warp_max(float value) {
    for (int distance = 16; distance > 0; distance /= 2)
        value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, distance));
    return value;
}

// Sum over a block of whole warps, the warps' sums in rising order; `room` holds a float for each warp, and every
// thread gets the sum. Call it from all threads.
__device__ inline float block_sum(float value, float* room) {
    int warps = blockDim.x / 32;
    value = warp_sum(value);
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = value;
    __syncthreads();
    float sum = room[0];
    for (int w = 1; w < warps; w++) sum += room[w];
    return sum;
}

__device__ inline float block_max(float value, float* room) {
    int warps = blockDim.x / 32;
    value = warp_max(value);
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = value;
    __syncthreads();
    float maximum = room[0];
    for (int w = 1; w < warps; w++) maximum = fmaxf(maximum, room[w]);
    return maximum;
}

__device__ inline double block_sum(double value, double* room) {
    int warps = blockDim.x / 32;
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = value;
    __syncthreads();
    double sum = room[0];
    for (int w = 1; w < warps; w++) sum += room[w];
    return sum;
}
