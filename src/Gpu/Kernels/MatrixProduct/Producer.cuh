// The producers: one thread that has the copy engine bring the blocks of K, as many ahead as there are stages, and a warp
// that brings their scales, which lie as quantisation wrote them.
#pragma once

#include "MatrixProduct/Schedule.cuh"

namespace krewe {

/// Asks for eight rows of the tile's output that will be added to with each block of K, so that the additions at the
/// tile's end find them in the L2 cache.
KREWE_DEVICE void prefetch_output(const Tile& tile, int block) {
    constexpr int rows = 8;
    const Arguments& arguments = tile.product->arguments;
    const int offset = (block - tile.firstBlock) * rows;
    const int row = tile.outputRow + offset;
    if (offset >= Shape::TileRows || row >= tile.outputEnd || tile.column >= arguments.columns) {
        return;
    }
    const int bytes = min_of(Shape::TileColumns, arguments.columns - tile.column) / 4 * 16;
    const float* line = static_cast<const float*>(arguments.output) +
                        static_cast<int64>(row) * arguments.pitch + tile.column;
#pragma unroll 1
    for (int i = 0; i < rows; ++i) {
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
                prefetch_output(tile, block);
            }
            cursor.advance();
        }
    }
}

/// Where the scales of <Count> rows lie, each lane with every 32nd of them: of rows that are not there -1.
template <int Count>
struct ScaleRows {
    static constexpr int Own = Count / WarpThreads;
    int offsets[Own];

    KREWE_DEVICE ScaleRows(int first, int present, int pitch, const int* names) {
#pragma unroll
        for (int i = 0; i < Own; ++i) {
            const int row = lane_index() + i * WarpThreads;
            offsets[i] = row < present ? (names ? names[first + row] : first + row) * pitch : -1;
        }
    }

    KREWE_DEVICE void copy(uint32 target, const float* scales) const {
#pragma unroll
        for (int i = 0; i < Own; ++i) {
            const bool present = offsets[i] >= 0;
            copy_word(target + (lane_index() + i * WarpThreads) * 4, scales + (present ? offsets[i] : 0), present);
        }
    }
};

/// Brings the scales of all blocks of K of all tiles, a warp: of A by row, and of B where it has one for each row.
KREWE_DEVICE void produce_scales(const Fp8Products& products, SharedMemory memory) {
    constexpr bool byRow = Shape::scalesB == ScalesB::Row;
    Schedule schedule(products);
    StageCursor cursor;
    Tile tile;
    while (schedule.next(tile)) {
        const Arguments& arguments = tile.product->arguments;
        const ScaleRows<Shape::TileRows> rowsA(
            tile.rowA, tile.outputEnd - tile.outputRow, arguments.pitchScalesA, arguments.scaleRows);
        const ScaleRows<byRow ? Shape::TileColumns : WarpThreads> rowsB(
            tile.rowB, byRow ? arguments.columns - tile.column : 0, arguments.pitchScalesB, nullptr);
#pragma unroll 1
        for (int block = tile.firstBlock; block < tile.lastBlock; ++block) {
            barrier_wait(memory.emptied(cursor.stage), cursor.parity ^ 1);
            rowsA.copy(memory.scales_a(cursor.stage), arguments.scalesA + block);
            if (byRow) {
                rowsB.copy(memory.scales_b(cursor.scalePlace), arguments.scalesB + block);
            }
            copies_arrive(memory.filled(cursor.stage));
            cursor.advance();
        }
    }
}

}  // namespace krewe
