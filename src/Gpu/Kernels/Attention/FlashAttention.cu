// Causal multi-head latent attention in its expanded form (report eq. 1-11) on the tensor cores: bfloat16 operands,
// float32 scores, softmax and sums. Of each row of scores only a running maximum and sum are kept:
//
//   s = scale q k^T,  m' = max(m, max s),  p = exp(s - m'),  l' = l exp(m - m') + sum p,
//   o' = o exp(m - m') + bfloat16(p) v;  at the end output = o / l and log-sum-exp = m + ln l.
//
// Grid: tiles of 128 queries times heads, the longest first; 384 threads, Memory::Bytes of dynamic shared memory. One
// warp has the copy engine bring tiles of 128 keys and values of the own head; two warpgroups of 64 queries each
// multiply. A warpgroup starts the scores of a tile together with the sum over the values of the tile before, and works
// on the softmax while the latter runs.
//
// Tiles of keys are counted from the sequence's start and a row's sums touch no other row: its bits do not depend on
// what it is packed with. Rows of the neighbour that lie in the last tile are multiplied by probabilities of zero, so
// they must be finite.
//
// Bytes: queries and outputs once, keys and values once for each 128 queries behind them, mostly from the L2 cache.
// Measured on an H100 (benchmarks/Gpu/results/flash-attention.txt): 156 us for 4096 tokens of 16 heads of 192 and 128,
// 550 TFLOP/s; PyTorch's scaled_dot_product_attention (cuDNN) 187 us.
//
// Parameters by value: tensor maps of query, key_value and key_rope (FlashCopies.cuh), output [T, heads value] and
// logSumExp [heads, T] as Matrix, Arguments.
#include "Attention/FlashCopies.cuh"
#include "Attention/FlashProducts.cuh"
#include "Attention/FlashSoftmax.cuh"

using namespace krewe;

namespace {

constexpr int Keys = 128;
constexpr int KeyChunks = Keys / ChunkColumns;
constexpr int Stages = 2;

struct Memory {
    static constexpr int QueryBytes = PanelBytes<KeyWidth, TileRows>;
    static constexpr int KeyBytes = PanelBytes<KeyWidth, Keys>;
    static constexpr int ValueBytes = PanelBytes<ValueWidth, Keys>;
    static constexpr int Barriers = QueryBytes + Stages * (KeyBytes + ValueBytes);
    static constexpr int Bytes = Barriers + (1 + 4 * Stages) * 8;
    static_assert(Bytes <= 232448, "what a block may have");

    uint32 base;

    KREWE_DEVICE uint32 keys(int stage) const { return base + QueryBytes + stage * KeyBytes; }
    KREWE_DEVICE uint32 values(int stage) const { return keys(Stages) + stage * ValueBytes; }
    KREWE_DEVICE uint32 query_filled() const { return base + Barriers; }
    KREWE_DEVICE uint32 keys_filled(int stage) const { return query_filled() + 8 + stage * 8; }
    KREWE_DEVICE uint32 keys_emptied(int stage) const { return keys_filled(stage + Stages); }
    KREWE_DEVICE uint32 values_filled(int stage) const { return keys_filled(stage + 2 * Stages); }
    KREWE_DEVICE uint32 values_emptied(int stage) const { return keys_filled(stage + 3 * Stages); }
};

KREWE_DEVICE void produce(const Operands& operands, const Work& work, const Memory& memory) {
    barrier_arrive_expect(memory.query_filled(), Memory::QueryBytes);
    copy_queries<TileRows>(memory.base, operands, memory.query_filled(), work.head, work.tile.first);
    RingCursor<Stages> cursor;
    for (int key = work.tile.start; key < work.tile.end; key += Keys, cursor.advance()) {
        const int stage = cursor.stage;
        barrier_wait(memory.keys_emptied(stage), cursor.parity ^ 1);
        barrier_arrive_expect(memory.keys_filled(stage), Memory::KeyBytes);
        copy_keys<Keys>(memory.keys(stage), operands, memory.keys_filled(stage), work.head, key);
        barrier_wait(memory.values_emptied(stage), cursor.parity ^ 1);
        barrier_arrive_expect(memory.values_filled(stage), Memory::ValueBytes);
        copy_values<Keys>(memory.values(stage), operands, memory.values_filled(stage), work.head, key);
    }
}

/// A warp of the warpgroup with 64 of the tile's queries.
class Consumer {
public:
    KREWE_DEVICE Consumer(const Work& work, const Memory& memory, float scale, int warp)
        : work(work), memory(memory), queries(memory.base + warp / WarpgroupWarps * BoxBytes), softmax(scale),
          row(work.tile.first + warp * 16 + lane_index() / 4) {}

    KREWE_DEVICE void run() {
        barrier_wait(memory.query_filled(), 0);
        Sum scores[KeyChunks];
        Weights<Keys / StepElements> weights;
        float factor[2];
        int key = work.tile.start;
        start_scores(scores);
        warpgroup_wait<0>();
        finish_scores(scores, key, factor);
        pack_all(weights, scores);
        bool any = false;
        for (key += Keys; key < work.tile.end; key += Keys) {
            start_scores(scores);
            start_context(weights, any);
            warpgroup_wait<1>();
            finish_scores(scores, key, factor);
            warpgroup_wait<0>();
            finish_context(factor);
            pack_all(weights, scores);
            any = true;
        }
        start_context(weights, any);
        warpgroup_wait<0>();
        hold(context);
    }

    /// Writes the own two rows of each thread.
    KREWE_DEVICE void write(const Matrix& output, const Matrix& logSumExp) {
        softmax.complete();
        const bool aligned = pairs_aligned(output);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int token = row + half * 8;
            if (token >= work.tile.end) {
                continue;
            }
            if (lane_index() % 4 == 0) {
                logSumExp.row(work.head)[token] = softmax.log_sum(half);
            }
            const float inverse = 1 / softmax.sum[half];
            float* target = output.row(token) + work.head * ValueWidth::Columns;
            write_row<0, ValueWidth::Chunks>(target, aligned, context, half, inverse, ValueWidth::Columns);
        }
    }

private:
    KREWE_DEVICE void start_scores(Sum (&scores)[KeyChunks]) {
        barrier_wait(memory.keys_filled(keyCursor.stage), keyCursor.parity);
        hold(scores);
        warpgroup_fence();
        multiply<KeyWidth, TileChunkBytes, KeyChunks * BoxBytes>(scores, queries, memory.keys(keyCursor.stage));
        warpgroup_commit();
    }

    /// Turns scores into probabilities once they are there, and gives the keys' room back.
    KREWE_DEVICE void finish_scores(Sum (&scores)[KeyChunks], int key, float (&factor)[2]) {
        hold(scores);
        release(memory.keys_emptied(keyCursor.stage));
        keyCursor.advance();
        if (key + Keys > row - lane_index() / 4) {
#pragma unroll
            for (int chunk = 0; chunk < KeyChunks; ++chunk) {
                mask_future(scores[chunk], row - key - chunk * ChunkColumns);
            }
        }
        softmax.apply(scores, factor);
    }

    KREWE_DEVICE void start_context(const Weights<Keys / StepElements>& weights, bool accumulate) {
        barrier_wait(memory.values_filled(valueCursor.stage), valueCursor.parity);
        hold(context);
        warpgroup_fence();
        multiply_turned<ValueWidth, KeyChunks * BoxBytes>(context, weights, memory.values(valueCursor.stage),
                                                          accumulate);
        warpgroup_commit();
    }

    KREWE_DEVICE void finish_context(const float (&factor)[2]) {
        hold(context);
        release(memory.values_emptied(valueCursor.stage));
        valueCursor.advance();
#pragma unroll
        for (int chunk = 0; chunk < ValueWidth::Chunks; ++chunk) {
#pragma unroll
            for (int i = 0; i < 32; ++i) {
                context[chunk][i] *= factor[i % 4 / 2];
            }
        }
    }

    static KREWE_DEVICE void pack_all(Weights<Keys / StepElements>& weights, const Sum (&values)[KeyChunks]) {
#pragma unroll
        for (int step = 0; step < Keys / StepElements; ++step) {
            pack(weights[step], values[step / 4] + step % 4 * 8);
        }
    }

    const Work& work;
    Memory memory;
    uint32 queries;
    Softmax softmax;
    int row;
    Sum context[ValueWidth::Chunks];
    RingCursor<Stages> keyCursor;
    RingCursor<Stages> valueCursor;
};

}  // namespace

extern "C" __global__ void __launch_bounds__(Threads, 1)
    flash_attention(const __grid_constant__ TensorMap query, const __grid_constant__ TensorMap keyValue,
                    const __grid_constant__ TensorMap keyRope, const __grid_constant__ Matrix output,
                    const __grid_constant__ Matrix logSumExp, const __grid_constant__ Arguments arguments) {
    alignas(1024) extern __shared__ uint8 shared[];
    const Memory memory{shared_address(shared)};
    const int warp = warp_index();
    if (threadIdx.x == 0) {
        barrier_init(memory.query_filled(), 1);
        for (int stage = 0; stage < Stages; ++stage) {
            barrier_init(memory.keys_filled(stage), 1);
            barrier_init(memory.keys_emptied(stage), ConsumerWarps);
            barrier_init(memory.values_filled(stage), 1);
            barrier_init(memory.values_emptied(stage), ConsumerWarps);
        }
        barrier_init_fence();
    }
    __syncthreads();
    const Work work(arguments);
    if (warp >= ConsumerWarps) {
        registers_decrease<ProducerRegisters>();
        if (warp == ConsumerWarps && lane_index() == 0) {
            produce(Operands{&query, &keyValue, &keyRope, nullptr, nullptr}, work, memory);
        }
    } else {
        registers_increase<ConsumerRegisters>();
        Consumer consumer(work, memory, arguments.scale, warp);
        consumer.run();
        consumer.write(output, logSumExp);
    }
}
