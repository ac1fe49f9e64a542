// Writes a warp's part of a finished tile. Whole lines leave the warp by ordinary stores, not by the copy engine: so
// rows end exactly where a group ends, groups may start at any row, and shared memory goes to the stages of K.
#pragma once

#include "Shape.cuh"

namespace krewe {

/// Two floats as bfloat16, rounded to the nearest even, the first in the lower half.
KREWE_DEVICE uint32 pack_bfloat16(float low, float high) {
    uint32 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

/// Stores four 8 x 8 matrices of 16 bits; lane l names the address of row l % 8 of matrix l / 8.
KREWE_DEVICE void store_matrices(uint32 address, uint32 m0, uint32 m1, uint32 m2, uint32 m3) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(m0), "r"(m1),
                 "r"(m2), "r"(m3)
                 : "memory");
}

/// Sixteen bytes on their way from shared to global memory.
struct Piece {
    uint32 words[4];

    KREWE_DEVICE void load(uint32 source) {
        asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                     : "r"(source)
                     : "memory");
    }

    KREWE_DEVICE void store(void* target) const {
        asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(target), "r"(words[0]), "r"(words[1]),
                     "r"(words[2]), "r"(words[3])
                     : "memory");
    }
};

KREWE_DEVICE void store_pair(float* target, float first, float second) {
    asm volatile("st.global.v2.f32 [%0], {%1, %2};" ::"l"(target), "f"(first), "f"(second) : "memory");
}

/// Adds two floats in the L2 cache, rounded to the nearest even.
KREWE_DEVICE void add_pair(float* target, float first, float second) {
    asm volatile("red.relaxed.gpu.global.add.v2.f32 [%0], {%1, %2};" ::"l"(target), "f"(first), "f"(second)
                 : "memory");
}

/// Sixteen rows, from <row>, of bfloat16 [.., columns]: a patch of them is laid out in shared memory and leaves in
/// pieces of 16 bytes, a line of 128 bytes (64 with a tile of 32 columns) a row.
KREWE_DEVICE void write_bfloat16(const float (&sum)[Shape::TileColumns / 2], const Arguments& arguments, uint32 patch,
                                 int row, int rowEnd, int column) {
    constexpr int rowPieces = Shape::PatchColumns / 8;
    constexpr int roundRows = WarpThreads / rowPieces;
    constexpr int rounds = 16 / roundRows;
    const int lane = lane_index();
    const int ownRow = lane / rowPieces;
    const uint32 matrixRow = patch + (lane % 16) * Shape::PatchPitch + lane / 16 * 16;
    const uint32 ownPiece = patch + ownRow * Shape::PatchPitch + lane % rowPieces * 16;
#pragma unroll
    for (int first = 0; first < Shape::TileColumns; first += Shape::PatchColumns) {
        __syncwarp();
#pragma unroll
        for (int offset = 0; offset < Shape::PatchColumns; offset += 16) {
            const int i = (first + offset) / 2;
            store_matrices(matrixRow + offset * 2, pack_bfloat16(sum[i], sum[i + 1]),
                           pack_bfloat16(sum[i + 2], sum[i + 3]), pack_bfloat16(sum[i + 4], sum[i + 5]),
                           pack_bfloat16(sum[i + 6], sum[i + 7]));
        }
        __syncwarp();
        Piece pieces[rounds];
#pragma unroll
        for (int round = 0; round < rounds; ++round) {
            pieces[round].load(ownPiece + round * roundRows * Shape::PatchPitch);
        }
        const int ownColumn = column + first + lane % rowPieces * 8;
        if (ownColumn < arguments.columns) {
            uint16* target = static_cast<uint16*>(arguments.output) +
                             static_cast<int64>(row + ownRow) * arguments.columns + ownColumn;
#pragma unroll
            for (int round = 0; round < rounds; ++round) {
                if (row + ownRow + round * roundRows < rowEnd) {
                    pieces[round].store(target + static_cast<int64>(round * roundRows) * arguments.columns);
                }
            }
        }
    }
}

/// Sixteen rows, from <row>, of float32 [.., columns]: four lanes write a sector of 32 bytes.
KREWE_DEVICE void write_float32(const float (&sum)[Shape::TileColumns / 2], const Arguments& arguments, int row,
                                int rowEnd, int column) {
    const int lane = lane_index();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int ownRow = row + lane / 4 + half * 8;
        float* target = static_cast<float*>(arguments.output) + static_cast<int64>(ownRow) * arguments.columns;
#pragma unroll
        for (int group = 0; group < Shape::TileColumns / 8; ++group) {
            const int ownColumn = column + group * 8 + lane % 4 * 2;
            if (ownRow < rowEnd && ownColumn < arguments.columns) {
                const float first = sum[group * 4 + half * 2];
                const float second = sum[group * 4 + half * 2 + 1];
                if (Shape::output == Output::Float32Sum) {
                    add_pair(target + ownColumn, first, second);
                } else {
                    store_pair(target + ownColumn, first, second);
                }
            }
        }
    }
}

}  // namespace krewe
