// The softmax of attention, in registers: a thread holds two rows, each shared with the three other lanes of its quad.
#pragma once

#include "Attention/FlashProducts.cuh"

namespace krewe {

/// 2^x within 2 units of the last place; 0 for minus infinity.
KREWE_DEVICE float exp2_fast(float x) {
    float value;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x));
    return value;
}

/// Gives the room at <emptied> back to the producer once the whole warp has come here.
KREWE_DEVICE void release(uint32 emptied) {
    __syncwarp();
    if (lane_index() == 0) {
        barrier_arrive(emptied);
    }
}

/// Scores of keys behind the query become minus infinity; <diagonal>: the own first row's query less the first key.
KREWE_DEVICE void mask_future(Sum& scores, int diagonal) {
    const int lane = lane_index();
#pragma unroll
    for (int i = 0; i < 32; ++i) {
        if (sum_column(i, lane) > diagonal + i % 4 / 2 * 8) {
            scores[i] = NEGATIVE_INFINITY;
        }
    }
}

KREWE_DEVICE void store_pair(float* target, bool aligned, float first, float second) {
    if (aligned) {
        asm volatile("st.global.v2.f32 [%0], {%1, %2};" ::"l"(target), "f"(first), "f"(second) : "memory");
    } else {
        target[0] = first;
        target[1] = second;
    }
}

/// Whether rows of an even number of columns start where two floats can be stored at once.
KREWE_DEVICE bool pairs_aligned(const Matrix& matrix) {
    return (reinterpret_cast<uint64>(matrix.data) | matrix.stride * 4ull) % 8 == 0;
}

/// Writes chunks [First, End) of row <half> of the thread's two, times <factor>, as far as <columns> columns.
template <int First, int End, int Chunks>
KREWE_DEVICE void write_row(float* target, bool aligned, const Sum (&sums)[Chunks], int half, float factor,
                            int columns) {
    const int lane = lane_index();
#pragma unroll
    for (int chunk = First; chunk < End; ++chunk) {
#pragma unroll
        for (int i = half * 2; i < 32; i += 4) {
            const int column = (chunk - First) * ChunkColumns + sum_column(i, lane);
            if (column < columns) {
                store_pair(target + column, aligned, sums[chunk][i] * factor, sums[chunk][i + 1] * factor);
            }
        }
    }
}

/// Writes a row of queries' or keys' width: the part without position to <nope>, the rotated one to <rope>.
KREWE_DEVICE void write_key_row(float* nope, float* rope, bool aligned, const Sum (&sums)[KeyWidth::Chunks], int half,
                                float factor) {
    write_row<0, KeyWidth::NopeChunks>(nope, aligned, sums, half, factor, KeyWidth::Nope);
    write_row<KeyWidth::NopeChunks, KeyWidth::Chunks>(rope, aligned, sums, half, factor, KeyWidth::Rope);
}

/// Running maximum and sum of a thread's two rows; the sum is of the own lane's columns until it is completed.
struct Softmax {
    float scale;
    float maximum[2] = {NEGATIVE_INFINITY, NEGATIVE_INFINITY};
    float sum[2] = {0, 0};

    KREWE_DEVICE explicit Softmax(float scale) : scale(scale * Log2E) {}

    /// Scores become exp(scale (score - maximum)); <factor> takes what was summed before to the new maximum. The first
    /// key is seen by every row, so the maximum is finite from the first tile on.
    template <int Chunks> KREWE_DEVICE void apply(Sum (&scores)[Chunks], float (&factor)[2]) {
        float now[2] = {maximum[0], maximum[1]};
#pragma unroll
        for (int chunk = 0; chunk < Chunks; ++chunk) {
#pragma unroll
            for (int i = 0; i < 32; ++i) {
                now[i % 4 / 2] = fmaxf(now[i % 4 / 2], scores[chunk][i]);
            }
        }
        float shift[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            now[half] = fmaxf(now[half], __shfl_xor_sync(0xffffffffu, now[half], 1));
            now[half] = fmaxf(now[half], __shfl_xor_sync(0xffffffffu, now[half], 2));
            factor[half] = exp2_fast((maximum[half] - now[half]) * scale);
            maximum[half] = now[half];
            shift[half] = now[half] * scale;
            sum[half] *= factor[half];
        }
#pragma unroll
        for (int chunk = 0; chunk < Chunks; ++chunk) {
#pragma unroll
            for (int i = 0; i < 32; ++i) {
                const int half = i % 4 / 2;
                scores[chunk][i] = exp2_fast(fmaf(scores[chunk][i], scale, -shift[half]));
                sum[half] += scores[chunk][i];
            }
        }
    }

    /// Adds the quad's sums up.
    KREWE_DEVICE void complete() {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 1);
            sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 2);
        }
    }

    /// ln of the sum of exp(scale score) of a row.
    KREWE_DEVICE float log_sum(int half) const { return maximum[half] * scale / Log2E + logf(sum[half]); }
};

}  // namespace krewe
