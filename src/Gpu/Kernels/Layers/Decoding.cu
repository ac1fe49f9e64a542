// What a step of decoding hands on to the next.
#include "Tensors.cuh"

// history[next] = chosen, ids = chosen, positions += 1, next += 1. One block; bytes: each once.
extern "C" __global__ void __launch_bounds__(256)
append_tokens(const int* chosen, IntMatrix history, int* next, int* ids, int* positions, const Fault* fault) {
    if (is_set(fault)) return;
    const int row = *next;
    __syncthreads();
    for (int s = threadIdx.x; s < history.columns; s += blockDim.x) {
        const int token = chosen[s];
        if (row >= 0 && row < history.rows) history.row(row)[s] = token;
        ids[s] = token;
        positions[s]++;
    }

    if (threadIdx.x == 0) *next = row + 1;
}
