// Writes a warp's part of a finished tile: 8 rows at a time go to shared memory, and from there the copy engine brings
// or adds them to the output while the next tile is computed. Where a group ends within the 8 rows, ordinary stores
// write those that belong to it.
#pragma once

#include "MatrixProduct/Shape.cuh"

namespace krewe {

/// Stores four 8 x 8 matrices of 16 bits; lane l names the address of row l % 8 of matrix l / 8.
KREWE_DEVICE void store_matrices(uint32 address, uint32 m0, uint32 m1, uint32 m2, uint32 m3) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(m0), "r"(m1),
                 "r"(m2), "r"(m3)
                 : "memory");
}

KREWE_DEVICE void store_shared_pair(uint32 address, float first, float second) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(address), "f"(first), "f"(second) : "memory");
}

/// Copies 16 bytes from shared to global memory.
KREWE_DEVICE void copy_piece(void* target, uint32 source) {
    asm volatile("{ .reg .b32 x, y, z, w; ld.shared.v4.b32 {x, y, z, w}, [%1];"
                 " st.global.v4.b32 [%0], {x, y, z, w}; }" ::"l"(target),
                 "r"(source)
                 : "memory");
}

/// Writes the tiles of one warp.
class Epilogue {
public:
    KREWE_DEVICE Epilogue(const Arguments& arguments, const TensorMap* output, uint32 memory)
        : arguments(&arguments), output(output), memory(memory), lane(lane_index()) {}

    /// Turns to another product, whose output map lies in device memory.
    KREWE_DEVICE void turn_to(const Arguments& next, const TensorMap* nextOutput) {
        arguments = &next;
        output = nextOutput;
        if (lane == 0) {
            acquire_tensor_map(output);
        }
    }

    /// Of a product whose tensor map ends where the output ends.
    KREWE_DEVICE Epilogue(const TensorMap* output, uint32 memory)
        : arguments(nullptr), output(output), memory(memory), lane(lane_index()) {}

    /// Writes the warp's 16 rows of each wave, from <row> and each 64 further on, patch after patch; rows before
    /// <rowEnd> belong to the tile's group. The recursion keeps all indices of the sums constant.
    template <int Turn = 0>
    KREWE_DEVICE void write(const float (&sums)[Shape::Waves][Shape::TileColumns / 2], int row, int rowEnd,
                            int column) const {
        constexpr int wavePatches = 2 * Shape::TileColumns / Shape::PatchColumns;
        constexpr int wave = Turn / wavePatches;
        constexpr int half = Turn % 2;
        constexpr int first = Turn % wavePatches / 2 * Shape::PatchColumns;
        const uint32 patch = memory + Turn % Shape::PatchBuffers * Shape::PatchBytes;
        if (lane == 0) {
            store_await_reads<(Turn == 0 ? 0 : Shape::PatchBuffers - 1)>();
        }
        __syncwarp();
        fill<first, half>(sums[wave], patch);
        emit(patch, row + wave * 64 + half * Shape::PatchRows, rowEnd, column + first);
        if constexpr (Turn + 1 < Shape::Waves * wavePatches) {
            write<Turn + 1>(sums, row, rowEnd, column);
        }
    }

    /// Waits until everything is written.
    KREWE_DEVICE void complete() const {
        if (lane == 0) {
            store_await_writes();
        }
    }

private:
    /// Address of a piece of 16 bytes in the swizzle that the output's tensor map has.
    static KREWE_DEVICE uint32 piece_address(uint32 patch, int row, int piece) {
        const int turn = row * Shape::PatchPitch / 128 % (Shape::PatchPitch / 16);
        return patch + row * Shape::PatchPitch + (piece ^ turn) * 16;
    }

    /// Lays eight rows, the upper or lower half of a wave's 16, from column <First> on into the patch.
    template <int First, int Half>
    KREWE_DEVICE void fill(const float (&sum)[Shape::TileColumns / 2], uint32 patch) const {
        if (Shape::output == Output::BFloat16) {
#pragma unroll
            for (int offset = 0; offset < Shape::PatchColumns; offset += 32) {
                const int i = (First + offset) / 2 + Half * 2;
                store_matrices(piece_address(patch, lane % 8, offset / 8 + lane / 8),
                               pack_bfloat16(sum[i], sum[i + 1]), pack_bfloat16(sum[i + 4], sum[i + 5]),
                               pack_bfloat16(sum[i + 8], sum[i + 9]), pack_bfloat16(sum[i + 12], sum[i + 13]));
            }
        } else {
#pragma unroll
            for (int offset = 0; offset < Shape::PatchColumns; offset += 8) {
                const int i = (First + offset) / 2 + Half * 2;
                const uint32 piece = piece_address(patch, lane / 4, offset / 4 + lane % 4 / 2);
                store_shared_pair(piece + lane % 2 * 8, sum[i], sum[i + 1]);
            }
        }
    }

    /// Sends a patch off. The tensor map of a dense or separate product ends it where the output ends; the rows of a
    /// gradient are a multiple of the patch's.
    KREWE_DEVICE void emit(uint32 patch, int row, int rowEnd, int column) const {
        constexpr bool ragged = Shape::kind == Kind::GroupedRows || Shape::kind == Kind::MaskedRows;
        constexpr bool ends = Shape::kind == Kind::Dense || Shape::kind == Kind::Separate;
        copy_fence();
        __syncwarp();
        if (ragged && row + Shape::PatchRows > rowEnd) {
            write_pieces(patch, row, rowEnd, column);
        } else if (lane == 0 && (ends || row < rowEnd)) {
            if (is_added(arguments)) {
                add_box(output, patch, column, row);
            } else {
                store_box(output, patch, column, row);
            }
        }
        if (lane == 0) {
            store_commit();
        }
    }

    /// Writes a patch's rows before <rowEnd>.
    KREWE_DEVICE void write_pieces(uint32 patch, int row, int rowEnd, int column) const {
        constexpr int rowPieces = Shape::PatchPitch / 16;
        constexpr int pieceColumns = 16 / Shape::OutputBytes;
#pragma unroll 1
        for (int i = lane; i < Shape::PatchRows * rowPieces; i += WarpThreads) {
            const int ownRow = i / rowPieces;
            const int ownColumn = column + i % rowPieces * pieceColumns;
            if (row + ownRow < rowEnd && ownColumn < arguments->columns) {
                const int64 index = static_cast<int64>(row + ownRow) * arguments->pitch + ownColumn;
                uint8* target = static_cast<uint8*>(arguments->output) + index * Shape::OutputBytes;
                copy_piece(target, piece_address(patch, ownRow, i % rowPieces));
            }
        }
    }

    const Arguments* arguments;
    const TensorMap* output;
    uint32 memory;
    int lane;
};

}  // namespace krewe
