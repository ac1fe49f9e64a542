// The absorbed form of latent attention for decoding: the projections of kv_b are applied to the query and to the
// context, the cache holds the normalised latent and the rotated key in pages. Three passes: absorb the query, attend to
// chunks of a row's pages side by side, join the chunks in rising order and project. A row has up to 16 chunks, of a page
// each or of several, by its position alone: so do its bits. Blocks of 256 threads.
// Bytes: kv_b once for each 8 rows, the cache once for each row and 4 heads (from the second on out of L2).
// Measured (benchmarks/Gpu/results): generation-h100.txt.
#include "Attention/AttentionTiles.cuh"
#include "Attention/LatentPages.cuh"

constexpr int Step = PageTokens, Warps = 8, RowsAtOnce = 8, HeadsAtOnce = 4;
constexpr int Ahead = 16, Channels = 64, Parts = 4, PartAhead = 32, TokensOfWarp = Step / Warps;

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

// absorbed[row, head, c] = sum over n of qNope[n] Wk[n, c]: qNope . (Wk c) = (Wk^T qNope) . c; a quarter of the n for each
// 64 threads. Grid: 8 rows by heads by 64 channels of the latent. Shared, in floats: q[8][nope].
extern "C" __global__ void __launch_bounds__(256)
absorb_query(Matrix query, Matrix up, AttentionSizes sizes, float* absorbed) {
    extern __shared__ float q[];
    __shared__ float sums[Parts][RowsAtOnce][Channels];
    const int latent = up.columns, head = blockIdx.y, first = blockIdx.x * RowsAtOnce;
    const int count = min(RowsAtOnce, query.rows - first), base = head * (sizes.nope + sizes.value);
    const int own = threadIdx.x % Channels, part = threadIdx.x / Channels, c = blockIdx.z * Channels + own;
    const int each = (sizes.nope + Parts - 1) / Parts, begin = part * each, end = min(begin + each, sizes.nope);
    const float* weights = up.row(base) + c;
    // As many loads on their way as hide the way, the first of them before the query is read.
    float weight[PartAhead];
    const auto load = [&](int n0) {
#pragma unroll
        for (int n = 0; n < PartAhead; n++)
            weight[n] = n0 + n < end && c < latent ? weights[(long long)(n0 + n) * up.stride] : 0.0f;
    };
    load(begin);
    for (int i = threadIdx.x; i < count * sizes.nope; i += blockDim.x)
        q[i] = query.row(first + i / sizes.nope)[head * sizes.key() + i % sizes.nope];
    for (int i = count * sizes.nope + threadIdx.x; i < RowsAtOnce * sizes.nope; i += blockDim.x) q[i] = 0;
    __syncthreads();
    float sum[RowsAtOnce] = {};
    for (int n0 = begin; n0 < end; n0 += PartAhead) {
        if (n0 > begin) load(n0);
#pragma unroll
        for (int n = 0; n < PartAhead; n++)
            if (n0 + n < end) {
#pragma unroll
                for (int r = 0; r < RowsAtOnce; r++) sum[r] = fmaf(q[r * sizes.nope + n0 + n], weight[n], sum[r]);
            }
    }

#pragma unroll
    for (int r = 0; r < RowsAtOnce; r++) sums[part][r][own] = sum[r];
    __syncthreads();
    for (int r = part; r < count; r += Parts) {
        float whole = sums[0][r][own];
        for (int other = 1; other < Parts; other++) whole += sums[other][r][own];
        if (c < latent) absorbed[((long long)(first + r) * sizes.heads + head) * latent + c] = whole;
    }
}

// The sum over lanes of values[l] to lane l, in the order of warp_sum.
__device__ inline float warp_sums(float (&values)[32]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int stage = 0; stage < 5; stage++) {
        const int distance = 16 >> stage;
        const bool upper = lane & distance;
#pragma unroll
        for (int i = 0; i < 16; i++) {
            // No index of a register may be a variable.
            if (i >= distance) continue;
            const float kept = upper ? values[i + distance] : values[i];
            const float given = upper ? values[i] : values[i + distance];
            values[i] = kept + __shfl_xor_sync(~0u, given, distance);
        }
    }

    return values[0];
}

// partial[row, head, chunk] = [maximum, sum, context of `latent`] of the positions of a chunk that the row sees. Grid: rows
// by 4 heads by chunks. Shared, in floats: q[4][latent + rope], context[4][latent], p[4][64], factor[4]; and, with `pitch`,
// a page of rows so many elements apart.
template <class T>
__device__ void attend_chunk(
    const Matrix& query, const float* absorbed, const Pages& pages, const AttentionSizes& sizes, int pitch,
    float* partial) {
    extern __shared__ float4 shared[];
    const int row = blockIdx.x, first = blockIdx.y * HeadsAtOnce, width = pages.width, latent = width - sizes.rope;
    const int heads = min(HeadsAtOnce, sizes.heads - first);
    const int seen = pages.seen(row), each = pages.pages_of_chunk(row);
    const int begin = blockIdx.z * each * Step, end = min(begin + each * Step, seen);
    if (begin >= end) return;
    const int* own = pages.pages_of(row);
    float* q = (float*)shared;
    float* context = q + HeadsAtOnce * width;
    float* p = context + HeadsAtOnce * latent;
    float* factors = p + HeadsAtOnce * Step;
    T* room = (T*)(factors + HeadsAtOnce);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

    for (int h = 0; h < HeadsAtOnce; h++) {
        const float* a = absorbed + ((long long)row * sizes.heads + first + h) * latent;
        const float* rope = query.row(row) + (first + h) * sizes.key() + sizes.nope;
        for (int c = threadIdx.x; c < width; c += blockDim.x)
            q[h * width + c] = h >= heads ? 0.0f : c < latent ? a[c] : rope[c - latent];
    }

    for (int c = threadIdx.x; c < HeadsAtOnce * latent; c += blockDim.x) context[c] = 0;
    // Of head `warp`, in the first four warps.
    float maximum = NEGATIVE_INFINITY, sum = 0;
    for (int j0 = begin; j0 < end; j0 += Step) {
        __syncthreads();
        const int count = min(Step, end - j0);
        // Steps begin at multiples of 64: a step lies in one page.
        const T* tokens = pages.token<T>(own, j0);
        int stride = pages.stride;
        if (pitch) {
            stage_page(tokens, stride, count, width, room, pitch);
            tokens = room;
            stride = pitch;
            __syncthreads();
        }

        float score[32] = {};
        for (int c = lane; c < width; c += 32) {
            float values[TokensOfWarp], of_heads[HeadsAtOnce];
#pragma unroll
            for (int i = 0; i < TokensOfWarp; i++)
                values[i] = warp + i * Warps < count ? widen(tokens[(long long)(warp + i * Warps) * stride + c]) : 0.0f;
#pragma unroll
            for (int h = 0; h < HeadsAtOnce; h++) of_heads[h] = q[h * width + c];
#pragma unroll
            for (int i = 0; i < TokensOfWarp; i++)
#pragma unroll
                for (int h = 0; h < HeadsAtOnce; h++)
                    score[i * HeadsAtOnce + h] = fmaf(of_heads[h], values[i], score[i * HeadsAtOnce + h]);
        }

        const float whole = sizes.scale * warp_sums(score);
        p[lane % HeadsAtOnce * Step + lane / HeadsAtOnce * Warps + warp] = whole;
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
        // Two channels of a thread at a time.
        for (int c = 2 * threadIdx.x; c < latent; c += 2 * blockDim.x) {
            const bool both = c + 1 < latent;
            float left[HeadsAtOnce], right[HeadsAtOnce];
#pragma unroll
            for (int h = 0; h < HeadsAtOnce; h++) {
                left[h] = context[h * latent + c] * factors[h];
                right[h] = both ? context[h * latent + c + 1] * factors[h] : 0.0f;
            }

            // p is 0 behind the last token.
            for (int j1 = 0; j1 < count; j1 += Ahead) {
                float lefts[Ahead], rights[Ahead];
#pragma unroll
                for (int j = 0; j < Ahead; j++) {
                    const T* token = tokens + (long long)(j1 + j) * stride + c;
                    lefts[j] = j1 + j < count ? widen(token[0]) : 0.0f;
                    rights[j] = j1 + j < count && both ? widen(token[1]) : 0.0f;
                }
#pragma unroll
                for (int j = 0; j < Ahead; j++)
#pragma unroll
                    for (int h = 0; h < HeadsAtOnce; h++) {
                        left[h] = fmaf(p[h * Step + j1 + j], lefts[j], left[h]);
                        right[h] = fmaf(p[h * Step + j1 + j], rights[j], right[h]);
                    }
            }

#pragma unroll
            for (int h = 0; h < HeadsAtOnce; h++) {
                context[h * latent + c] = left[h];
                if (both) context[h * latent + c + 1] = right[h];
            }
        }
    }

    // A thread of the channels' loop has others of the loop above.
    __syncthreads();
    for (int h = 0; h < heads; h++) {
        float* out = partial + (((long long)row * sizes.heads + first + h) * gridDim.z + blockIdx.z) * (latent + 2);
        for (int c = threadIdx.x; c < latent; c += blockDim.x) out[2 + c] = context[h * latent + c];
        if (warp == h && lane == 0) {
            out[0] = maximum;
            out[1] = sum;
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) absorbed_chunk(
    Matrix query, const float* absorbed, Pages pages, AttentionSizes sizes, int pitch, float* partial, const Fault* fault) {
    if (is_set(fault)) return;
    attend_chunk<float>(query, absorbed, pages, sizes, pitch, partial);
}

extern "C" __global__ void __launch_bounds__(256) absorbed_chunk_bfloat16(
    Matrix query, const float* absorbed, Pages pages, AttentionSizes sizes, int pitch, float* partial, const Fault* fault) {
    if (is_set(fault)) return;
    attend_chunk<BFloat16>(query, absorbed, pages, sizes, pitch, partial);
}

// output[row, head] = Wv (context of all chunks / sum): sum of p (Wv c) = Wv (sum of p c). Grid: 8 rows by heads by
// `values` values, 8 or more. Shared, in floats: context[8][latent].
extern "C" __global__ void __launch_bounds__(256) join_chunks(
    const float* partial, int chunks, Matrix up, Pages pages, Matrix output, AttentionSizes sizes, int values,
    const Fault* fault) {
    extern __shared__ float context[];
    __shared__ float factors[RowsAtOnce][Chunks];
    if (is_set(fault)) return;
    const int latent = up.columns, head = blockIdx.y, first = blockIdx.x * RowsAtOnce, width = latent + 2;
    const int count = min(RowsAtOnce, output.rows - first);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int begin = blockIdx.z * values + warp, last = min(sizes.value, (int)(blockIdx.z + 1) * values);
    const float* projections = up.row(head * (sizes.nope + sizes.value) + sizes.nope);
    float weight[Ahead];
    const auto load = [&](int v, int c0) {
#pragma unroll
        for (int i = 0; i < Ahead; i++)
            weight[i] = v < last && c0 + 32 * i < latent ? projections[(long long)v * up.stride + c0 + 32 * i] : 0.0f;
    };
    // On its way while the chunks are joined.
    load(begin, lane);
    const auto parts_of = [&](int r) { return partial + ((long long)(first + r) * sizes.heads + head) * chunks * width; };
    const auto used = [&](int r) {
        const int each = pages.pages_of_chunk(first + r);
        return (pages.pages_seen(first + r) + each - 1) / each;
    };
    if (warp < count) {
        const bool own = lane < used(warp);
        const float* part = parts_of(warp) + (long long)lane * width;
        const float of_chunk = own ? part[0] : NEGATIVE_INFINITY, sum_of_chunk = own ? part[1] : 0.0f;
        const float maximum = warp_max(of_chunk), factor = own ? expf(of_chunk - maximum) : 0.0f;
        const float sum = warp_sum(factor * sum_of_chunk);
        if (lane < Chunks) factors[warp][lane] = factor / sum;
    }

    __syncthreads();
    for (int r = 0; r < RowsAtOnce; r++) {
        const int seen = r < count ? used(r) : 0;
        const float* parts = r < count ? parts_of(r) : partial;
        for (int c = threadIdx.x; c < latent; c += blockDim.x) {
            float value = 0;
#pragma unroll 4
            for (int chunk = 0; chunk < seen; chunk++)
                value = fmaf(factors[r][chunk], parts[chunk * width + 2 + c], value);
            context[r * latent + c] = value;
        }
    }

    __syncthreads();
    for (int v = begin; v < last; v += Warps) {
        float dot[RowsAtOnce] = {};
        for (int c0 = lane; c0 < latent; c0 += 32 * Ahead) {
            if (v > begin || c0 > lane) load(v, c0);
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
