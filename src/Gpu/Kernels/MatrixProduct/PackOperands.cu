// Codes as tensor maps can describe them, for Fp8MatrixProduct.cu: copies rows that are gathered or do not start at multiples
// of 16 bytes. Grid: pieces of 16 rows of all operands, one behind the other; block: 256 threads. Bytes: the codes once each
// way. The operands are given by value, or as a list in device memory where they are more than two.
#include "Tensors.cuh"

constexpr int Threads = 256, PieceRows = 16, OwnOperands = 2;

// One operand; mirrors PackedOperand.
struct PackedOperand {
    const unsigned char* source;
    const int* gather;
    unsigned char* codes;
    int rows;
    int depth;
    int pitch;
    int first_tile;

    __device__ const unsigned char* row(int r) const { return source + (long long)(gather ? gather[r] : r) * depth; }
};

struct OwnedOperands { PackedOperand items[OwnOperands]; };

extern "C" __global__ void __launch_bounds__(Threads)
pack_operands(const __grid_constant__ OwnedOperands own, const PackedOperand* list, int count, const Fault* fault) {
    if (is_set(fault)) return;
    const PackedOperand* operands = list ? list : own.items;
    const PackedOperand& operand = operands[item_of_tile(operands, count, blockIdx.x)];
    const int first = (blockIdx.x - operand.first_tile) * PieceRows;
    const bool aligned = (unsigned long long)operand.source % 16 == 0 && operand.depth % 16 == 0;
    const int lane = threadIdx.x % 32;
    for (int r = threadIdx.x / 32; r < PieceRows && first + r < operand.rows; r += Threads / 32) {
        const unsigned char* from = operand.row(first + r);
        unsigned char* to = operand.codes + (long long)(first + r) * operand.pitch;
        if (aligned) {
#pragma unroll 4
            for (int i = lane; i < operand.depth / 16; i += 32) ((uint4*)to)[i] = ((const uint4*)from)[i];
        } else {
#pragma unroll 4
            for (int i = lane; i < operand.depth; i += 32) to[i] = from[i];
        }
    }
}
