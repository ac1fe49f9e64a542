// Add, copy, fill and the sum of squares. Grid: blocks of 256 elements; bytes: each tensor once.
#include "Tensors.cuh"

// destination += source.
extern "C" __global__ void add(Matrix source, Matrix destination) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < source.count()) destination.at(i) += source.at(i);
}

extern "C" __global__ void fill(Matrix destination, float value) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < destination.count()) destination.at(i) = value;
}

// The same in bfloat16; `code` is the rounded value.
extern "C" __global__ void fill_bfloat16(unsigned short* destination, int rows, int columns, int stride, int code) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < (long long)rows * columns) destination[i / columns * stride + i % columns] = (unsigned short)code;
}

// Elements of any type by their size; strides in elements.
template <typename T>
__device__ void copy(const T* source, T* destination, int rows, int columns, int from_stride, int to_stride) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    long long row = i / columns;
    int column = (int)(i % columns);
    if (row < rows) destination[row * to_stride + column] = source[row * from_stride + column];
}

#define COPY(name, type) \
    extern "C" __global__ void name(const type* s, type* d, int rows, int columns, int from_stride, int to_stride) { \
        copy(s, d, rows, columns, from_stride, to_stride); \
    }

COPY(copy_1, unsigned char)
COPY(copy_2, unsigned short)
COPY(copy_4, unsigned int)
COPY(copy_8, unsigned long long)

// A tensor whose squares are summed, and the blocks ahead of its own; mirrors DeviceSquares.
struct Summed {
    Matrix values;
    int first_tile;
    int blocks;
};

// results[t] = sum in float64 of the squares of tensor t. Grid: up to 1024 blocks of 256 threads a tensor, the tensors one
// behind the other. Elements fall to a tensor's blocks and their threads in turn, and the last of its blocks adds the sums
// of all, also in turn. The number of blocks depends on the size alone: so does the order. `done` counts for each tensor
// and is left as it was, zero. Bytes: each tensor once.
extern "C" __global__ void __launch_bounds__(256)
squares(const Summed* tensors, int count, double* partial, double* results, int* done) {
    __shared__ double room[8];
    __shared__ int last;
    const int index = item_of_tile(tensors, count, blockIdx.x);
    const Summed tensor = tensors[index];
    const long long step = (long long)tensor.blocks * 256, elements = tensor.values.count();
    double sum = 0;
#pragma unroll 4
    for (long long i = (long long)(blockIdx.x - tensor.first_tile) * 256 + threadIdx.x; i < elements; i += step) {
        double value = tensor.values.at(i);
        sum += value * value;
    }

    sum = block_sum(sum, room);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
        __threadfence();
        last = atomicAdd(&done[index], 1) == tensor.blocks - 1;
    }

    __syncthreads();
    if (!last) return;
    __threadfence();
    sum = 0;
    for (int i = threadIdx.x; i < tensor.blocks; i += 256) sum += __ldcg(&partial[tensor.first_tile + i]);
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) {
        results[index] = sum;
        done[index] = 0;
    }
}
