// Rows of bfloat16 matrices that lie apart, brought together for copies in boxes: the tokens of each expert. Grid: warps
// for the rows of all matrices, 8 a block. Bytes: each row read and written once, 16 bytes a lane.
#include "Tensors.cuh"

// destination[i] = source[rows[i]] for i below count; rows of `pieces` pieces of 16 bytes. Mirrors DeviceGather.
struct Gather {
    const uint4* source;
    const int* rows;
    uint4* destination;
    int count;
    int pieces;
    int source_pitch;
    int destination_pitch;
    int first_row;
};

extern "C" __global__ void __launch_bounds__(256)
gather_bfloat16(const Gather* gathers, int count, int rows, const Fault* fault) {
    const int row = blockIdx.x * 8 + threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (row >= rows || is_set(fault)) return;

    // The matrix of this row: the last that begins at it or ahead of it, 32 looked at a time.
    int index = -1;
    for (int start = 0; start < count; start += 32) {
        const bool begins = start + lane < count && gathers[start + lane].first_row <= row;
        index += __popc(__ballot_sync(0xffffffffu, begins));
    }

    const Gather gather = gathers[index];
    const int i = row - gather.first_row;
    const uint4* from = gather.source + (long long)gather.rows[i] * gather.source_pitch;
    uint4* to = gather.destination + (long long)i * gather.destination_pitch;
#pragma unroll 4
    for (int piece = lane; piece < gather.pieces; piece += 32) to[piece] = from[piece];
}
