// Gradients of attention, the probabilities recomputed from the kept log-sum-exp. Two passes without atomics, each
// element one sum in rising order: over keys for the queries, over queries for keys and values.
// With dp = gradOutput . v and delta = gradOutput . output: ds = p (dp - delta) scale.
#include "AttentionTiles.cuh"

constexpr int Rows = 16, Keys = 32;

// delta[h, t] = gradOutput . output of that head. Grid: tokens by heads, a warp each.
extern "C" __global__ void __launch_bounds__(32)
attention_delta(Matrix grad_output, Matrix output, AttentionSizes sizes, float* delta) {
    const int t = blockIdx.x, head = blockIdx.y;
    const float* g = grad_output.row(t) + head * sizes.value;
    const float* o = output.row(t) + head * sizes.value;
    float sum = 0;
    for (int v = threadIdx.x; v < sizes.value; v += 32) sum = fmaf(g[v], o[v], sum);
    sum = warp_sum(sum);
    if (threadIdx.x == 0) delta[(long long)head * sizes.tokens + t] = sum;
}

// gradQuery. Grid: tiles of 16 queries by heads; block 128. Bytes as the forward.
// Shared, in floats: q[16][key], g[16][value], k[32][key + 1], v[32][value + 1], dq[16][key], ds[16][32].
extern "C" __global__ void __launch_bounds__(Threads) attention_backward_query(
    Matrix grad_output, Matrix query, Matrix key_value, Matrix key_rope, Matrix log_sum_exp, const float* delta,
    Matrix grad_query, AttentionSizes sizes, const TokenTile* tiles) {
    extern __shared__ float shared[];
    const TokenTile tile = tiles[blockIdx.x];
    const int head = blockIdx.y, width = sizes.key(), columns = sizes.value;
    float* q = shared;
    float* g = q + Rows * width;
    float* k = g + Rows * columns;
    float* v = k + Keys * (width + 1);
    float* dq = v + Keys * (columns + 1);
    float* ds = dq + Rows * width;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

    load_queries<Rows>(q, query, sizes, head, tile.first, tile.end);
    load_values<Rows>(g, grad_output, head * columns, columns, columns, tile.first, tile.end);
    for (int i = threadIdx.x; i < Rows * width; i += Threads) dq[i] = 0;
    for (int k0 = tile.start; k0 < tile.end; k0 += Keys) {
        __syncthreads();
        load_keys<Keys>(k, key_value, key_rope, sizes, head, k0, tile.end);
        load_values<Keys>(
            v, key_value, head * (sizes.nope + columns) + sizes.nope, columns, columns + 1, k0, tile.end);
        __syncthreads();
        for (int i = warp; i < Rows; i += Threads / 32) {
            int row = tile.first + i;
            float gradient = 0;
            if (row < tile.end && k0 + lane <= row) {
                float score = sizes.scale * dot(q + i * width, k + lane * (width + 1), width);
                float p = expf(score - log_sum_exp.row(head)[row]);
                float dp = dot(g + i * columns, v + lane * (columns + 1), columns);
                gradient = p * (dp - delta[(long long)head * sizes.tokens + row]) * sizes.scale;
            }

            ds[i * Keys + lane] = gradient;
        }

        __syncthreads();
        for (int i = threadIdx.x; i < Rows * width; i += Threads) {
            int row = i / width, column = i % width;
            float sum = dq[i];
            for (int j = 0; j < Keys; j++) sum = fmaf(ds[row * Keys + j], k[j * (width + 1) + column], sum);
            dq[i] = sum;
        }
    }

    __syncthreads();
    for (int i = threadIdx.x; i < Rows * width; i += Threads)
        if (tile.first + i / width < tile.end)
            grad_query.row(tile.first + i / width)[head * width + i % width] = dq[i];
}

// gradKeyValue, and each head's share of gradKeyRope as head_key_rope[h, t, rope]. Grid: tiles of 16 keys by heads;
// block 128. Shared, in floats: q[16][key], g[16][value], k[16][key + 1], v[16][value + 1], dk[16][key],
// dv[16][value], p[16][16], ds[16][16].
extern "C" __global__ void __launch_bounds__(Threads) attention_backward_key(
    Matrix grad_output, Matrix query, Matrix key_value, Matrix key_rope, Matrix log_sum_exp, const float* delta,
    Matrix grad_key_value, float* head_key_rope, AttentionSizes sizes, const TokenTile* tiles) {
    extern __shared__ float shared[];
    const TokenTile tile = tiles[blockIdx.x];
    const int head = blockIdx.y, width = sizes.key(), columns = sizes.value;
    float* q = shared;
    float* g = q + Rows * width;
    float* k = g + Rows * columns;
    float* v = k + Rows * (width + 1);
    float* dk = v + Rows * (columns + 1);
    float* dv = dk + Rows * width;
    float* p = dv + Rows * columns;
    float* ds = p + Rows * Rows;
    const int base = head * (sizes.nope + columns);

    load_keys<Rows>(k, key_value, key_rope, sizes, head, tile.first, tile.end);
    load_values<Rows>(v, key_value, base + sizes.nope, columns, columns + 1, tile.first, tile.end);
    for (int i = threadIdx.x; i < Rows * width; i += Threads) dk[i] = 0;
    for (int i = threadIdx.x; i < Rows * columns; i += Threads) dv[i] = 0;
    for (int q0 = tile.first; q0 < tile.stop; q0 += Rows) {
        __syncthreads();
        load_queries<Rows>(q, query, sizes, head, q0, tile.stop);
        load_values<Rows>(g, grad_output, head * columns, columns, columns, q0, tile.stop);
        __syncthreads();
        for (int e = threadIdx.x; e < Rows * Rows; e += Threads) {
            int i = e / Rows, j = e % Rows, row = q0 + i;
            float weight = 0, gradient = 0;
            if (row < tile.stop && tile.first + j <= row && tile.first + j < tile.end) {
                float score = sizes.scale * dot(q + i * width, k + j * (width + 1), width);
                weight = expf(score - log_sum_exp.row(head)[row]);
                float dp = dot(g + i * columns, v + j * (columns + 1), columns);
                gradient = weight * (dp - delta[(long long)head * sizes.tokens + row]) * sizes.scale;
            }

            p[e] = weight;
            ds[e] = gradient;
        }

        __syncthreads();
        for (int i = threadIdx.x; i < Rows * width; i += Threads) {
            float sum = dk[i];
            for (int row = 0; row < Rows; row++)
                sum = fmaf(ds[row * Rows + i / width], q[row * width + i % width], sum);
            dk[i] = sum;
        }

        for (int i = threadIdx.x; i < Rows * columns; i += Threads) {
            float sum = dv[i];
            for (int row = 0; row < Rows; row++)
                sum = fmaf(p[row * Rows + i / columns], g[row * columns + i % columns], sum);
            dv[i] = sum;
        }
    }

    __syncthreads();
    for (int i = threadIdx.x; i < Rows * width; i += Threads) {
        int row = tile.first + i / width, d = i % width;
        if (row >= tile.end) continue;
        if (d < sizes.nope) grad_key_value.row(row)[base + d] = dk[i];
        else head_key_rope[((long long)head * sizes.tokens + row) * sizes.rope + d - sizes.nope] = dk[i];
    }

    for (int i = threadIdx.x; i < Rows * columns; i += Threads) {
        int row = tile.first + i / columns;
        if (row < tile.end) grad_key_value.row(row)[base + sizes.nope + i % columns] = dv[i];
    }
}

// gradKeyRope[t, d] = the heads' shares in index order. Grid: blocks of 256 elements.
extern "C" __global__ void sum_head_key_rope(const float* head_key_rope, Matrix grad_key_rope, int heads) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    long long count = (long long)grad_key_rope.rows * grad_key_rope.columns;
    if (i >= count) return;
    float sum = 0;
    for (int h = 0; h < heads; h++) sum += head_key_rope[h * count + i];
    grad_key_rope.row(i / grad_key_rope.columns)[i % grad_key_rope.columns] = sum;
}
