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

// partial[b] = sum in float64 of the squares of the elements that fall to block b and its threads in turn. The number
// of blocks depends on the size alone: so does the order. Grid up to 1024, block 256.
extern "C" __global__ void __launch_bounds__(256) squares(Matrix values, double* partial) {
    __shared__ double room[8];
    const long long step = (long long)gridDim.x * blockDim.x;
    double sum = 0;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < values.count(); i += step) {
        double value = values.at(i);
        sum += value * value;
    }

    sum = block_sum(sum, room);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// result = sum of partial sums, up to 1024. One block of 256.
extern "C" __global__ void __launch_bounds__(256) sum_partials(const double* partial, int count, double* result) {
    __shared__ double room[8];
    double sum = 0;
    for (int i = threadIdx.x; i < count; i += 256) sum += partial[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) *result = sum;
}
