// The producer: one thread that has the copy engine bring the blocks of K, as many ahead as there are stages.
#pragma once

#include "MatrixProduct/Schedule.cuh"

namespace krewe {

/// Tensor maps of the operands and their scales, see Fp8MatrixProduct.cu.
struct Maps {
    const TensorMap* a;
    const TensorMap* b;
    const TensorMap* scalesA;
    const TensorMap* scalesB;
};

/// Asks for eight rows of the tile's output that will be added to with each block of K, so that the additions at the
/// tile's end find them in the L2 cache.
KREWE_DEVICE void prefetch_output(const Arguments& arguments, const Tile& tile, int block) {
    constexpr int rows = 8;
    const int offset = (block - tile.firstBlock) * rows;
    const int row = tile.outputRow + offset;
    if (offset >= Shape::TileRows || row >= tile.outputEnd || tile.column >= arguments.columns) {
        return;
    }
    const int bytes = min_of(Shape::TileColumns, arguments.columns - tile.column) * 4;
    const float* line = static_cast<const float*>(arguments.output) +
                        static_cast<int64>(row) * arguments.columns + tile.column;
#pragma unroll 1
    for (int i = 0; i < rows; ++i) {
        prefetch_line(line, bytes);
        line += arguments.columns;
    }
}

/// Brings all blocks of K of all tiles of the schedule. Of A's rows each block of the cluster brings its share, to all.
KREWE_DEVICE void produce(const Arguments& arguments, const Maps& maps, SharedMemory memory) {
    constexpr int shareRows = Shape::TileRows / Shape::Cluster;
    const int rank = blockIdx.x % Shape::Cluster;
    Schedule schedule(arguments);
    StageCursor cursor;
    Tile tile;
    while (schedule.next(tile)) {
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
                copy_box(share, maps.a, filled, k, shareRow);
            } else {
                copy_box_multicast(share, maps.a, filled, k, shareRow, (1 << Shape::Cluster) - 1);
            }
            copy_box(memory.b(stage), maps.b, filled, k, tile.rowB);
            copy_box(memory.scales_a(stage), maps.scalesA, filled, tile.rowA, block);
            if (Shape::scalesB == ScalesB::Row) {
                copy_box(memory.scales_b(cursor.scalePlace), maps.scalesB, filled, tile.rowB, block);
            }
            if (Shape::output == Output::Float32Sum) {
                prefetch_output(arguments, tile, block);
            }
            cursor.advance();
        }
    }
}

}  // namespace krewe
