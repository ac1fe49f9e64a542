// Makes operands ready for Fp8MatrixProduct.cu: turns scales [rows, blocks of K] into [blocks of K, rows], and copies
// codes where rows are gathered or do not start at multiples of 16 bytes, which tensor maps need.
// Grid: pieces of 16 rows of all operands, one behind the other; block: 256 threads. Bytes: what is packed, once each
// way. The operands are given by value, or as a list in device memory where they are more than two.
#include "Tensors.cuh"

constexpr int Threads = 256, PieceRows = 16, OwnOperands = 2;

// One operand; mirrors PackedOperand. `codes` or `scales` is null where it stays as it is.
struct PackedOperand {
    const unsigned char* source_codes;
    const float* source_scales;
    const int* gather;
    unsigned char* codes;
    float* scales;
    int rows;
    int depth;
    int blocks;
    int codes_pitch;
    int scales_pitch;
    int first_tile;
    int ranges;
    const int* offsets;

    // Where the scales of a row go; see first_scale in Shape.cuh.
    __device__ int place(int r) const {
        if (ranges == 0) return r;
        int low = 0, high = ranges - 1;
        while (low < high) {
            const int middle = (low + high + 1) / 2;
            if (offsets[middle] <= r) low = middle;
            else high = middle - 1;
        }

        return (offsets[low] + 3) / 4 * 4 + low * 4 + r - offsets[low];
    }

    __device__ long long row(int r) const { return gather ? gather[r] : r; }
};

struct OwnedOperands { PackedOperand items[OwnOperands]; };

__device__ void turn_scales(const PackedOperand& operand, int first) {
    const int row = first + threadIdx.x % PieceRows;
    if (row >= operand.rows) return;
    const float* from = operand.source_scales + operand.row(row) * operand.blocks;
    const int place = operand.place(row);
    for (int block = threadIdx.x / PieceRows; block < operand.blocks; block += Threads / PieceRows)
        operand.scales[(long long)block * operand.scales_pitch + place] = from[block];
}

__device__ void copy_codes(const PackedOperand& operand, int first) {
    const bool aligned = (unsigned long long)operand.source_codes % 16 == 0 && operand.depth % 16 == 0;
    const int lane = threadIdx.x % 32;
    for (int r = threadIdx.x / 32; r < PieceRows && first + r < operand.rows; r += Threads / 32) {
        const unsigned char* from = operand.source_codes + operand.row(first + r) * operand.depth;
        unsigned char* to = operand.codes + (long long)(first + r) * operand.codes_pitch;
        if (aligned) {
#pragma unroll 4
            for (int i = lane; i < operand.depth / 16; i += 32) ((uint4*)to)[i] = ((const uint4*)from)[i];
        } else {
#pragma unroll 4
            for (int i = lane; i < operand.depth; i += 32) to[i] = from[i];
        }
    }
}

extern "C" __global__ void __launch_bounds__(Threads)
pack_operands(const __grid_constant__ OwnedOperands own, const PackedOperand* list, int count, const Fault* fault) {
    if (is_set(fault)) return;
    const PackedOperand* operands = list ? list : own.items;
    const PackedOperand& operand = operands[item_of_tile(operands, count, blockIdx.x)];
    const int first = (blockIdx.x - operand.first_tile) * PieceRows;
    if (operand.scales) turn_scales(operand, first);
    if (operand.codes) copy_codes(operand, first);
}
