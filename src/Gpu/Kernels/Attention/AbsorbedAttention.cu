// The absorbed form of latent attention for decoding: the projections of kv_b are applied to the query and to the
// context, the cache holds the normalised latent and the rotated key in pages. Three passes: absorb the query, attend to
// chunks of 256 cached positions side by side, join the chunks in rising order and project. Chunks are counted from
// position 0, so a row's bits depend on its position alone. Blocks of 256 threads.
// Bytes: kv_b once for each 8 rows, the cache once for each row and 4 heads (from the second on out of L2).
// Measured (benchmarks/Gpu/results): generation-h100.txt.
#include "Attention/AttentionTiles.cuh"
#include "BFloat16.cuh"

constexpr int Chunk = 256, Step = 64, Warps = 8, RowsAtOnce = 8, HeadsAtOnce = 4, ValuesAtOnce = 32, PageTokens = 64;
constexpr int Ahead = 16;

// Cached rows [latent | rotated key], float32 or bfloat16; mirrors DeviceLatentPages. Token j of row r lies in page
// table[sequences[r], j / 64], at j % 64; row r is of the token at positions[r].
struct Pages {
    void* rows;
    int width, stride, stored;
    const int* table;
    int table_columns;
    const int* sequences;
    const int* positions;

    __device__ int seen(int row) const { return positions[row] + 1; }

    __device__ const int* pages_of(int row) const { return table + (long long)sequences[row] * table_columns; }

    template <class T>
    __device__ T* token(const int* pages, int j) const {
        return (T*)rows + ((long long)pages[j / PageTokens] * PageTokens + j % PageTokens) * stride;
    }
};

// pages[token of row] = [latent row | key row], rounded where pages are bfloat16. Grid: rows.
extern "C" __global__ void __launch_bounds__(256)
store_latents(Matrix latent, Matrix key, Pages pages, const Fault* fault) {
    if (is_set(fault)) return;
    const int row = blockIdx.x, at = pages.positions[row];
    const int* own = pages.pages_of(row);
    for (int c = threadIdx.x; c < pages.width; c += blockDim.x) {
        const float value = c < latent.columns ? latent.row(row)[c] : key.row(row)[c - latent.columns];
        if (pages.stored) pages.token<BFloat16>(own, at)[c].bits = (unsigned short)bfloat16_bits(value);
        else pages.token<float>(own, at)[c] = value;
    }
}

// absorbed[row, head, c] = sum over n of qNope[n] Wk[n, c]: qNope . (Wk c) = (Wk^T qNope) . c. Grid: 8 rows by heads by
// 256 channels of the latent. Shared, in floats: q[8][nope].
extern "C" __global__ void __launch_bounds__(256)
absorb_query(Matrix query, Matrix up, AttentionSizes sizes, float* absorbed) {
    extern __shared__ float q[];
    const int latent = up.columns, head = blockIdx.y, first = blockIdx.x * RowsAtOnce;
    const int count = min(RowsAtOnce, query.rows - first), base = head * (sizes.nope + sizes.value);
    for (int i = threadIdx.x; i < count * sizes.nope; i += blockDim.x)
        q[i] = query.row(first + i / sizes.nope)[head * sizes.key() + i % sizes.nope];
    for (int i = count * sizes.nope + threadIdx.x; i < RowsAtOnce * sizes.nope; i += blockDim.x) q[i] = 0;
    __syncthreads();
    const int c = blockIdx.z * blockDim.x + threadIdx.x;
    if (c >= latent) return;
    float sum[RowsAtOnce] = {};
    const float* weights = up.row(base) + c;
    for (int n0 = 0; n0 < sizes.nope; n0 += Ahead) {
        // As many loads on their way as hide the way.
        float weight[Ahead];
#pragma unroll
        for (int n = 0; n < Ahead; n++) weight[n] = n0 + n < sizes.nope ? weights[(long long)(n0 + n) * up.stride] : 0.0f;
#pragma unroll
        for (int n = 0; n < Ahead; n++)
            if (n0 + n < sizes.nope) {
#pragma unroll
                for (int r = 0; r < RowsAtOnce; r++) sum[r] = fmaf(q[r * sizes.nope + n0 + n], weight[n], sum[r]);
            }
    }

    for (int r = 0; r < count; r++) absorbed[((long long)(first + r) * sizes.heads + head) * latent + c] = sum[r];
}

// partial[row, head, chunk] = [maximum, sum, context of `latent`] of the positions [256 chunk, 256 chunk + 256) that
// the row sees. Grid: rows by 4 heads by chunks. Shared, in floats: q[4][latent + rope], context[4][latent], p[4][64],
// factor[4].
template <class T>
__device__ void attend_chunk(
    const Matrix& query, const float* absorbed, const Pages& pages, const AttentionSizes& sizes, float* partial) {
    extern __shared__ float shared[];
    const int row = blockIdx.x, first = blockIdx.y * HeadsAtOnce, latent = pages.width - sizes.rope;
    const int heads = min(HeadsAtOnce, sizes.heads - first);
    const int start = blockIdx.z * Chunk, end = min(start + Chunk, pages.seen(row));
    if (start >= end) return;
    const int* own = pages.pages_of(row);
    float* q = shared;
    float* context = q + HeadsAtOnce * pages.width;
    float* p = context + HeadsAtOnce * latent;
    float* factors = p + HeadsAtOnce * Step;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

    for (int h = 0; h < HeadsAtOnce; h++) {
        const float* a = absorbed + ((long long)row * sizes.heads + first + h) * latent;
        const float* rope = query.row(row) + (first + h) * sizes.key() + sizes.nope;
        for (int c = threadIdx.x; c < pages.width; c += blockDim.x)
            q[h * pages.width + c] = h >= heads ? 0.0f : c < latent ? a[c] : rope[c - latent];
    }

    for (int c = threadIdx.x; c < HeadsAtOnce * latent; c += blockDim.x) context[c] = 0;
    // Of head `warp`, in the first four warps.
    float maximum = NEGATIVE_INFINITY, sum = 0;
    for (int j0 = start; j0 < end; j0 += Step) {
        __syncthreads();
        const int count = min(Step, end - j0);
        for (int j = warp; j < count; j += Warps) {
            const T* cached = pages.token<T>(own, j0 + j);
            float score[HeadsAtOnce] = {};
            for (int c0 = lane; c0 < pages.width; c0 += 32 * Ahead) {
                float values[Ahead];
#pragma unroll
                for (int i = 0; i < Ahead; i++)
                    values[i] = c0 + 32 * i < pages.width ? widen(cached[c0 + 32 * i]) : 0.0f;
#pragma unroll
                for (int i = 0; i < Ahead; i++)
                    if (c0 + 32 * i < pages.width) {
#pragma unroll
                        for (int h = 0; h < HeadsAtOnce; h++)
                            score[h] = fmaf(q[h * pages.width + c0 + 32 * i], values[i], score[h]);
                    }
            }

#pragma unroll
            for (int h = 0; h < HeadsAtOnce; h++) {
                const float whole = sizes.scale * warp_sum(score[h]);
                if (lane == 0) p[h * Step + j] = whole;
            }
        }

        __syncthreads();
        if (warp < HeadsAtOnce) {
            float* own_p = p + warp * Step;
            const float low = lane < count ? own_p[lane] : NEGATIVE_INFINITY;
            const float high = lane + 32 < count ? own_p[lane + 32] : NEGATIVE_INFINITY;
            const float now = fmaxf(maximum, warp_max(fmaxf(low, high)));
            const float low_weight = lane < count ? expf(low - now) : 0.0f;
            const float high_weight = lane + 32 < count ? expf(high - now) : 0.0f;
            const float factor = expf(maximum - now);
            sum = sum * factor + warp_sum(low_weight + high_weight);
            own_p[lane] = low_weight;
            own_p[lane + 32] = high_weight;
            maximum = now;
            if (lane == 0) factors[warp] = factor;
        }

        __syncthreads();
        for (int c = threadIdx.x; c < latent; c += blockDim.x) {
            float value[HeadsAtOnce];
#pragma unroll
            for (int h = 0; h < HeadsAtOnce; h++) value[h] = context[h * latent + c] * factors[h];
            // Steps begin at multiples of 64: a step lies in one page, and p is 0 behind its last token.
            const T* tokens = pages.token<T>(own, j0) + c;
            for (int j1 = 0; j1 < count; j1 += Ahead) {
                float cached[Ahead];
#pragma unroll
                for (int j = 0; j < Ahead; j++)
                    cached[j] = j1 + j < count ? widen(tokens[(long long)(j1 + j) * pages.stride]) : 0.0f;
#pragma unroll
                for (int j = 0; j < Ahead; j++)
#pragma unroll
                    for (int h = 0; h < HeadsAtOnce; h++)
                        value[h] = fmaf(p[h * Step + j1 + j], cached[j], value[h]);
            }

#pragma unroll
            for (int h = 0; h < HeadsAtOnce; h++) context[h * latent + c] = value[h];
        }
    }

    for (int h = 0; h < heads; h++) {
        float* out = partial + (((long long)row * sizes.heads + first + h) * gridDim.z + blockIdx.z) * (latent + 2);
        for (int c = threadIdx.x; c < latent; c += blockDim.x) out[2 + c] = context[h * latent + c];
        if (warp == h && lane == 0) {
            out[0] = maximum;
            out[1] = sum;
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
absorbed_chunk(Matrix query, const float* absorbed, Pages pages, AttentionSizes sizes, float* partial, const Fault* fault) {
    if (is_set(fault)) return;
    attend_chunk<float>(query, absorbed, pages, sizes, partial);
}

extern "C" __global__ void __launch_bounds__(256) absorbed_chunk_bfloat16(
    Matrix query, const float* absorbed, Pages pages, AttentionSizes sizes, float* partial, const Fault* fault) {
    if (is_set(fault)) return;
    attend_chunk<BFloat16>(query, absorbed, pages, sizes, partial);
}

// output[row, head] = Wv (context of all chunks / sum): sum of p (Wv c) = Wv (sum of p c). Grid: 8 rows by heads by 32
// values. Shared, in floats: context[8][latent].
extern "C" __global__ void __launch_bounds__(256) join_chunks(
    const float* partial, int chunks, Matrix up, Pages pages, Matrix output, AttentionSizes sizes, const Fault* fault) {
    extern __shared__ float context[];
    if (is_set(fault)) return;
    const int latent = up.columns, head = blockIdx.y, first = blockIdx.x * RowsAtOnce, width = latent + 2;
    const int count = min(RowsAtOnce, output.rows - first);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int r = 0; r < RowsAtOnce; r++) {
        if (r >= count) {
            for (int c = threadIdx.x; c < latent; c += blockDim.x) context[r * latent + c] = 0;
            continue;
        }

        const float* parts = partial + ((long long)(first + r) * sizes.heads + head) * chunks * width;
        const int seen = (pages.seen(first + r) + Chunk - 1) / Chunk;
        float maximum = NEGATIVE_INFINITY, sum = 0;
        for (int chunk = 0; chunk < seen; chunk++) maximum = fmaxf(maximum, parts[chunk * width]);
        for (int chunk = 0; chunk < seen; chunk++)
            sum = fmaf(expf(parts[chunk * width] - maximum), parts[chunk * width + 1], sum);
        for (int c = threadIdx.x; c < latent; c += blockDim.x) {
            float value = 0;
            for (int chunk = 0; chunk < seen; chunk++)
                value = fmaf(expf(parts[chunk * width] - maximum), parts[chunk * width + 2 + c], value);
            context[r * latent + c] = value / sum;
        }
    }

    __syncthreads();
    const int last = min(sizes.value, (int)(blockIdx.z + 1) * ValuesAtOnce);
    for (int v = blockIdx.z * ValuesAtOnce + warp; v < last; v += Warps) {
        const float* projection = up.row(head * (sizes.nope + sizes.value) + sizes.nope + v);
        float dot[RowsAtOnce] = {};
        for (int c0 = lane; c0 < latent; c0 += 32 * Ahead) {
            float weight[Ahead];
#pragma unroll
            for (int i = 0; i < Ahead; i++) weight[i] = c0 + 32 * i < latent ? projection[c0 + 32 * i] : 0.0f;
#pragma unroll
            for (int i = 0; i < Ahead; i++)
                if (c0 + 32 * i < latent) {
#pragma unroll
                    for (int r = 0; r < RowsAtOnce; r++)
                        dot[r] = fmaf(context[r * latent + c0 + 32 * i], weight[i], dot[r]);
                }
        }

        for (int r = 0; r < count; r++) {
            const float whole = warp_sum(dot[r]);
            if (lane == 0) output.row(first + r)[head * sizes.value + v] = whole;
        }
    }
}
