// What is fixed when the attention kernels of one head size are compiled, and what their launches have in common.
//
// Defined by whoever compiles (NVRTC's --define-macro), multiples of 16; what is not defined makes DeepSeek-V3's heads:
//   KREWE_NOPE   elements of a query and key without position
//   KREWE_ROPE   elements that carry the position; of keys, shared by all heads
//   KREWE_VALUE  elements of a value
//
// In shared memory a matrix lies as chunks of 64 columns, its rows 128 bytes, in the copy engine's 128-byte swizzle:
// what the tensor cores read. A part (nope, rope, value) that is no multiple of 64 wide brings columns of its neighbour
// along: products leave them out where they sum over columns, and elsewhere nobody stores them.
#pragma once

#include "Prelude.cuh"
#include "Tensors.cuh"

#ifndef KREWE_NOPE
#define KREWE_NOPE 128
#define KREWE_ROPE 64
#define KREWE_VALUE 128
#endif

namespace krewe {

constexpr int ChunkColumns = 64;
/// Rows of a box that the copy engine brings, and of a warpgroup's product.
constexpr int BoxRows = 64;
constexpr int BoxBytes = BoxRows * ChunkColumns * 2;
/// Depth of one product of the tensor cores, in elements.
constexpr int StepElements = 16;

/// Steps of 16 that chunk <chunk> of a part <width> wide has.
KREWE_DEVICE constexpr int part_steps(int width, int chunk) {
    return min_of(width - chunk * ChunkColumns, ChunkColumns) / StepElements;
}

/// Columns of queries and keys: the part without position, then the rotated one.
struct KeyWidth {
    static constexpr int Nope = KREWE_NOPE;
    static constexpr int Rope = KREWE_ROPE;
    static constexpr int Columns = Nope + Rope;
    static constexpr int NopeChunks = ceil_divide(Nope, ChunkColumns);
    static constexpr int Chunks = NopeChunks + ceil_divide(Rope, ChunkColumns);

    static KREWE_DEVICE constexpr int steps(int chunk) {
        return chunk < NopeChunks ? part_steps(Nope, chunk) : part_steps(Rope, chunk - NopeChunks);
    }
};

/// Columns of values, outputs and their gradients.
struct ValueWidth {
    static constexpr int Columns = KREWE_VALUE;
    static constexpr int Chunks = ceil_divide(Columns, ChunkColumns);

    static KREWE_DEVICE constexpr int steps(int chunk) { return part_steps(Columns, chunk); }
};

/// Columns of a head's keys and values side by side.
constexpr int KeyValueColumns = KeyWidth::Nope + ValueWidth::Columns;

static_assert(KREWE_NOPE % StepElements == 0 && KREWE_ROPE % StepElements == 0 && KREWE_VALUE % StepElements == 0);
static_assert(KeyWidth::Chunks <= 3 && ValueWidth::Chunks <= 2, "what fits into registers and shared memory");

/// Two warpgroups multiply, 64 rows of a block's tile each; one loads.
constexpr int Consumers = 2;
constexpr int ConsumerWarps = Consumers * WarpgroupWarps;
constexpr int TileRows = Consumers * BoxRows;
constexpr int Threads = (Consumers + 1) * WarpgroupThreads;
constexpr int ConsumerRegisters = 240;
constexpr int ProducerRegisters = 24;
constexpr float Log2E = 1.44269504088896340736f;

/// Bytes of a matrix of <Rows> rows.
template <class Width, int Rows> constexpr int PanelBytes = Width::Chunks * Rows / BoxRows * BoxBytes;

/// Bytes from chunk to chunk of a matrix with a tile's rows.
constexpr int TileChunkBytes = Consumers * BoxBytes;

/// Rows [first, end) of one tile within the sequence [start, stop); mirrors TokenTile.
struct TokenTile {
    int start, stop, first, end;
};

/// What every launch has beside its tensor maps; mirrors FlashArguments in C#.
struct Arguments {
    /// Tiles of 128 tokens, those with the most work first. The grid has a block for each tile and head.
    const TokenTile* tiles;
    int heads;
    int tokens;
    /// Softmax scale, positive.
    float scale;
};

/// What the gradients need of each token and head: float32 [T, heads, 4], the log-sum-exp in powers of two, delta =
/// dO . output, and two zeros, since the copy engine reads 16 bytes at a time.
struct alignas(16) Statistics {
    float shift, mean, unused[2];
};

constexpr int StatisticsColumns = sizeof(Statistics) / 4;

/// The tile and head of a block: tile by tile, so that all heads' longest come first.
struct Work {
    TokenTile tile;
    int head;

    KREWE_DEVICE explicit Work(const Arguments& arguments)
        : tile(arguments.tiles[blockIdx.x / arguments.heads]), head(blockIdx.x % arguments.heads) {}
};

/// The stage of a ring in turn, and the parity of its barriers.
template <int Stages> struct RingCursor {
    int stage = 0;
    uint32 parity = 0;

    KREWE_DEVICE void advance() {
        if (++stage == Stages) {
            stage = 0;
            parity ^= 1;
        }
    }
};

}  // namespace krewe
