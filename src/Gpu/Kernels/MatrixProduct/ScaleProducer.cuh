// The warps that bring the scales of the operands' rows, which lie as quantisation wrote them, [rows, blocks of K], four
// blocks of K at a time through registers: the copy engine could not turn them, and one block at a time costs as many
// accesses of the L1 cache as a tile has rows, beside the tensor cores' own of the same memory.
#pragma once

#include "MatrixProduct/Schedule.cuh"

namespace krewe {

/// Scales of <Rows> rows and four blocks of K; a lane has every 32nd row.
template <int Rows> class FourBlocks {
public:
    static constexpr int Blocks = 4;

    /// Asks for those from <block> on, a multiple of four, before <blockEnd>; rows from <rowEnd> on get those of the row
    /// before it. Four of a row are read at once where they lie at multiples of 16 bytes.
    KREWE_DEVICE void load(const float* scales, int pitch, int rowEnd, int block, int blockEnd) {
        const bool aligned = (pitch % Blocks | static_cast<int>(reinterpret_cast<uint64>(scales) % 16)) == 0;
#pragma unroll
        for (int i = 0; i < Own; ++i) {
            const int row = min_of(lane_index() + i * WarpThreads, rowEnd - 1);
            const float* four = scales + (row * pitch + block);
            if (aligned) {
                load_constant_four(four, values[i]);
            } else {
#pragma unroll
                for (int j = 0; j < Blocks; ++j) {
                    values[i][j] = block + j < blockEnd ? load_constant(four + j) : 0.0f;
                }
            }
        }
    }

    /// Lays those of one block side by side, each times <factor>.
    KREWE_DEVICE void store(uint32 target, int block, float factor) const {
#pragma unroll
        for (int i = 0; i < Own; ++i) {
            store_shared(target + (lane_index() + i * WarpThreads) * 4, values[i][block] * factor);
        }
    }

private:
    static constexpr int Own = Rows / WarpThreads;
    float values[Own][Blocks];
};

/// Scales of a tile's columns of B, one per block of K.
KREWE_DEVICE const float* tile_scales(const Tile& tile) {
    const Arguments& arguments = tile.product->arguments;
    const int blocksN = ceil_divide(arguments.columns, Shape::Block);
    const int blocksK = ceil_divide(arguments.depth, Shape::Block);
    const int group = Shape::kind == Kind::Dense || Shape::kind == Kind::Separate ? 0 : tile.group;
    const int blockN = min_of(tile.column / Shape::Block, blocksN - 1);
    return arguments.scalesB + (static_cast<int64>(group) * blocksN + blockN) * blocksK;
}

/// Brings scales of all blocks of K of all tiles: of <Rows> rows of A from <firstRow> on, times those of B where these
/// are the same for all columns of a tile, or <OfB> of its rows of B. Fours that follow are asked for meanwhile.
template <int Rows, bool OfB>
KREWE_DEVICE void produce_scales(const Fp8Products& products, SharedMemory memory, int firstRow) {
    constexpr bool timesB = !OfB && Shape::scalesB == ScalesB::Tile;
    constexpr int fours = Shape::ScaleFours;
    constexpr int blocks = FourBlocks<Rows>::Blocks;
    Schedule schedule(products);
    StageCursor cursor;
    Tile tile;
    while (schedule.next(tile)) {
        const Arguments& arguments = tile.product->arguments;
        const int pitch = OfB ? arguments.pitchScalesB : arguments.pitchScalesA;
        const float* own = (OfB ? arguments.scalesB : arguments.scalesA) +
                           static_cast<int64>((OfB ? tile.rowB : tile.rowA) + firstRow) * pitch;
        const int rowEnd = (OfB ? arguments.columns - tile.column : tile.outputEnd - tile.outputRow) - firstRow;
        const float* scalesB = timesB ? tile_scales(tile) : nullptr;
        FourBlocks<Rows> scales[fours];
        float factors[fours];
        const auto ask = [&](int four, int block) {
            if (block < tile.lastBlock) {
                scales[four].load(own, pitch, rowEnd, block, tile.lastBlock);
                if (timesB) {
                    factors[four] =
                        load_constant(scalesB + min_of(block + lane_index() % blocks, tile.lastBlock - 1));
                }
            }
        };
        const auto bring = [&](int four, int i) {
            const float factor = timesB ? __shfl_sync(0xffffffffu, factors[four], i) : 1.0f;
            barrier_wait(memory.emptied(cursor.stage), cursor.parity ^ 1);
            scales[four].store(
                (OfB ? memory.scales_b(cursor.scalePlace) : memory.scales_a(cursor.stage)) + firstRow * 4, i, factor);
            __syncwarp();
            if (lane_index() == 0) {
                barrier_arrive(memory.filled(cursor.stage));
            }
            cursor.advance();
        };
        const int first = tile.firstBlock / blocks * blocks;
#pragma unroll
        for (int four = 0; four < fours; ++four) {
            ask(four, first + four * blocks);
        }
#pragma unroll 1
        for (int turn = first; turn < tile.lastBlock; turn += fours * blocks) {
#pragma unroll
            for (int four = 0; four < fours; ++four) {
                const int block = turn + four * blocks;
#pragma unroll
                for (int i = 0; i < blocks; ++i) {
                    if (block + i >= tile.firstBlock && block + i < tile.lastBlock) {
                        bring(four, i);
                    }
                }
                ask(four, block + fours * blocks);
            }
        }
    }
}

/// The part of warp <warp> of those that bring scales.
KREWE_DEVICE void produce_scales(const Fp8Products& products, SharedMemory memory, int warp) {
    if (warp < Shape::ScaleWarpsA) {
        produce_scales<Shape::ScaleRows, false>(products, memory, warp * Shape::ScaleRows);
    } else if (warp < Shape::ScaleWarps) {
        produce_scales<Shape::TileColumns, true>(products, memory, 0);
    }
}

}  // namespace krewe
