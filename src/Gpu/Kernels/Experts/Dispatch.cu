// The plan of a layer whose experts all live on this device: its (token, expert) pairs sorted by expert, tokens in order.
// Three kernels: pairs counted by piece and expert, the counts added up, each pair brought to its place; of one piece one.
// Bytes: the indices twice, the table once.
#include "Tensors.cuh"

// Pairs of a piece; threads of its block.
constexpr int Piece = 1024, Lanes = 32, Warps = Piece / Lanes, ColumnUnit = 128;

__device__ inline int expert_of(const IntMatrix& indices, int pair) {
    return indices.row(pair / indices.columns)[pair % indices.columns];
}

// counts[p, e] = pairs of piece p that chose expert e. Grid: a block for each piece. Shared: int [E].
extern "C" __global__ void __launch_bounds__(Piece)
count_experts(IntMatrix indices, int pairs, int experts, int* counts) {
    extern __shared__ int own[];
    for (int e = threadIdx.x; e < experts; e += Piece) own[e] = 0;
    __syncthreads();
    const int pair = blockIdx.x * Piece + threadIdx.x;
    if (pair < pairs) atomicAdd(&own[expert_of(indices, pair)], 1);
    __syncthreads();
    for (int e = threadIdx.x; e < experts; e += Piece) counts[(long long)blockIdx.x * experts + e] = own[e];
}

// Inclusive sums of two values over a block, in place.
__device__ void add_up(int* first, int* second, int count) {
    for (int distance = 1; distance < count; distance *= 2) {
        int a = 0, b = 0;
        const int i = threadIdx.x;
        if (i < count && i >= distance) a = first[i - distance], b = second[i - distance];
        __syncthreads();
        if (i < count) first[i] += a, second[i] += b;
        __syncthreads();
    }
}

// offsets[0, e] = pairs of the experts ahead of e, offsets[1, e] the same of numbers rounded up to ColumnUnit; counts[p, e]
// becomes the place of piece p's first pair of e. One block; experts in runs of its threads, as many threads for each as
// there are, with a segment of the pieces each.
extern "C" __global__ void __launch_bounds__(Piece)
place_experts(int* counts, int pieces, int experts, int* offsets) {
    constexpr int Ahead = 8;
    __shared__ int of_segments[Piece], ends[Piece], column_ends[Piece];
    int before = 0, columns_before = 0;
    if (threadIdx.x == 0) offsets[0] = offsets[experts + 1] = 0;
    for (int start = 0; start < experts; start += Piece) {
        const int count = min(Piece, experts - start), segments = Piece / count;
        const int segment = threadIdx.x / count, own = threadIdx.x % count, each = (pieces + segments - 1) / segments;
        const int first = min(pieces, segment * each), end = segment < segments ? min(pieces, first + each) : first;
        int* of_pieces = counts + start + own;
        int sum = 0;
#pragma unroll 8
        for (int p = first; p < end; p++) sum += of_pieces[(long long)p * experts];
        if (segment < segments) of_segments[threadIdx.x] = sum;
        __syncthreads();
        int total = 0;
        if (threadIdx.x < count) {
            for (int s = 0; s < segments; s++) {
                const int pairs = of_segments[s * count + own];
                of_segments[s * count + own] = total;
                total += pairs;
            }

            ends[own] = total;
            column_ends[own] = (total + ColumnUnit - 1) / ColumnUnit * ColumnUnit;
        }

        __syncthreads();
        add_up(ends, column_ends, count);
        if (threadIdx.x < count) {
            const int e = start + own;
            offsets[e + 1] = before + ends[own];
            offsets[experts + 1 + e + 1] = columns_before + column_ends[own];
        }

        const int next = before + ends[count - 1], next_columns = columns_before + column_ends[count - 1];
        int place = segment < segments ? before + (own > 0 ? ends[own - 1] : 0) + of_segments[threadIdx.x] : 0;
        for (int p = first; p < end; p += Ahead) {
            int pairs[Ahead];
#pragma unroll
            for (int i = 0; i < Ahead; i++) pairs[i] = p + i < end ? of_pieces[(long long)(p + i) * experts] : 0;
#pragma unroll
            for (int i = 0; i < Ahead; i++)
                if (p + i < end) {
                    of_pieces[(long long)(p + i) * experts] = place;
                    place += pairs[i];
                }
        }

        before = next;
        columns_before = next_columns;
        __syncthreads();
    }
}

// rows[a] = token and assignments[t, k] = a of each pair: behind the pairs of its expert in the pieces, warps and lanes
// ahead. Grid: a block for each piece. Shared: int [Warps, E].
extern "C" __global__ void __launch_bounds__(Piece)
sort_pairs(IntMatrix indices, int pairs, int experts, const int* places, int* rows, int* assignments) {
    extern __shared__ int of_warps[];
    const int warp = threadIdx.x / Lanes, lane = threadIdx.x % Lanes;
    for (int i = threadIdx.x; i < Warps * experts; i += Piece) of_warps[i] = 0;
    __syncthreads();
    const int pair = blockIdx.x * Piece + threadIdx.x;
    const int expert = pair < pairs ? expert_of(indices, pair) : -1;
    const unsigned same = __match_any_sync(~0u, expert);
    const int ahead = __popc(same & ((1u << lane) - 1));
    if (expert >= 0 && ahead == 0) of_warps[warp * experts + expert] = __popc(same);
    __syncthreads();
    for (int e = threadIdx.x; e < experts; e += Piece) {
        int place = places[(long long)blockIdx.x * experts + e];
        for (int w = 0; w < Warps; w++) {
            const int own = of_warps[w * experts + e];
            of_warps[w * experts + e] = place;
            place += own;
        }
    }

    __syncthreads();
    if (expert < 0) return;
    const int assignment = of_warps[warp * experts + expert] + ahead;
    rows[assignment] = pair / indices.columns;
    assignments[pair] = assignment;
}

// The three in one, of up to 1024 pairs and experts, as steps of decoding have them. One block with a thread for each pair
// and each expert, of whole warps. Shared: int [warps + 2, E].
extern "C" __global__ void __launch_bounds__(Piece)
plan_few(IntMatrix indices, int pairs, int experts, int* offsets, int* rows, int* assignments) {
    extern __shared__ int of_warps[];
    const int warps = blockDim.x / Lanes, warp = threadIdx.x / Lanes, lane = threadIdx.x % Lanes, e = threadIdx.x;
    int* ends = of_warps + warps * experts;
    int* column_ends = ends + experts;
    for (int i = threadIdx.x; i < warps * experts; i += blockDim.x) of_warps[i] = 0;
    __syncthreads();
    const int pair = threadIdx.x, expert = pair < pairs ? expert_of(indices, pair) : -1;
    const unsigned same = __match_any_sync(~0u, expert);
    const int ahead = __popc(same & ((1u << lane) - 1));
    if (expert >= 0 && ahead == 0) of_warps[warp * experts + expert] = __popc(same);
    __syncthreads();
    int total = 0;
    if (e < experts) {
        for (int w = 0; w < warps; w++) total += of_warps[w * experts + e];
        ends[e] = total;
        column_ends[e] = (total + ColumnUnit - 1) / ColumnUnit * ColumnUnit;
    }

    __syncthreads();
    add_up(ends, column_ends, experts);
    if (e < experts) {
        int place = ends[e] - total;
        for (int w = 0; w < warps; w++) {
            const int own = of_warps[w * experts + e];
            of_warps[w * experts + e] = place;
            place += own;
        }

        offsets[e + 1] = ends[e];
        offsets[experts + 1 + e + 1] = column_ends[e];
        if (e == 0) offsets[0] = offsets[experts + 1] = 0;
    }

    __syncthreads();
    if (expert < 0) return;
    const int assignment = of_warps[warp * experts + expert] + ahead;
    rows[assignment] = pair / indices.columns;
    assignments[pair] = assignment;
}
