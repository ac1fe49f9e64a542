// The gate (report eq. 12-16), its gradient, and the factors of the balance loss. Grid: a warp for each token; shared
// memory: floats for the experts and groups. Bytes: logits and scores once.
#include "Tensors.cuh"

constexpr float WeightSumEpsilon = 1e-20f;

// Mirrors DeviceRouting.
struct Routing {
    int experts, top_k, groups, kept_groups;
    int softmax, group_by_top_two, normalize;
    float scaling_factor;
};

// Marks the `count` largest of n values with flag[i] = 1, the lowest position among equals; flag is 0 elsewhere.
// Called by a whole warp.
__device__ void mark_largest(const float* values, int n, int count, int* flag) {
    int lane = threadIdx.x;
    for (int i = lane; i < n; i += 32) flag[i] = 0;
    __syncwarp();
    for (int k = 0; k < count; k++) {
        float best = 0;
        int at = -1;
        for (int i = lane; i < n; i += 32)
            if (!flag[i] && (at < 0 || values[i] > best)) {
                best = values[i];
                at = i;
            }

        for (int distance = 16; distance > 0; distance /= 2) {
            float other = __shfl_xor_sync(0xffffffffu, best, distance);
            int other_at = __shfl_xor_sync(0xffffffffu, at, distance);
            if (other_at >= 0 && (at < 0 || other > best || (other == best && other_at < at))) {
                best = other;
                at = other_at;
            }
        }

        if (lane == 0) flag[at] = 1;
        __syncwarp();
    }
}

// The scores of all experts outside the kept groups become -inf.
__device__ void mask_groups(float* biased, float* group_scores, int* flag, const Routing& routing) {
    int size = routing.experts / routing.groups;
    for (int group = threadIdx.x; group < routing.groups; group += 32) {
        float first = NEGATIVE_INFINITY, second = NEGATIVE_INFINITY;
        for (int i = 0; i < size; i++) {
            float score = biased[group * size + i];
            if (score > first) {
                second = first;
                first = score;
            } else if (score > second) second = score;
        }

        group_scores[group] = routing.group_by_top_two ? first + second : first;
    }

    __syncwarp();
    mark_largest(group_scores, routing.groups, routing.kept_groups, flag);
    for (int e = threadIdx.x; e < routing.experts; e += 32)
        if (!flag[e / size]) biased[e] = NEGATIVE_INFINITY;
    __syncwarp();
}

// The divisor of the weights; 1 where they are not normalised. Chosen experts in rising order, on every lane.
__device__ float weight_sum(const float* scores, const int* chosen, const Routing& routing) {
    if (!routing.normalize) return 1.0f;
    float sum = 0;
    for (int k = 0; k < routing.top_k; k++) sum += scores[chosen[k]];
    return sum + WeightSumEpsilon;
}

// Shared: float biased[E], float group_scores[groups], int flag[E].
extern "C" __global__ void __launch_bounds__(32) route(
    Matrix logits, const float* bias, Matrix scores, IntMatrix indices, Matrix weights, Routing routing) {
    extern __shared__ float shared[];
    float* biased = shared;
    float* group_scores = biased + routing.experts;
    int* flag = (int*)(group_scores + routing.groups);
    int lane = threadIdx.x;
    const float* x = logits.row(blockIdx.x);
    float* s = scores.row(blockIdx.x);

    if (routing.softmax) {
        float maximum = NEGATIVE_INFINITY;
        for (int e = lane; e < routing.experts; e += 32) maximum = fmaxf(maximum, x[e]);
        maximum = warp_max(maximum);
        float sum = 0;
        for (int e = lane; e < routing.experts; e += 32) sum += expf(x[e] - maximum);
        sum = warp_sum(sum);
        for (int e = lane; e < routing.experts; e += 32) s[e] = expf(x[e] - maximum) / sum;
    } else
        for (int e = lane; e < routing.experts; e += 32) s[e] = sigmoid(x[e]);

    for (int e = lane; e < routing.experts; e += 32) biased[e] = bias ? s[e] + bias[e] : s[e];
    __syncwarp();
    if (routing.groups > 1) mask_groups(biased, group_scores, flag, routing);
    mark_largest(biased, routing.experts, routing.top_k, flag);

    int* chosen = indices.row(blockIdx.x);
    float* w = weights.row(blockIdx.x);
    if (routing.top_k <= 32) {
        // In rising order: lane k takes the choice that has k ahead of it.
        int own = 0;
        for (int e0 = 0, ahead = 0; e0 < routing.experts; e0 += 32) {
            const unsigned marks = __ballot_sync(0xffffffffu, e0 + lane < routing.experts && flag[e0 + lane]);
            const int place = lane - ahead;
            if (place >= 0 && place < __popc(marks)) own = e0 + __fns(marks, 0, place + 1);
            ahead += __popc(marks);
        }

        __syncwarp();
        const float score = lane < routing.top_k ? s[own] : 0.0f;
        float sum = 0;
        for (int k = 0; k < routing.top_k; k++) sum += __shfl_sync(0xffffffffu, score, k);
        sum = routing.normalize ? sum + WeightSumEpsilon : 1.0f;
        if (lane < routing.top_k) {
            chosen[lane] = own;
            w[lane] = score / sum * routing.scaling_factor;
        }
    } else if (lane == 0) {
        int k = 0;
        for (int e = 0; e < routing.experts; e++)
            if (flag[e]) chosen[k++] = e;
        float sum = weight_sum(s, chosen, routing);
        for (k = 0; k < routing.top_k; k++) w[k] = s[chosen[k]] / sum * routing.scaling_factor;
    }
}

// w_k = c s_k / S: ds_k = (c g_k - sum over j of g_j w_j) / S, then the balance loss, then sigmoid or softmax.
// Shared: float grad_scores[E].
extern "C" __global__ void __launch_bounds__(32) route_backward(
    Matrix grad_weights, Matrix scores, IntMatrix indices, Matrix balance_gradient, const int* sequence_of_token,
    Matrix grad_logits, Routing routing, const Fault* fault) {
    extern __shared__ float grad_scores[];
    if (is_set(fault)) return;
    int lane = threadIdx.x;
    long long t = blockIdx.x;
    const float* s = scores.row(t);
    const float* g = grad_weights.row(t);
    const int* chosen = indices.row(t);

    for (int e = lane; e < routing.experts; e += 32) grad_scores[e] = 0;
    __syncwarp();
    if (lane == 0) {
        float sum = weight_sum(s, chosen, routing);
        float mean = 0;
        if (routing.normalize)
            for (int k = 0; k < routing.top_k; k++)
                mean = fmaf(g[k] * routing.scaling_factor, s[chosen[k]] / sum, mean);
        for (int k = 0; k < routing.top_k; k++) grad_scores[chosen[k]] = (g[k] * routing.scaling_factor - mean) / sum;
    }

    __syncwarp();
    if (balance_gradient.data) {
        const float* b = balance_gradient.row(sequence_of_token ? sequence_of_token[t] : 0);
        float sum = 0, dot = 0;
        for (int e = lane; e < routing.experts; e += 32) {
            sum += s[e];
            dot = fmaf(b[e], s[e], dot);
        }

        sum = warp_sum(sum);
        float mean = warp_sum(dot) / sum;
        for (int e = lane; e < routing.experts; e += 32) grad_scores[e] += (b[e] - mean) / sum;
    }

    float mean = 0;
    if (routing.softmax) {
        for (int e = lane; e < routing.experts; e += 32) mean = fmaf(grad_scores[e], s[e], mean);
        mean = warp_sum(mean);
    }

    float* gl = grad_logits.row(t);
    for (int e = lane; e < routing.experts; e += 32)
        gl[e] = routing.softmax ? s[e] * (grad_scores[e] - mean) : grad_scores[e] * (s[e] * (1.0f - s[e]));
}

// sums[t] = sum of the token's scores. Grid: a warp for each token.
extern "C" __global__ void __launch_bounds__(32) score_sums(Matrix scores, float* sums) {
    const float* s = scores.row(blockIdx.x);
    float sum = 0;
    for (int e = threadIdx.x; e < scores.columns; e += 32) sum += s[e];
    sum = warp_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// frequency[s, e] = E / (K T_s) * tokens of the sequence that chose e; mean_score[s, e] = mean of score / sum. Grid:
// sequences by blocks of 32 experts; block: 32 experts by 32 lanes, lane l takes tokens l, l + 32, ..., and the lanes'
// sums are added in rising order.
extern "C" __global__ void __launch_bounds__(1024) balance_statistics(
    Matrix scores, IntMatrix indices, const float* sums, const int* starts, Matrix frequency, Matrix mean_score,
    const Fault* fault) {
    __shared__ float mean_room[32][32];
    __shared__ int count_room[32][32];
    if (is_set(fault)) return;
    int column = threadIdx.x % 32, lane = threadIdx.x / 32;
    int e = blockIdx.y * 32 + column;
    int first = starts[blockIdx.x], end = starts[blockIdx.x + 1];
    float mean = 0;
    int count = 0;
    if (e < scores.columns)
        for (int t = first + lane; t < end; t += 32) {
            const int* chosen = indices.row(t);
            for (int k = 0; k < indices.columns; k++) count += chosen[k] == e;
            mean += scores.row(t)[e] / sums[t];
        }

    mean_room[lane][column] = mean;
    count_room[lane][column] = count;
    __syncthreads();
    if (lane == 0 && e < scores.columns) {
        for (int l = 1; l < 32; l++) {
            mean += mean_room[l][column];
            count += count_room[l][column];
        }

        int tokens = end - first;
        float factor = scores.columns / ((float)indices.columns * tokens);
        frequency.row(blockIdx.x)[e] = tokens == 0 ? 0.0f : count * factor;
        mean_score.row(blockIdx.x)[e] = tokens == 0 ? 0.0f : mean / tokens;
    }
}
