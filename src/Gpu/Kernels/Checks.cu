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
    const int result = first;
    __syncthreads();
    return result;
}

__device__ void report(Fault* fault, int argument, int kind, int position, int value, int limit) {
    if (threadIdx.x == 0 && fault->argument == 0) *fault = Fault{argument, kind, position, value, limit};
}

// One index tensor: every value lies below limit; negative ones pass where they are allowed. Mirrors DeviceIndexCheck.
struct IndexCheck {
    IntMatrix indices;
    int limit;
    int allow_negative;
    int argument;
    int kind;
};

__device__ void report(Fault* fault, const IndexCheck& check, int position) {
    const int value = check.indices.row(position / check.indices.columns)[position % check.indices.columns];
    report(fault, check.argument, check.kind, position, value, check.limit);
}

// All index tensors of a call, a block of 1024 threads for each. The last block to end reports the first tensor that has a
// bad index. `positions` has room for a position of each block and the number of blocks that are done, which is zero;
// unused with one block.
extern "C" __global__ void check_indices(const IndexCheck* checks, int* positions, Fault* fault) {
    const IndexCheck own = checks[blockIdx.x];
    const int blocks = gridDim.x;
    long long count = (long long)own.indices.rows * own.indices.columns;
    int bad = None;
    for (long long i = threadIdx.x; i < count && bad == None; i += blockDim.x) {
        int value = own.indices.row(i / own.indices.columns)[i % own.indices.columns];
        if (value >= own.limit || (value < 0 && !own.allow_negative)) bad = (int)i;
    }

    const int first = first_position(bad);
    if (blocks == 1) {
        if (first != None) report(fault, own, first);
        return;
    }

    __shared__ int last;
    if (threadIdx.x == 0) {
        positions[blockIdx.x] = first;
        __threadfence();
        last = atomicAdd(&positions[blocks], 1) == blocks - 1;
        __threadfence();
    }

    __syncthreads();
    if (!last) return;
    int worst = None;
    for (int b = threadIdx.x; b < blocks && worst == None; b += blockDim.x)
        if (((volatile int*)positions)[b] != None) worst = b;
    const int check = first_position(worst);
    if (check != None) report(fault, checks[check], ((volatile int*)positions)[check]);
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
