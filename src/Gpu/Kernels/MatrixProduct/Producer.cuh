// The producer: one thread that has the copy engine bring the blocks of K, as many ahead as there are stages.
#pragma once

#include "MatrixProduct/Schedule.cuh"

namespace krewe {

/// Asks for <rows> rows of the tile's output that will be added to with each block of K, so that the additions at the
/// tile's end find them in the L2 cache.
KREWE_DEVICE void prefetch_output(const Tile& tile, int block, int rows) {
    const Arguments& arguments = tile.product->arguments;
    const int offset = (block - tile.firstBlock) * rows;
    const int row = tile.outputRow + offset;
    if (offset >= Shape::TileRows || row >= tile.outputEnd || tile.column >= arguments.columns) {
        return;
    }
    const int count = min_of(rows, tile.outputEnd - row);
    const int bytes = min_of(Shape::TileColumns, arguments.columns - tile.column) / 4 * 16;
    const float* line = static_cast<const float*>(arguments.output) +
                        static_cast<int64>(row) * arguments.pitch + tile.column;
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
        prefetch_line(line, bytes);
        line += arguments.pitch;
    }
}

/// Brings all blocks of K of all tiles of the schedule. Of A's rows each block of the cluster brings its share, to all.
KREWE_DEVICE void produce(const Fp8Products& products, SharedMemory memory) {
    constexpr int shareRows = Shape::TileRows / Shape::Cluster;
    const int rank = blockIdx.x % Shape::Cluster;
    Schedule schedule(products);
    StageCursor cursor;
    Tile tile;
    const Fp8Product* shown = products.listed ? nullptr : products.first;
    while (schedule.next(tile)) {
        const Fp8Product& product = *tile.product;
        if (Shape::kind == Kind::Separate && tile.product != shown) {
            shown = tile.product;
            acquire_tensor_map(&product.a);
            acquire_tensor_map(&product.b);
        }
        const bool adds = is_added(&product.arguments);
        // Of a weight gradient all rows, of however few blocks: the next tile's are asked for while this one's are
        // added.
        constexpr int leastRows = 8;
        const int blocks = max_of(1, tile.lastBlock - tile.firstBlock);
        const int addedRows =
            Shape::scalesB == ScalesB::Row ? max_of(leastRows, ceil_divide(Shape::TileRows, blocks)) : leastRows;
#pragma unroll 1
        for (int block = tile.firstBlock; block < tile.lastBlock; ++block) {
            const int stage = cursor.stage;
            const int k = block * Shape::Block;
            barrier_wait(memory.emptied(stage), cursor.parity ^ 1);
            const uint32 filled = memory.filled(stage);
            barrier_arrive_expect(filled, Shape::StageBytes);
            const uint32 share = memory.a(stage) + rank * shareRows * Shape::Block;
            const int shareRow = tile.rowA + rank * shareRows;
            if (Shape::Cluster == 1) {
                copy_box(share, &product.a, filled, k, shareRow);
            } else {
                copy_box_multicast(share, &product.a, filled, k, shareRow, (1 << Shape::Cluster) - 1);
            }
            copy_box(memory.b(stage), &product.b, filled, k, tile.rowB);
            if (adds) {
                prefetch_output(tile, block, addedRows);
            }
            cursor.advance();
        }
    }
}

}  // namespace krewe
