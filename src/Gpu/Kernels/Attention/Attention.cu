// Causal multi-head latent attention in its expanded form (report eq. 1-11), float32 with operands rounded to bfloat16
// where asked for, with a running softmax over tiles of keys; what Attention/FlashAttention.cu has no variant for.
// Grid: tiles of 16 queries by heads; block: 128 threads. Tiles of keys are counted from the sequence's start and a
// row's sums touch no other row, so a row's bits do not depend on what it is packed with.
// Bytes: queries and outputs once, keys and values once for each 16 queries behind them.
// Measured (benchmarks/Gpu/results): 7.7 ms for 2048 tokens of 32 heads of 192 and 128, on an H100.
#include "Attention/AttentionTiles.cuh"

constexpr int Keys = 32;
constexpr int Warps = Threads / 32, RowsOfWarp = Rows / Warps;

// Shared, in floats, with pads of key and value: q[16][key], o[16][value], p[32][16], maximum, sum and correction of
// 16, v[32][value], k[32][key + 1].
extern "C" __global__ void __launch_bounds__(Threads) attention(
    Matrix query, Matrix key_value, Matrix key_rope, Matrix output, Matrix log_sum_exp, AttentionSizes sizes,
    const TokenTile* tiles) {
    extern __shared__ __align__(16) float shared[];
    const TokenTile tile = tiles[blockIdx.x];
    const int head = blockIdx.y, key = sizes.key_pad(), value = sizes.value_pad();
    float* q = shared;
    float* o = q + Rows * key;
    float* p = o + Rows * value;
    float* maximum = p + Keys * Rows;
    float* sum = maximum + Rows;
    float* correction = sum + Rows;
    float* v = correction + Rows;
    float* k = v + Keys * value;
    const int lane = threadIdx.x % 32, row0 = threadIdx.x / 32 * RowsOfWarp;
    const int values_base = head * (sizes.nope + sizes.value) + sizes.nope;

    load_rows<Rows>(q, key, sizes, query, head * sizes.key(), sizes.key(), key, tile.first, tile.end);
    for (int i = threadIdx.x; i < Rows * value; i += Threads) o[i] = 0;
    if (threadIdx.x < Rows) {
        maximum[threadIdx.x] = NEGATIVE_INFINITY;
        sum[threadIdx.x] = 0;
    }

    for (int k0 = tile.start; k0 < tile.end; k0 += Keys) {
        __syncthreads();
        load_keys<Keys>(k, key_value, key_rope, sizes, head, k0, tile.end);
        load_rows<Keys>(v, value, sizes, key_value, values_base, sizes.value, value, k0, tile.end);
        __syncthreads();

        // A warp takes four rows, a lane a key.
        float scores[RowsOfWarp], weights[RowsOfWarp];
        dots<RowsOfWarp>(q + row0 * key, k + lane * (key + 1), key, scores);
#pragma unroll
        for (int e = 0; e < RowsOfWarp; e++) {
            const int i = row0 + e;
            const bool seen = k0 + lane <= tile.first + i;
            const float score = sizes.scale * scores[e];
            const float old = maximum[i];
            const float now = fmaxf(old, warp_max(seen ? score : NEGATIVE_INFINITY));
            weights[e] = seen ? expf(score - now) : 0.0f;
            const float total = warp_sum(weights[e]);
            weights[e] = sizes.operand(weights[e]);
            __syncwarp();
            if (lane == 0) {
                // A row that sees no key of this tile keeps what it has.
                const float factor = now == old ? 1.0f : expf(old - now);
                correction[i] = factor;
                sum[i] = sum[i] * factor + total;
                maximum[i] = now;
            }
        }

        *(float4*)&p[lane * Rows + row0] = make_float4(weights[0], weights[1], weights[2], weights[3]);
        __syncthreads();
        accumulate<Keys>(o, sizes.value, value, p, v, value, correction);
    }

    __syncthreads();
    for (int i = threadIdx.x; i < Rows * value; i += Threads) {
        int row = i / value, column = i % value;
        if (tile.first + row < tile.end && column < sizes.value)
            output.row(tile.first + row)[head * sizes.value + column] = o[i] / sum[row];
    }

    if (threadIdx.x < Rows && tile.first + threadIdx.x < tile.end)
        log_sum_exp.row(head)[tile.first + threadIdx.x] = maximum[threadIdx.x] + logf(sum[threadIdx.x]);
}
