// Gradient of the queries of FlashAttention.cu, the probabilities recomputed from the kept log-sum-exp:
//
//   p = exp(scale q k^T - lse),  ds = p (dO v^T - delta) with delta = dO . output,  dq = scale bfloat16(ds) k.
//
// Grid, threads and tiles as in the forward. A block holds 128 queries with their output gradients and meets the keys
// and values 64 at a time in rising order, so each element is one sum of fixed order. A warpgroup starts the sum over a
// tile's keys together with the two products of the next tile, and works on the gradients of scores in between, while
// the other warpgroup's products run.
//
// Bytes as the forward. Measured on an H100: 193 us for 4096 tokens of 16 heads of 192 and 128.
//
// Parameters by value: tensor maps of query, key_value, key_rope and grad_output (FlashCopies.cuh), gradQuery
// [T, heads (nope + rope)] as Matrix, statistics (FlashShape.cuh), Arguments.
#include "Attention/FlashCopies.cuh"
#include "Attention/FlashProducts.cuh"
#include "Attention/FlashSoftmax.cuh"

using namespace krewe;

namespace {

constexpr int Keys = 64;
constexpr int Stages = 3;

struct Memory {
    static constexpr int QueryBytes = PanelBytes<KeyWidth, TileRows>;
    static constexpr int GradientBytes = PanelBytes<ValueWidth, TileRows>;
    static constexpr int KeyBytes = PanelBytes<KeyWidth, Keys>;
    static constexpr int StageBytes = KeyBytes + PanelBytes<ValueWidth, Keys>;
    static constexpr int Barriers = QueryBytes + GradientBytes + Stages * StageBytes;
    static constexpr int Bytes = Barriers + (1 + 2 * Stages) * 8;
    static_assert(Bytes <= 232448, "what a block may have");

    uint32 base;

    KREWE_DEVICE uint32 queries() const { return base; }
    KREWE_DEVICE uint32 gradients() const { return base + QueryBytes; }
    KREWE_DEVICE uint32 keys(int stage) const { return base + QueryBytes + GradientBytes + stage * StageBytes; }
    KREWE_DEVICE uint32 values(int stage) const { return keys(stage) + KeyBytes; }
    KREWE_DEVICE uint32 rows_filled() const { return base + Barriers; }
    KREWE_DEVICE uint32 filled(int stage) const { return rows_filled() + 8 + stage * 8; }
    KREWE_DEVICE uint32 emptied(int stage) const { return filled(stage + Stages); }
};

KREWE_DEVICE void produce(const Operands& operands, const Work& work, const Memory& memory) {
    barrier_arrive_expect(memory.rows_filled(), Memory::QueryBytes + Memory::GradientBytes);
    copy_queries<TileRows>(memory.queries(), operands, memory.rows_filled(), work.head, work.tile.first);
    copy_gradients<TileRows>(memory.gradients(), operands, memory.rows_filled(), work.head, work.tile.first);
    RingCursor<Stages> cursor;
    for (int key = work.tile.start; key < work.tile.end; key += Keys, cursor.advance()) {
        const uint32 filled = memory.filled(cursor.stage);
        barrier_wait(memory.emptied(cursor.stage), cursor.parity ^ 1);
        barrier_arrive_expect(filled, Memory::StageBytes);
        copy_keys<Keys>(memory.keys(cursor.stage), operands, filled, work.head, key);
        copy_values<Keys>(memory.values(cursor.stage), operands, filled, work.head, key);
    }
}

/// A warp of the warpgroup with 64 of the tile's queries.
class Consumer {
public:
    KREWE_DEVICE Consumer(const Work& work, const Memory& memory, const Arguments& arguments,
                          const Statistics* statistics, int warp)
        : work(work), memory(memory), panel(warp / WarpgroupWarps * BoxBytes), scale(arguments.scale),
          row(work.tile.first + warp * 16 + lane_index() / 4) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int token = min_of(row + half * 8, work.tile.end - 1);
            const Statistics& one = statistics[static_cast<int64>(token) * arguments.heads + work.head];
            shift[half] = one.shift;
            mean[half] = one.mean;
        }
    }

    KREWE_DEVICE void run() {
        barrier_wait(memory.rows_filled(), 0);
        Sum scores, gradients;
        Weights<Keys / StepElements> weights;
        int key = work.tile.start;
        start_scores(scores, gradients);
        warpgroup_commit();
        warpgroup_wait<0>();
        weigh(scores, gradients, weights, key);
        bool any = false;
        for (key += Keys; key < work.tile.end; key += Keys) {
            start_sum(weights, any);
            start_scores(scores, gradients);
            warpgroup_commit();
            warpgroup_wait<0>();
            finish_sum();
            weigh(scores, gradients, weights, key);
            any = true;
        }
        start_sum(weights, any);
        warpgroup_commit();
        warpgroup_wait<0>();
        hold(sums);
    }

    KREWE_DEVICE void write(const Matrix& gradQuery) const {
        const bool aligned = pairs_aligned(gradQuery);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            if (row + half * 8 < work.tile.end) {
                float* target = gradQuery.row(row + half * 8) + work.head * KeyWidth::Columns;
                write_key_row(target, target + KeyWidth::Nope, aligned, sums, half, scale);
            }
        }
    }

private:
    /// Starts scores and the gradients of probabilities of the tile in turn.
    KREWE_DEVICE void start_scores(Sum& scores, Sum& gradients) {
        barrier_wait(memory.filled(next.stage), next.parity);
        hold(scores);
        hold(gradients);
        warpgroup_fence();
        multiply<KeyWidth, TileChunkBytes, BoxBytes>(scores, memory.queries() + panel, memory.keys(next.stage));
        multiply<ValueWidth, TileChunkBytes, BoxBytes>(gradients, memory.gradients() + panel,
                                                       memory.values(next.stage));
        next.advance();
    }

    /// ds, rounded.
    KREWE_DEVICE void weigh(Sum& scores, Sum& gradients, Weights<Keys / StepElements>& weights, int key) const {
        hold(scores);
        hold(gradients);
        if (key + Keys > row - lane_index() / 4) {
            mask_future(scores, row - key);
        }
#pragma unroll
        for (int i = 0; i < 32; ++i) {
            const int half = i % 4 / 2;
            const float p = exp2_fast(fmaf(scores[i], scale * Log2E, -shift[half]));
            gradients[i] = p * (gradients[i] - mean[half]);
        }
#pragma unroll
        for (int step = 0; step < Keys / StepElements; ++step) {
            pack(weights[step], gradients + step * 8);
        }
    }

    KREWE_DEVICE void start_sum(const Weights<Keys / StepElements>& weights, bool accumulate) {
        hold(sums);
        warpgroup_fence();
        multiply_turned<KeyWidth, BoxBytes>(sums, weights, memory.keys(last.stage), accumulate);
    }

    KREWE_DEVICE void finish_sum() {
        hold(sums);
        release(memory.emptied(last.stage));
        last.advance();
    }

    const Work& work;
    Memory memory;
    uint32 panel;
    float scale;
    int row;
    float shift[2];
    float mean[2];
    Sum sums[KeyWidth::Chunks];
    /// The tile whose scores come next, and the one whose sum does.
    RingCursor<Stages> next;
    RingCursor<Stages> last;
};

}  // namespace

extern "C" __global__ void __launch_bounds__(Threads, 1)
    flash_query_gradient(const __grid_constant__ TensorMap query, const __grid_constant__ TensorMap keyValue,
                         const __grid_constant__ TensorMap keyRope, const __grid_constant__ TensorMap gradOutput,
                         const __grid_constant__ Matrix gradQuery, const Statistics* statistics,
                         const __grid_constant__ Arguments arguments) {
    alignas(1024) extern __shared__ uint8 shared[];
    const Memory memory{shared_address(shared)};
    const int warp = warp_index();
    if (threadIdx.x == 0) {
        barrier_init(memory.rows_filled(), 1);
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
            produce(Operands{&query, &keyValue, &keyRope, &gradOutput, nullptr}, work, memory);
        }
    } else {
        registers_increase<ConsumerRegisters>();
        Consumer consumer(work, memory, arguments, statistics, warp);
        consumer.run();
        consumer.write(gradQuery);
    }
}
