// Looks at index tensors ahead of the kernels that use them. One block each: the first bad position is found by a
// minimum, so it is the same one at every run. Bytes: each index once.
#include "Tensors.cuh"

constexpr int None = 0x7fffffff;

// Kinds of fault; mirrors KernelFaultKind.
constexpr int RowFault = 1, ExpertFault = 2, SpanFault = 3, OffsetFault = 4;

// The smallest of the threads' positions, to every thread.
__device__ int first_position(int position) {
    __shared__ int first;
    if (threadIdx.x == 0) first = None;
    __syncthreads();
    atomicMin(&first, position);
    __syncthreads();
    return first;
}

__device__ void report(Fault* fault, int argument, int kind, int position, int value, int limit) {
    if (threadIdx.x == 0 && fault->argument == 0) *fault = Fault{argument, kind, position, value, limit};
}

// Every value lies below limit; negative ones pass where they are allowed. Block 1024.
extern "C" __global__ void check_indices(
    IntMatrix indices, int limit, int allow_negative, int argument, int kind, Fault* fault) {
    long long count = (long long)indices.rows * indices.columns;
    int bad = None;
    for (long long i = threadIdx.x; i < count && bad == None; i += blockDim.x) {
        int value = indices.row(i / indices.columns)[i % indices.columns];
        if (value >= limit || (value < 0 && !allow_negative)) bad = (int)i;
    }

    int first = first_position(bad);
    if (first != None) {
        int value = indices.row(first / indices.columns)[first % indices.columns];
        report(fault, argument, kind, first, value, limit);
    }
}

// Offsets from 0 to total that never fall. Block 1024.
extern "C" __global__ void check_starts(IntMatrix starts, int total, int argument, Fault* fault) {
    const int* offsets = starts.data;
    int count = starts.columns;
    if (offsets[0] != 0 || offsets[count - 1] != total) {
        report(fault, argument, SpanFault, offsets[0], offsets[count - 1], total);
        return;
    }

    int bad = None;
    for (int i = 1 + threadIdx.x; i < count && bad == None; i += blockDim.x)
        if (offsets[i] < offsets[i - 1]) bad = i;
    int first = first_position(bad);
    if (first != None) report(fault, argument, OffsetFault, first, offsets[first], offsets[first - 1]);
}
