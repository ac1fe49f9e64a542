// What is fixed when a variant of a matrix product is compiled, and where things lie in its shared memory.
//
// Defined by whoever compiles (NVRTC's --define-macro); what is not defined makes the dense variant for many rows:
//   KREWE_KIND          0 dense, 1 rows in groups, 2 masked groups, 3 depth in groups, 4 separate products (see
//                       Fp8MatrixProduct.cu)
//   KREWE_BFLOAT16      0 FP8 operands with scales, 1 bfloat16 operands without; set by BFloat16MatrixProduct.cu itself
//   KREWE_TILE_ROWS     64, 128 or 256 rows of C a block computes at a time
//   KREWE_TILE_COLUMNS  32, 64 or 128 columns of C
//   KREWE_CLUSTER       1, 2 or 4 blocks side by side along the columns that share their rows of A
//   KREWE_STAGES        blocks of K in flight
//   KREWE_SCALES_B      0 one scale per 128 x 128 tile of B, 1 one per row of B and 128 of K
//   KREWE_OUTPUT        0 bfloat16, 1 float32, 2 float32 added to what lies there
#pragma once

#include "Prelude.cuh"

#ifndef KREWE_BFLOAT16
#define KREWE_BFLOAT16 0
#endif
#ifndef KREWE_KIND
#define KREWE_KIND 0
#define KREWE_TILE_ROWS 256
#define KREWE_TILE_COLUMNS 128
#define KREWE_CLUSTER 2
#define KREWE_STAGES 4
#define KREWE_SCALES_B 0
#define KREWE_OUTPUT 0
#endif

namespace krewe {

enum class Kind { Dense, GroupedRows, MaskedRows, GroupedDepth, Separate };
enum class ScalesB { Tile, Row };
enum class Output { BFloat16, Float32, Float32Sum };

struct Shape {
    static constexpr Kind kind = static_cast<Kind>(KREWE_KIND);
    static constexpr ScalesB scalesB = static_cast<ScalesB>(KREWE_SCALES_B);
    static constexpr Output output = static_cast<Output>(KREWE_OUTPUT);
    static constexpr int TileRows = KREWE_TILE_ROWS;
    static constexpr int TileColumns = KREWE_TILE_COLUMNS;
    static constexpr int Cluster = KREWE_CLUSTER;
    static constexpr int Stages = KREWE_STAGES;

    /// Bytes of a row in shared memory; FP8 has an element a byte, so also the elements of K that share a scale.
    static constexpr int Block = 128;
    /// Bytes of a row that one wgmma takes.
    static constexpr int Step = 32;
    static constexpr bool scaled = !KREWE_BFLOAT16;
    static constexpr int Consumers = TileRows >= 128 ? 2 : 1;
    /// Products of 64 rows that a consumer warpgroup computes one after the other.
    static constexpr int Waves = TileRows / (64 * Consumers);
    static constexpr int Threads = (Consumers + 1) * WarpgroupThreads;
    static constexpr int ConsumerRegisters = 224;
    static constexpr int ProducerRegisters = 56;

    static constexpr int BytesA = TileRows * Block;
    static constexpr int BytesB = TileColumns * Block;
    static constexpr int BytesScalesA = scaled ? TileRows * 4 : 0;
    static constexpr int BytesScalesB = scaled && scalesB == ScalesB::Row ? TileColumns * 4 : 0;
    /// Scales come in parts, each by warps of its own: rows of A, and rows of B where those have scales.
    static constexpr int ScaleRows = TileRows < 128 ? TileRows : 128;
    static constexpr int ScalePartsA = TileRows / ScaleRows;
    static constexpr int ScaleParts = ScalePartsA + (scalesB == ScalesB::Row ? 1 : 0);
    /// Warps of a part that take turns at four blocks: of the three beside the copy engine's, as many as come back to a
    /// stage before its barrier has gone two phases on, which its parity would not tell.
    static constexpr int ScaleTurns = min_of(3 / ScaleParts, (Stages - 1) / 4 + 1);
    /// What the copy engine brings of a block of K.
    static constexpr int StageBytes = BytesA + BytesB;

    /// A warp hands 8 rows at a time, 128 bytes wide or a narrower tile's width, to the copy engine.
    static constexpr int OutputBytes = output == Output::BFloat16 ? 2 : 4;
    static constexpr int PatchRows = 8;
    static constexpr int PatchColumns = TileColumns * OutputBytes < 128 ? TileColumns : 128 / OutputBytes;
    static constexpr int PatchPitch = PatchColumns * OutputBytes;
    static constexpr int PatchBytes = PatchRows * PatchPitch;
    /// Patches of a warp that may be on their way at a time.
    static constexpr int PatchBuffers = 3;

    /// A block's scales of B are read after its stage was given back, so they have one place more.
    static constexpr int ScalePlaces = Stages + 1;

    static constexpr int OffsetB = Stages * BytesA;
    static constexpr int OffsetPatches = OffsetB + Stages * BytesB;
    static constexpr int OffsetScalesA = OffsetPatches + Consumers * WarpgroupWarps * PatchBuffers * PatchBytes;
    static constexpr int OffsetScalesB = OffsetScalesA + Stages * BytesScalesA;
    static constexpr int OffsetBarriers = OffsetScalesB + ScalePlaces * BytesScalesB;
    static constexpr int SharedBytes = OffsetBarriers + 2 * Stages * 8;

    /// Rows of tiles walked together before the next columns, so that what they read stays in the L2 cache.
    static constexpr int BandTiles = 2048 / TileRows;

    static_assert(TileRows == 64 || TileRows == 128 || TileRows == 256);
    static_assert(TileColumns == 32 || TileColumns == 64 || TileColumns == 128);
    static_assert(output != Output::Float32Sum || kind == Kind::Dense || kind == Kind::GroupedDepth);
    static_assert(BytesA / Cluster % 1024 == 0, "each block brings whole groups of eight rows");
    static_assert(SharedBytes <= 232448, "what a block may have");
};

/// What a product needs beside the tensor maps.
struct Arguments {
    /// float32 [rows of A, ceil(depth / 128)], rows <pitchScalesA> apart.
    const float* scalesA;
    /// float32 [groups, ceil(columns / 128), ceil(depth / 128)]; with one per row of B [rows of B, ceil(depth / 128)],
    /// rows <pitchScalesB> apart.
    const float* scalesB;
    /// bfloat16 or float32 [rows, columns] of the kind.
    void* output;
    /// int32 on the device: bounds [groups + 1] or, masked, counts [groups]; unused if dense.
    const int* groups;
    int groupCount;
    /// Rows of A; with masked groups, of one group.
    int rows;
    int columns;
    int depth;
    /// Elements from one row of the output to the next, and of the scales.
    int pitch;
    int pitchScalesA;
    int pitchScalesB;
    /// Separate products: added to the output instead of overwriting it.
    int accumulate;
    /// Separate products: first row of A, and the blocks of K.
    int firstRow;
    int firstBlock;
    int lastBlock;
    /// Separate products: begin and end on the device of the rows of A and the output that are the product's own, or of
    /// its part of K; or null. PlaceFp8Products.cu reads them.
    const int* range;
    const int* depthRange;
};

/// Whether a product is added to what lies in its output.
KREWE_DEVICE bool is_added(const Arguments* arguments) {
    return Shape::kind == Kind::Separate ? arguments->accumulate != 0 : Shape::output == Output::Float32Sum;
}

/// The stage in turn, the parity of its barriers, and the place of its scales of B.
struct StageCursor {
    int stage = 0;
    uint32 parity = 0;
    int scalePlace = 0;

    KREWE_DEVICE void advance() {
        if (++stage == Shape::Stages) {
            stage = 0;
            parity ^= 1;
        }
        scalePlace = scalePlace + 1 == Shape::ScalePlaces ? 0 : scalePlace + 1;
    }
};

/// Addresses within the block's shared memory.
struct SharedMemory {
    uint32 base;

    KREWE_DEVICE uint32 a(int stage) const { return base + stage * Shape::BytesA; }
    KREWE_DEVICE uint32 b(int stage) const { return base + Shape::OffsetB + stage * Shape::BytesB; }
    KREWE_DEVICE uint32 scales_a(int stage) const { return base + Shape::OffsetScalesA + stage * Shape::BytesScalesA; }
    KREWE_DEVICE uint32 scales_b(int place) const { return base + Shape::OffsetScalesB + place * Shape::BytesScalesB; }
    KREWE_DEVICE uint32 patches(int warp) const {
        return base + Shape::OffsetPatches + warp * Shape::PatchBuffers * Shape::PatchBytes;
    }
    KREWE_DEVICE uint32 filled(int stage) const { return base + Shape::OffsetBarriers + stage * 8; }
    KREWE_DEVICE uint32 emptied(int stage) const { return filled(stage) + Shape::Stages * 8; }
};

}  // namespace krewe
