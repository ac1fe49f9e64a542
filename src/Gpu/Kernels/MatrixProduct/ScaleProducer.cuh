// The warps that bring the scales of the operands' rows, which lie as quantisation wrote them, [rows, blocks of K].
// The copy engine could not turn them. So they come through registers, four blocks of K at a time: an access of the
// L1 cache for each row and block, as many as a tile has rows, is what the tensor cores' own reads of that memory wait
// for.

#include "MatrixProduct/Schedule.cuh"

namespace krewe {

/// Scales of <Rows> rows and four blocks of K; a lane has every 32nd row.
template <int Rows> class FourBlocks {
public:
    static constexpr int Blocks = 4;

    /// Asks for those from <block> on, a multiple of four, before <blockEnd>; rows from <rowEnd> on get those of the
    /// row before it. Four of a row are read at once where they lie at multiples of 16 bytes.
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

/// Brings scales of blocks of K of all tiles: of <Rows> rows of A from <firstRow> on, times those of B where these are
/// the same for all columns of a tile, or <OfB> of its rows of B. Warps take turns at the fours; the own comes after
/// <turn> others. So while one waits for memory the others have asked for theirs; the compiler has a warp wait for all
/// of its loads at once.
template <int Rows, bool OfB>
KREWE_DEVICE void produce_scales(const Fp8Products& products, SharedMemory memory, int firstRow, int turn) {
    constexpr bool timesB = !OfB && Shape::scalesB == ScalesB::Tile;
    constexpr int blocks = FourBlocks<Rows>::Blocks;
    Schedule schedule(products);
    StageCursor cursor;
    Tile tile;
    while (schedule.next(tile)) {
        if (tile.firstBlock >= tile.lastBlock) {
            continue;
        }
        const Arguments& arguments = tile.product->arguments;
        const int pitch = OfB ? arguments.pitchScalesB : arguments.pitchScalesA;
        const float* own = (OfB ? arguments.scalesB : arguments.scalesA) +
                           static_cast<int64>((OfB ? tile.rowB : tile.rowA) + firstRow) * pitch;
        const int rowEnd = (OfB ? arguments.columns - tile.column : tile.outputEnd - tile.outputRow) - firstRow;
        const float* scalesB = timesB ? tile_scales(tile) : nullptr;
#pragma unroll 1
        for (int four = tile.firstBlock / blocks * blocks; four < tile.lastBlock; four += blocks) {
            const bool owns = turn == 0;
            turn = owns ? Shape::ScaleTurns - 1 : turn - 1;
            FourBlocks<Rows> scales;
            float factors = 1.0f;
            if (owns) {
                scales.load(own, pitch, rowEnd, four, tile.lastBlock);
                if (timesB) {
                    factors = load_constant(scalesB + min_of(four + lane_index() % blocks, tile.lastBlock - 1));
                }
            }
#pragma unroll
            for (int i = 0; i < blocks; ++i) {
                if (four + i < tile.firstBlock || four + i >= tile.lastBlock) {
                    continue;
                }
                if (owns) {
                    const float factor = timesB ? __shfl_sync(0xffffffffu, factors, i) : 1.0f;
                    barrier_wait(memory.emptied(cursor.stage), cursor.parity ^ 1);
                    scales.store(
                        (OfB ? memory.scales_b(cursor.scalePlace) : memory.scales_a(cursor.stage)) + firstRow * 4, i,
                        factor);
                    __syncwarp();
                    if (lane_index() == 0) {
                        barrier_arrive(memory.filled(cursor.stage));
                    }
                }
                cursor.advance();
            }
        }
    }
}

/// The part of warp <warp> of those that bring scales.
KREWE_DEVICE void produce_scales(const Fp8Products& products, SharedMemory memory, int warp) {
    const int part = warp / Shape::ScaleTurns, turn = warp % Shape::ScaleTurns;
    if (part < Shape::ScalePartsA) {
        produce_scales<Shape::ScaleRows, false>(products, memory, part * Shape::ScaleRows, turn);
    } else if (part < Shape::ScaleParts) {
        produce_scales<Shape::TileColumns, true>(products, memory, 0, turn);
    }
}

}  // namespace krewe
