// A consumer warpgroup: multiplies the blocks of K as they arrive and adds them up in float32 with their scales.
#pragma once

#include "MatrixProduct/Epilogue.cuh"
#include "MatrixProduct/Schedule.cuh"
#include "MatrixProduct/Wgmma.cuh"

namespace krewe {

/// One warp of a consumer warpgroup.
class Consumer {
public:
    static constexpr int Registers = Shape::TileColumns / 2;
    using Sum = float[Registers];

    KREWE_DEVICE Consumer(const Fp8Products& products, SharedMemory memory, int warp)
        : products(products), memory(memory),
          epilogue(products.first->arguments, &products.first->output, memory.patches(warp)),
          warpgroupRow(warp / WarpgroupWarps * Shape::Waves * 64), warpRow(warp % WarpgroupWarps * 16) {}

    /// Computes and writes all tiles of the schedule.
    KREWE_DEVICE void run() {
        Schedule schedule(products);
        const Fp8Product* entered = products.listed ? nullptr : products.first;
        Tile tile;
        while (schedule.next(tile)) {
            Sum sum[Shape::Waves];
#pragma unroll
            for (int wave = 0; wave < Shape::Waves; ++wave) {
#pragma unroll
                for (int i = 0; i < Registers; ++i) {
                    sum[wave][i] = 0;
                }
            }
            if (Shape::Waves == 1 && Shape::scalesB == ScalesB::Tile) {
                add_overlapped(sum[0], tile);
            } else {
                add_in_turn(sum, tile);
            }
            if (Shape::kind == Kind::Separate && tile.product != entered) {
                entered = tile.product;
                epilogue.turn_to(entered->arguments, &entered->output);
            }
            epilogue.write(sum, tile.outputRow + warpgroupRow + warpRow, tile.outputEnd, tile.column);
        }
        epilogue.complete();
    }

private:
    /// Scales of a block of K: of the own two rows of each wave, and where those of B's rows lie.
    struct Scales {
        float a[Shape::Waves][2];
        uint32 rowsB;
    };

    /// Scales of the own columns of four groups of eight columns of B, read ahead of their use.
    struct RowScales {
        static constexpr int Count = 8;
        float values[Count];

        KREWE_DEVICE void load(uint32 address) {
            if (Shape::scalesB == ScalesB::Row) {
#pragma unroll
                for (int i = 0; i < Count; i += 2) {
                    load_shared_pair(address + i * 16, values[i], values[i + 1]);
                }
            }
        }
    };

    /// Waits for the stage's data and reads the scales.
    KREWE_DEVICE void await(const StageCursor& cursor, Scales& scales) const {
        barrier_wait(memory.filled(cursor.stage), cursor.parity);
        const uint32 address = memory.scales_a(cursor.stage) + (warpgroupRow + warpRow + lane_index() / 4) * 4;
#pragma unroll
        for (int wave = 0; wave < Shape::Waves; ++wave) {
            scales.a[wave][0] = load_shared(address + wave * 64 * 4);
            scales.a[wave][1] = load_shared(address + (wave * 64 + 8) * 4);
        }
        scales.rowsB = memory.scales_b(cursor.scalePlace) + lane_index() % 4 * 8;
    }

    /// Starts the four products of a wave with a block of K.
    KREWE_DEVICE void start(Sum& partial, int stage, int wave) const {
        const uint64 a = operand_descriptor(memory.a(stage) + (warpgroupRow + wave * 64) * Shape::Block);
        const uint64 b = operand_descriptor(memory.b(stage));
        hold(partial);
        warpgroup_fence();
#pragma unroll
        for (int step = 0; step < Shape::Block / Shape::Step; ++step) {
            const int advance = step * Shape::Step / 16;
            warpgroup_product<Shape::TileColumns>(partial, a + advance, b + advance, step > 0);
        }
        warpgroup_commit();
        hold(partial);
    }

    /// Gives the stage back to the producers of all blocks that copy into it.
    KREWE_DEVICE void release(int stage) const {
        __syncwarp();
        if (lane_index() < Shape::Cluster) {
            barrier_arrive_at(memory.emptied(stage), lane_index());
        }
    }

    /// sum += partial times the scales: the tensor cores' sums of 128 products, added up in float32.
    KREWE_DEVICE void promote(Sum& sum, const Sum& partial, const float (&a)[2], const Scales& scales,
                              const RowScales& first) const {
        if (Shape::scalesB == ScalesB::Tile) {
#pragma unroll
            for (int i = 0; i < Registers; ++i) {
                sum[i] += a[i % 4 / 2] * partial[i];
            }
        } else {
            RowScales next = first;
#pragma unroll
            for (int i = 0; i < Registers; i += RowScales::Count * 2) {
                const RowScales now = next;
                if (i + RowScales::Count * 2 < Registers) {
                    next.load(scales.rowsB + (i + RowScales::Count * 2) * 8);
                }
#pragma unroll
                for (int j = 0; j < RowScales::Count * 2; ++j) {
                    sum[i + j] += a[j % 4 / 2] * now.values[j / 4 * 2 + j % 2] * partial[i + j];
                }
            }
        }
    }

    /// Ends a wave: the last wave's products were the last to read the stage.
    KREWE_DEVICE void finish(Sum& sum, Sum& partial, const Scales& scales, const RowScales& first, int stage,
                             int wave) const {
        hold(partial);
        if (wave == Shape::Waves - 1) {
            release(stage);
        }
        promote(sum, partial, scales.a[wave], scales, first);
    }

    /// One wave after the other; the other warpgroup keeps the tensor cores busy meanwhile.
    KREWE_DEVICE void add_in_turn(Sum (&sum)[Shape::Waves], const Tile& tile) {
        Sum partial;
        for (int block = tile.firstBlock; block < tile.lastBlock; ++block) {
            Scales scales;
            await(cursor, scales);
#pragma unroll
            for (int wave = 0; wave < Shape::Waves; ++wave) {
                start(partial, cursor.stage, wave);
                RowScales first;
                first.load(scales.rowsB);
                warpgroup_wait<0>();
                finish(sum[wave], partial, scales, first, cursor.stage, wave);
            }
            cursor.advance();
        }
    }

    /// A block's products run while the block before is added up.
    KREWE_DEVICE void add_overlapped(Sum& sum, const Tile& tile) {
        if (tile.firstBlock == tile.lastBlock) {
            return;
        }
        Sum even, odd;
        Scales evenScales, oddScales;
        const auto begin = [&](Sum& partial, Scales& scales) {
            await(cursor, scales);
            start(partial, cursor.stage, 0);
            cursor.advance();
        };
        int block = tile.firstBlock;
        int stage = cursor.stage;
        const auto end = [&](Sum& partial, const Scales& scales) {
            finish(sum, partial, scales, {}, stage, 0);
            stage = stage + 1 == Shape::Stages ? 0 : stage + 1;
        };
        begin(even, evenScales);
        for (; block + 2 < tile.lastBlock; block += 2) {
            begin(odd, oddScales);
            warpgroup_wait<1>();
            end(even, evenScales);
            begin(even, evenScales);
            warpgroup_wait<1>();
            end(odd, oddScales);
        }
        if (block + 1 < tile.lastBlock) {
            begin(odd, oddScales);
            warpgroup_wait<1>();
            end(even, evenScales);
            warpgroup_wait<0>();
            end(odd, oddScales);
        } else {
            warpgroup_wait<0>();
            end(even, evenScales);
        }
    }

    const Fp8Products& products;
    SharedMemory memory;
    Epilogue epilogue;
    int warpgroupRow;
    int warpRow;
    StageCursor cursor;
};

}  // namespace krewe
