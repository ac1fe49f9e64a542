// Operands as Fp8MatrixProduct.cu can read them: copies codes that are gathered or do not start at multiples of 16
// bytes, and the scales of gathered rows. Grid: pieces of 16 rows of all operands, one behind the other; block: 256
// threads. Bytes: what is copied once each way. The operands are given by value, or as a list in device memory where
// they are more than two.
#include "Tensors.cuh"

constexpr int Threads = 256, PieceRows = 16, OwnOperands = 2;

// One operand; mirrors PackedOperand. `scales` is null where they stay as they are.
struct PackedOperand {
    const unsigned char* source;
    const float* source_scales;
    const int* gather;
    unsigned char* codes;
    float* scales;
    int rows;
    int depth;
    int blocks;
    int pitch;
    int first_tile;

    __device__ long long row(int r) const { return gather ? gather[r] : r; }
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
        const long long row = operand.row(first + r);
        const unsigned char* from = operand.source + row * operand.depth;
        unsigned char* to = operand.codes + (long long)(first + r) * operand.pitch;
        if (aligned) {
#pragma unroll 4
            for (int i = lane; i < operand.depth / 16; i += 32) ((uint4*)to)[i] = ((const uint4*)from)[i];
        } else {
#pragma unroll 4
            for (int i = lane; i < operand.depth; i += 32) to[i] = from[i];
        }

        if (operand.scales)
            for (int i = lane; i < operand.blocks; i += 32)
                operand.scales[(long long)(first + r) * operand.blocks + i] =
                    operand.source_scales[row * operand.blocks + i];
    }
}
