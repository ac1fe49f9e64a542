// Looks at index tensors ahead of the kernels that use them. Blocks of 1024 threads take the values of a tensor in turn:
// the first bad position of all is found by a minimum, so it is the same one at every run. Bytes: each index once.
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

// What the blocks of a check have found; zero before it and after it, as CudaKernels.Counters are.
struct Found {
    unsigned long long last_key;  // ~(tensor, position) of the first bad value, or 0.
    int done;
};

// Counts the block as done; true in the last one of all, where `tensor` and `position` are those of the first bad value,
// if any block has called this with one. The counters are zero again then.
__device__ bool is_last(Found* found, int& tensor, int& position) {
    __shared__ unsigned long long key;
    __shared__ int last;
    if (threadIdx.x == 0) {
        if (position != None) atomicMax(&found->last_key, ~((unsigned long long)tensor << 32 | (unsigned)position));
        __threadfence();
        last = atomicAdd(&found->done, 1) == (int)(gridDim.x * gridDim.y) - 1;
        if (last) {
            key = atomicExch(&found->last_key, 0);
            found->done = 0;
        }
    }

    __syncthreads();
    if (!last) return false;
    position = key == 0 ? None : (int)(unsigned)~key;
    tensor = (int)(~key >> 32);
    return true;
}

// The checks of a launch that has few; mirrors OwnIndexChecks.
struct OwnIndexChecks {
    IndexCheck checks[4];
};

// All index tensors of a call, of `own_checks` or, where they are more, of `listed`. Grid: tensors by blocks of a tensor.
// The last block to end reports the first tensor that has a bad index.
extern "C" __global__ void __launch_bounds__(1024)
check_indices(const __grid_constant__ OwnIndexChecks own_checks, const IndexCheck* listed, Found* found, Fault* fault) {
    const IndexCheck* checks = listed ? listed : own_checks.checks;
    const IndexCheck own = checks[blockIdx.x];
    const bool dense = own.indices.stride == own.indices.columns;
    const long long count = (long long)own.indices.rows * own.indices.columns, step = (long long)gridDim.y * 1024;
    int bad = None;
    for (long long i = blockIdx.y * 1024 + threadIdx.x; i < count && bad == None; i += step) {
        int value = dense ? own.indices.data[i] : own.indices.row(i / own.indices.columns)[i % own.indices.columns];
        if (value >= own.limit || (value < 0 && !own.allow_negative)) bad = (int)i;
    }

    int tensor = blockIdx.x, position = first_position(bad);
    if (is_last(found, tensor, position) && position != None) report(fault, checks[tensor], position);
}

// Offsets from 0 to total that never fall. Grid: blocks of 1024.
extern "C" __global__ void __launch_bounds__(1024)
check_starts(IntMatrix starts, int total, int argument, Found* found, Fault* fault) {
    const int* offsets = starts.data;
    const int count = starts.columns, step = gridDim.x * 1024;
    int bad = None;
    for (int i = 1 + blockIdx.x * 1024 + threadIdx.x; i < count && bad == None; i += step)
        if (offsets[i] < offsets[i - 1]) bad = i;
    int tensor = 0, position = first_position(bad);
    if (!is_last(found, tensor, position)) return;
    if (offsets[0] != 0 || offsets[count - 1] != total)
        report(fault, argument, SpanFault, offsets[0], offsets[count - 1], total);
    else if (position != None)
        report(fault, argument, OffsetFault, position, offsets[position], offsets[position - 1]);
}
