// Causal multi-head latent attention in its expanded form (report eq. 1-11), float32, with a running softmax over tiles
// of keys. Grid: tiles of 16 queries by heads; block: 128 threads. Tiles of keys are counted from the sequence's start
// and a row's sums touch no other row, so a row's bits do not depend on what it is packed with.
// Bytes: queries and outputs once, keys and values once for each 16 queries behind them.
#include "AttentionTiles.cuh"

constexpr int Queries = 16, Keys = 32;

// Shared, in floats: q[16][key], k[32][key + 1], v[32][value], o[16][value], p[16][32], then three of 16.
extern "C" __global__ void __launch_bounds__(Threads) attention(
    Matrix query, Matrix key_value, Matrix key_rope, Matrix output, Matrix log_sum_exp, AttentionSizes sizes,
    const TokenTile* tiles) {
    extern __shared__ float shared[];
    const TokenTile tile = tiles[blockIdx.x];
    const int head = blockIdx.y, width = sizes.key(), columns = sizes.value;
    float* q = shared;
    float* k = q + Queries * width;
    float* v = k + Keys * (width + 1);
    float* o = v + Keys * columns;
    float* p = o + Queries * columns;
    float* maximum = p + Queries * Keys;
    float* sum = maximum + Queries;
    float* correction = sum + Queries;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

    load_queries<Queries>(q, query, sizes, head, tile.first, tile.end);
    for (int i = threadIdx.x; i < Queries * columns; i += Threads) o[i] = 0;
    if (threadIdx.x < Queries) {
        maximum[threadIdx.x] = NEGATIVE_INFINITY;
        sum[threadIdx.x] = 0;
    }

    for (int k0 = tile.start; k0 < tile.end; k0 += Keys) {
        __syncthreads();
        load_keys<Keys>(k, key_value, key_rope, sizes, head, k0, tile.end);
        load_values<Keys>(
            v, key_value, head * (sizes.nope + columns) + sizes.nope, columns, columns, k0, tile.end);
        __syncthreads();

        // A warp takes a row, a lane a key.
        for (int i = warp; i < Queries; i += Threads / 32) {
            bool seen = k0 + lane <= tile.first + i;
            float score = sizes.scale * dot(q + i * width, k + lane * (width + 1), width);
            float old = maximum[i];
            float now = fmaxf(old, warp_max(seen ? score : NEGATIVE_INFINITY));
            float weight = seen ? expf(score - now) : 0.0f;
            float total = warp_sum(weight);
            p[i * Keys + lane] = weight;
            __syncwarp();
            if (lane == 0) {
                // A row that sees no key of this tile keeps what it has.
                float factor = now == old ? 1.0f : expf(old - now);
                correction[i] = factor;
                sum[i] = sum[i] * factor + total;
                maximum[i] = now;
            }
        }

        __syncthreads();
        for (int i = threadIdx.x; i < Queries * columns; i += Threads) {
            int row = i / columns, column = i % columns;
            float context = o[i] * correction[row];
            for (int j = 0; j < Keys; j++) context = fmaf(p[row * Keys + j], v[j * columns + column], context);
            o[i] = context;
        }
    }

    __syncthreads();
    for (int i = threadIdx.x; i < Queries * columns; i += Threads) {
        int row = i / columns;
        if (tile.first + row < tile.end)
            output.row(tile.first + row)[head * columns + i % columns] = o[i] / sum[row];
    }

    if (threadIdx.x < Queries && tile.first + threadIdx.x < tile.end)
        log_sum_exp.row(head)[tile.first + threadIdx.x] = maximum[threadIdx.x] + logf(sum[threadIdx.x]);
}
