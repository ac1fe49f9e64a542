// The absorbed form of latent attention for decoding: the projections of kv_b are applied to the query and to the
// context, the cache holds the normalised latent and the rotated key. Grid: query rows by heads; block: 256 threads.
// Bytes: the cache once for each row and head.
#include "AttentionTiles.cuh"

constexpr int Chunk = 64, Warps = 8;

// Shared, in floats: absorbed[latent], context[latent], p[64], room[8]. Row r sees cache rows 0 to first_position + r.
extern "C" __global__ void __launch_bounds__(256) absorbed_attention(
    Matrix query, Matrix up, Matrix cache, int first_position, Matrix output, AttentionSizes sizes) {
    extern __shared__ float shared[];
    const int latent = up.columns, head = blockIdx.y, row = blockIdx.x;
    float* absorbed = shared;
    float* context = absorbed + latent;
    float* p = context + latent;
    float* room = p + Chunk;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const float* q = query.row(row) + head * sizes.key();
    const int base = head * (sizes.nope + sizes.value);

    // qNope . (Wk c) = (Wk^T qNope) . c.
    for (int c = threadIdx.x; c < latent; c += blockDim.x) {
        float sum = 0;
        for (int n = 0; n < sizes.nope; n++) sum = fmaf(q[n], up.row(base + n)[c], sum);
        absorbed[c] = sum;
        context[c] = 0;
    }

    float maximum = NEGATIVE_INFINITY, sum = 0;
    const int positions = first_position + row + 1;
    for (int j0 = 0; j0 < positions; j0 += Chunk) {
        __syncthreads();
        const int count = min(Chunk, positions - j0);
        for (int j = warp; j < count; j += Warps) {
            const float* cached = cache.row(j0 + j);
            float partial = 0;
            for (int c = lane; c < latent; c += 32) partial = fmaf(absorbed[c], cached[c], partial);
            for (int d = lane; d < sizes.rope; d += 32) partial = fmaf(q[sizes.nope + d], cached[latent + d], partial);
            partial = sizes.scale * warp_sum(partial);
            if (lane == 0) p[j] = partial;
        }

        __syncthreads();
        float score = threadIdx.x < count ? p[threadIdx.x] : NEGATIVE_INFINITY;
        float now = fmaxf(maximum, block_max(score, room));
        float weight = threadIdx.x < count ? expf(score - now) : 0.0f;
        float factor = expf(maximum - now);
        sum = sum * factor + block_sum(weight, room);
        if (threadIdx.x < count) p[threadIdx.x] = weight;
        maximum = now;
        __syncthreads();
        for (int c = threadIdx.x; c < latent; c += blockDim.x) {
            float value = context[c] * factor;
            for (int j = 0; j < count; j++) value = fmaf(p[j], cache.row(j0 + j)[c], value);
            context[c] = value;
        }
    }

    __syncthreads();
    for (int c = threadIdx.x; c < latent; c += blockDim.x) context[c] /= sum;
    __syncthreads();

    // sum of p (Wv c) = Wv (sum of p c).
    for (int v = warp; v < sizes.value; v += Warps) {
        const float* projection = up.row(base + sizes.nope + v);
        float partial = 0;
        for (int c = lane; c < latent; c += 32) partial = fmaf(context[c], projection[c], partial);
        partial = warp_sum(partial);
        if (lane == 0) output.row(row)[head * sizes.value + v] = partial;
    }
}
