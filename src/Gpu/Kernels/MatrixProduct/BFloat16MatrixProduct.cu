// c[m, n] (+)= a b^T over k for a list of products, bfloat16 operands, float32 sums and results: the products of all
// experts of a layer in one launch, each with its own matrices, sizes and rows.
//
// Compiled with (beside what Shape.cuh lists; the kind is dense, scales there are none, the output is float32 or
// float32 added to what lies there):
//   KREWE_ACROSS_A, KREWE_ACROSS_B  0: a is [m, k] and b [n, k] in memory; 1: [k, m] and [k, n]
// so that the three products of a Linear are: forward 0, 0 (input, weight); gradient of the input 0, 1 (output
// gradient, weight); gradient of the weight 1, 1 (output gradient, input).
//
// Buffers. Rows of a, b and c a multiple of 16 bytes apart, from a multiple of 16 bytes on; any m, n and k.
//
// Launch. Grid: min(blocks that fit on the device at once, tiles of all products). 384 threads, with tiles of 64 rows
// 256. Shape::SharedBytes of dynamic shared memory: stages * ((tile rows + tile columns) * 128 + 16)
//   + warps * 24 * min(4 * tile columns, 128), warps = 8, with tiles of 64 rows 4.
// Parameters: ProductList (ProductList.cuh), Fault*. Each product has, in device memory behind a multiple of 128 bytes, as
// BuildTensorMaps.cu writes it:
//   tensor map of a   bfloat16, box [tile rows, 64] of [m, k], or [64, 64] of [k, m]; swizzle 128 bytes
//   tensor map of b   bfloat16, box [tile columns, 64] of [n, k], or [64, 64] of [k, n]; swizzle 128 bytes
//   tensor map of c   float32, box [8, 32], swizzle 128 bytes
//
// A persistent block walks tiles (ProductWalk). One warp has the copy engine fill a ring of stages, a block of 64 of k
// each; two warpgroups multiply; the copy engine brings the result away (Epilogue). A chain of sums runs over k from
// its beginning to its end, whatever the tile, and is added to c once: the same bits every time, and for a row
// whatever rows are beside it. Bytes moved: each operand about once from device memory, since bands of 2048 rows share
// the L2 cache; a result that is added to twice.
//
// Measured on an H100 (benchmarks/Gpu/results/bfloat16-matrix-product.txt), TFLOP/s, PyTorch's grouped product with
// bfloat16 results in brackets: 8 groups of 4096 rows, 2048 x 7168: forward 714 (764), to the input 664 (742), to the
// weight, added, 692 (760). 32 groups of 4096 rows, 128 x 256, which memory bounds: 2489, 2512 and 2478 GB/s.
#define KREWE_BFLOAT16 1
#ifndef KREWE_KIND
#define KREWE_KIND 0
#define KREWE_TILE_ROWS 256
#define KREWE_TILE_COLUMNS 128
#define KREWE_CLUSTER 1
#define KREWE_STAGES 4
#define KREWE_SCALES_B 0
#define KREWE_OUTPUT 1
#define KREWE_ACROSS_A 0
#define KREWE_ACROSS_B 1
#endif

#include "MatrixProduct/BFloat16Wgmma.cuh"
#include "MatrixProduct/Epilogue.cuh"
#include "MatrixProduct/ProductList.cuh"
#include "Tensors.cuh"

using namespace krewe;

constexpr bool AcrossA = KREWE_ACROSS_A, AcrossB = KREWE_ACROSS_B;
constexpr int BlockDepth = ProductWalk::BlockDepth;
using Sum = float[Shape::TileColumns / 2];

/// Brings <Rows> rows of an operand from <row> on for the block of K that begins at <k>.
template <bool Across, int Rows>
KREWE_DEVICE void copy_operand(uint32 target, const TensorMap* map, uint32 filled, int row, int k) {
    if (Across) {
#pragma unroll
        for (int i = 0; i < Rows / 64; ++i) {
            copy_box(target + i * BoxAcrossBytes, map, filled, row + i * 64, k);
        }
    } else {
        copy_box(target, map, filled, k, row);
    }
}

/// Brings all blocks of K of all tiles, one lane of the warp.
KREWE_DEVICE void produce(const ProductList& list, SharedMemory memory) {
    ProductWalk walk(list);
    StageCursor cursor;
    ProductTile tile;
    while (walk.next(tile)) {
        if (lane_index() == 0) {
            if (tile.entered) {
                acquire_tensor_map(&tile.product->a);
                acquire_tensor_map(&tile.product->b);
            }
#pragma unroll 1
            for (int block = 0; block < tile.blocks; ++block) {
                const int stage = cursor.stage;
                barrier_wait(memory.emptied(stage), cursor.parity ^ 1);
                const uint32 filled = memory.filled(stage);
                barrier_arrive_expect(filled, Shape::StageBytes);
                copy_operand<AcrossA, Shape::TileRows>(
                    memory.a(stage), &tile.product->a, filled, tile.row, block * BlockDepth);
                copy_operand<AcrossB, Shape::TileColumns>(
                    memory.b(stage), &tile.product->b, filled, tile.column, block * BlockDepth);
                cursor.advance();
            }
        }
        __syncwarp();
    }
}

/// Starts the products of a block of K, for each wave of 64 rows.
KREWE_DEVICE void start(Sum (&sums)[Shape::Waves], SharedMemory memory, int stage, int warpgroupRow, bool accumulate) {
    // From one step of 16 along K to the next: within a row of 128 bytes, or 16 rows further.
    constexpr int stepA = (AcrossA ? 16 * Shape::Block : Shape::Step) / 16;
    constexpr int stepB = (AcrossB ? 16 * Shape::Block : Shape::Step) / 16;
    // A box across K holds 64 rows of the operand in as many bytes as 64 rows along K take.
    static_assert(BoxAcrossBytes == 64 * Shape::Block, "rows of A are found alike");
    const uint64 b = AcrossB ? operand_descriptor_across(memory.b(stage)) : operand_descriptor(memory.b(stage));
#pragma unroll
    for (int wave = 0; wave < Shape::Waves; ++wave) {
        const uint32 rows = memory.a(stage) + (warpgroupRow + wave * 64) * Shape::Block;
        const uint64 a = AcrossA ? operand_descriptor_across(rows) : operand_descriptor(rows);
#pragma unroll
        for (int step = 0; step < Shape::Block / Shape::Step; ++step) {
            warpgroup_product_bfloat16<Shape::TileColumns, AcrossA, AcrossB>(
                sums[wave], a + step * stepA, b + step * stepB, accumulate || step > 0);
        }
    }
    warpgroup_commit();
}

KREWE_DEVICE void hold_all(Sum (&sums)[Shape::Waves]) {
#pragma unroll
    for (int wave = 0; wave < Shape::Waves; ++wave) {
        hold(sums[wave]);
    }
}

/// One warp of a consumer warpgroup: multiplies the blocks of K as they arrive, and writes the tiles.
KREWE_DEVICE void consume(const ProductList& list, SharedMemory memory, int warp) {
    const int warpgroupRow = warp / WarpgroupWarps * Shape::Waves * 64;
    const int warpRow = warp % WarpgroupWarps * 16;
    ProductWalk walk(list);
    StageCursor cursor;
    ProductTile tile;
    const auto release = [&](int stage) {
        if (lane_index() == 0) {
            barrier_arrive_at(memory.emptied(stage), 0);
        }
    };
    while (walk.next(tile)) {
        Sum sums[Shape::Waves];
        int before = 0;
        // A block's products run while the next block's are started.
#pragma unroll 1
        for (int block = 0; block < tile.blocks; ++block) {
            barrier_wait(memory.filled(cursor.stage), cursor.parity);
            hold_all(sums);
            warpgroup_fence();
            start(sums, memory, cursor.stage, warpgroupRow, block > 0);
            if (block > 0) {
                warpgroup_wait<1>();
                release(before);
            }
            before = cursor.stage;
            cursor.advance();
        }
        warpgroup_wait<0>();
        hold_all(sums);
        release(before);
        if (tile.entered && lane_index() == 0) {
            acquire_tensor_map(&tile.product->c);
        }
        __syncwarp();
        Epilogue(&tile.product->c, memory.patches(warp))
            .write(sums, tile.row + warpgroupRow + warpRow, tile.product->m, tile.column);
    }
    store_await_writes();
}

extern "C" __global__ void __launch_bounds__(Shape::Threads, 1)
    bfloat16_matrix_product(const __grid_constant__ ProductList list, const Fault* fault) {
    alignas(1024) extern __shared__ uint8 shared[];
    if (is_set(fault)) {
        return;
    }
    const SharedMemory memory{shared_address(shared)};
    const int warp = warp_index();
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < Shape::Stages; ++stage) {
            barrier_init(memory.filled(stage), 1);
            barrier_init(memory.emptied(stage), Shape::Consumers * WarpgroupWarps);
        }
        barrier_init_fence();
    }
    __syncthreads();

    if (warp >= Shape::Consumers * WarpgroupWarps) {
        if (Shape::Consumers == 2) {
            registers_decrease<Shape::ProducerRegisters>();
        }
        if (warp == Shape::Consumers * WarpgroupWarps) {
            produce(list, memory);
        }
    } else {
        if (Shape::Consumers == 2) {
            registers_increase<Shape::ConsumerRegisters>();
        }
        consume(list, memory, warp);
    }
}
