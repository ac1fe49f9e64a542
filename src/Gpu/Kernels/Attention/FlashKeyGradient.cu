// Gradients of the keys and values of FlashAttention.cu, with p and ds as in FlashQueryGradient.cu:
//
//   dv = bfloat16(p)^T dO,  dk = scale bfloat16(ds)^T q.
//
// Grid: tiles of 128 keys times heads, those with the most queries behind them first; threads as in the forward. A
// block holds its keys and values and meets queries and output gradients 64 at a time in rising order, so each element
// is one sum of fixed order. The scores are computed turned, k q^T, with a row for each key: what comes out in
// registers is p^T and ds^T, the left operands of both sums.
//
// Bytes: keys and values once, queries and gradients once for each 128 keys before them. Measured on an H100: 290 us
// for 4096 tokens of 16 heads of 192 and 128; with the queries' gradients and delta 521 us, PyTorch (cuDNN) 623 us.
//
// Parameters by value: tensor maps of query, key_value, key_rope, grad_output and statistics (FlashCopies.cuh),
// gradKeyValue [T, heads (nope + value)] as Matrix, headKeyRope [heads, T, rope]: each head's share of the rope key's
// gradient, Arguments.
#include "Attention/FlashCopies.cuh"
#include "Attention/FlashProducts.cuh"
#include "Attention/FlashSoftmax.cuh"

using namespace krewe;

namespace {

constexpr int Queries = 64;
constexpr int Stages = 3;
/// Halves of a tile of queries, so that what is between scores and sums fits into registers.
constexpr int HalfQueries = Queries / 2;
constexpr int HalfBytes = HalfQueries * ChunkColumns * 2;
constexpr int HalfSteps = HalfQueries / StepElements;

struct Memory {
    static constexpr int KeyBytes = PanelBytes<KeyWidth, TileRows>;
    static constexpr int ValueBytes = PanelBytes<ValueWidth, TileRows>;
    static constexpr int QueryBytes = PanelBytes<KeyWidth, Queries>;
    static constexpr int StageBytes = QueryBytes + PanelBytes<ValueWidth, Queries>;
    static constexpr int Rows = KeyBytes + ValueBytes + Stages * StageBytes;
    static constexpr int RowBytes = Queries * sizeof(Statistics);
    static constexpr int Barriers = Rows + Stages * RowBytes;
    static constexpr int Bytes = Barriers + (1 + 2 * Stages) * 8;
    static_assert(Bytes <= 232448, "what a block may have");

    uint32 base;

    KREWE_DEVICE uint32 keys() const { return base; }
    KREWE_DEVICE uint32 values() const { return base + KeyBytes; }
    KREWE_DEVICE uint32 queries(int stage) const { return base + KeyBytes + ValueBytes + stage * StageBytes; }
    KREWE_DEVICE uint32 gradients(int stage) const { return queries(stage) + QueryBytes; }
    KREWE_DEVICE uint32 rows(int stage) const { return base + Rows + stage * RowBytes; }
    KREWE_DEVICE uint32 keys_filled() const { return base + Barriers; }
    KREWE_DEVICE uint32 filled(int stage) const { return keys_filled() + 8 + stage * 8; }
    KREWE_DEVICE uint32 emptied(int stage) const { return filled(stage + Stages); }
};

KREWE_DEVICE void produce(const Operands& operands, const Work& work, const Memory& memory) {
    barrier_arrive_expect(memory.keys_filled(), Memory::KeyBytes + Memory::ValueBytes);
    copy_keys<TileRows>(memory.keys(), operands, memory.keys_filled(), work.head, work.tile.first);
    copy_values<TileRows>(memory.values(), operands, memory.keys_filled(), work.head, work.tile.first);
    RingCursor<Stages> cursor;
    for (int query = work.tile.first; query < work.tile.stop; query += Queries, cursor.advance()) {
        const uint32 filled = memory.filled(cursor.stage);
        barrier_wait(memory.emptied(cursor.stage), cursor.parity ^ 1);
        barrier_arrive_expect(filled, Memory::StageBytes + Memory::RowBytes);
        copy_queries<Queries>(memory.queries(cursor.stage), operands, filled, work.head, query);
        copy_gradients<Queries>(memory.gradients(cursor.stage), operands, filled, work.head, query);
        copy_box(memory.rows(cursor.stage), operands.statistics, filled, work.head * StatisticsColumns, query);
    }
}

/// A warp of the warpgroup with 64 of the tile's keys.
class Consumer {
public:
    KREWE_DEVICE Consumer(const Work& work, const Memory& memory, float scale, int warp)
        : work(work), memory(memory), panel(warp / WarpgroupWarps * BoxBytes), scale(scale),
          row(work.tile.first + warp * 16 + lane_index() / 4) {}

    KREWE_DEVICE void run() {
        barrier_wait(memory.keys_filled(), 0);
        clear(keys);
        clear(values);
        RingCursor<Stages> cursor;
        for (int query = work.tile.first; query < work.tile.stop; query += Queries, cursor.advance()) {
            const int stage = cursor.stage;
            barrier_wait(memory.filled(stage), cursor.parity);
            Sum scores;
            HalfSum gradients;
            Weights<HalfSteps> weights[2], gradientWeights[2];
            start_scores(scores, stage);
            start_gradients(gradients, stage, 0);
            warpgroup_wait<0>();
            hold(scores);
            hold(gradients);
            if (query < row - lane_index() / 4 + 16 || query + Queries > work.tile.stop) {
                mask(scores, row - query, work.tile.stop - query);
            }
            weigh(weights[0], gradientWeights[0], scores, gradients, stage, 0);
            start_gradients(gradients, stage, 1);
            start_sums(weights[0], gradientWeights[0], stage, 0);
            warpgroup_wait<1>();
            hold(gradients);
            weigh(weights[1], gradientWeights[1], scores + 16, gradients, stage, 1);
            start_sums(weights[1], gradientWeights[1], stage, 1);
            warpgroup_wait<0>();
            hold(values);
            hold(keys);
            release(memory.emptied(stage));
        }
    }

    KREWE_DEVICE void write(const Matrix& gradKeyValue, float* headKeyRope, int tokens) const {
        const bool aligned = pairs_aligned(gradKeyValue);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int token = row + half * 8;
            if (token < work.tile.end) {
                float* target = gradKeyValue.row(token) + work.head * KeyValueColumns;
                float* rope = headKeyRope + (static_cast<int64>(work.head) * tokens + token) * KeyWidth::Rope;
                write_key_row(target, rope, aligned, keys, half, scale);
                write_row<0, ValueWidth::Chunks>(target + KeyWidth::Nope, aligned, values, half, 1,
                                                 ValueWidth::Columns);
            }
        }
    }

private:
    template <int Chunks> static KREWE_DEVICE void clear(Sum (&sums)[Chunks]) {
#pragma unroll
        for (int i = 0; i < Chunks * 32; ++i) {
            sums[i / 32][i % 32] = 0;
        }
    }

    KREWE_DEVICE void start_scores(Sum& scores, int stage) const {
        hold(scores);
        warpgroup_fence();
        multiply<KeyWidth, TileChunkBytes, BoxBytes>(scores, memory.keys() + panel, memory.queries(stage));
    }

    /// Starts the gradients of the probabilities of half of a tile's queries.
    KREWE_DEVICE void start_gradients(HalfSum& gradients, int stage, int half) const {
        hold(gradients);
        warpgroup_fence();
        multiply<ValueWidth, TileChunkBytes, BoxBytes>(gradients, memory.values() + panel,
                                                       memory.gradients(stage) + half * HalfBytes);
        warpgroup_commit();
    }

    /// p^T and ds^T of half of a tile's queries, rounded.
    KREWE_DEVICE void weigh(Weights<HalfSteps>& weights, Weights<HalfSteps>& gradientWeights, const float* scores,
                            const HalfSum& gradients, int stage, int half) const {
        const uint32 rows =
            memory.rows(stage) + (half * HalfQueries + sum_column(0, lane_index())) * sizeof(Statistics);
#pragma unroll
        for (int step = 0; step < HalfSteps; ++step) {
            float p[8], ds[8];
#pragma unroll
            for (int block = 0; block < 8; block += 4) {
                const int first = step * 8 + block;
                float shift[2], mean[2];
                const uint32 row = rows + first * 2 * sizeof(Statistics);
                load_shared_pair(row, shift[0], mean[0]);
                load_shared_pair(row + sizeof(Statistics), shift[1], mean[1]);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    p[block + i] = exp2_fast(fmaf(scores[first + i], scale * Log2E, -shift[i % 2]));
                    ds[block + i] = p[block + i] * (gradients[first + i] - mean[i % 2]);
                }
            }
            pack(weights[step], p);
            pack(gradientWeights[step], ds);
        }
    }

    /// Starts the sums over half of a tile's queries.
    KREWE_DEVICE void start_sums(const Weights<HalfSteps>& weights, const Weights<HalfSteps>& gradientWeights,
                                 int stage, int half) {
        hold(values);
        hold(keys);
        warpgroup_fence();
        multiply_turned<ValueWidth, BoxBytes>(values, weights, memory.gradients(stage) + half * HalfBytes, true);
        multiply_turned<KeyWidth, BoxBytes>(keys, gradientWeights, memory.queries(stage) + half * HalfBytes, true);
        warpgroup_commit();
    }

    /// Scores of queries before the key or past the sequence become minus infinity; <diagonal>: the own first row's key
    /// less the first query, <end>: queries that the sequence still has.
    static KREWE_DEVICE void mask(Sum& scores, int diagonal, int end) {
        const int lane = lane_index();
#pragma unroll
        for (int i = 0; i < 32; ++i) {
            const int query = sum_column(i, lane);
            if (query < diagonal + i % 4 / 2 * 8 || query >= end) {
                scores[i] = NEGATIVE_INFINITY;
            }
        }
    }

    const Work& work;
    Memory memory;
    uint32 panel;
    float scale;
    int row;
    Sum keys[KeyWidth::Chunks];
    Sum values[ValueWidth::Chunks];
};

}  // namespace

extern "C" __global__ void __launch_bounds__(Threads, 1)
    flash_key_gradient(const __grid_constant__ TensorMap query, const __grid_constant__ TensorMap keyValue,
                       const __grid_constant__ TensorMap keyRope, const __grid_constant__ TensorMap gradOutput,
                       const __grid_constant__ TensorMap statistics, const __grid_constant__ Matrix gradKeyValue,
                       float* headKeyRope, const __grid_constant__ Arguments arguments) {
    alignas(1024) extern __shared__ uint8 shared[];
    const Memory memory{shared_address(shared)};
    const int warp = warp_index();
    if (threadIdx.x == 0) {
        barrier_init(memory.keys_filled(), 1);
        for (int stage = 0; stage < Stages; ++stage) {
            barrier_init(memory.filled(stage), 1);
            barrier_init(memory.emptied(stage), ConsumerWarps);
        }
        barrier_init_fence();
    }
    __syncthreads();
    const Work work(arguments);
    if (warp >= ConsumerWarps) {
        registers_decrease<ProducerRegisters>();
        if (warp == ConsumerWarps && lane_index() == 0) {
            produce(Operands{&query, &keyValue, &keyRope, &gradOutput, &statistics}, work, memory);
        }
    } else {
        registers_increase<ConsumerRegisters>();
        Consumer consumer(work, memory, arguments.scale, warp);
        consumer.run();
        consumer.write(gradKeyValue, headKeyRope, arguments.tokens);
    }
}
