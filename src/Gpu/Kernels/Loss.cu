// Cross-entropy and the most likely token. Grid: a block of 256 threads for each token. Bytes: logits three times
// (maximum, sum, gradient).
#include "Tensors.cuh"

// losses[t] = logsumexp(logits[t]) - logits[t, target]; the sum in float64. With a scale the logits become
// scale * (softmax - onehot). A negative target gives 0 and a zero gradient.
extern "C" __global__ void __launch_bounds__(256)
cross_entropy(Matrix logits, const int* targets, float* losses, float grad_scale, const Fault* fault) {
    __shared__ float maxima[8];
    __shared__ double sums[8];
    if (is_set(fault)) return;
    float* row = logits.row(blockIdx.x);
    int target = targets[blockIdx.x];
    if (target < 0) {
        if (threadIdx.x == 0) losses[blockIdx.x] = 0;
        if (grad_scale != 0)
            for (int v = threadIdx.x; v < logits.columns; v += blockDim.x) row[v] = 0;
        return;
    }

    float maximum = NEGATIVE_INFINITY;
    for (int v = threadIdx.x; v < logits.columns; v += blockDim.x) maximum = fmaxf(maximum, row[v]);
    maximum = block_max(maximum, maxima);
    double sum = 0;
    for (int v = threadIdx.x; v < logits.columns; v += blockDim.x) sum += expf(row[v] - maximum);
    float log_sum = maximum + (float)log(block_sum(sum, sums));
    if (threadIdx.x == 0) losses[blockIdx.x] = log_sum - row[target];

    // The loss reads a logit that the gradient overwrites.
    __syncthreads();
    if (grad_scale != 0)
        for (int v = threadIdx.x; v < logits.columns; v += blockDim.x)
            row[v] = grad_scale * (expf(row[v] - log_sum) - (v == target ? 1.0f : 0.0f));
}

// indices[t] = column of the largest value of row t, the lowest on ties; 0 where none is above minus infinity.
extern "C" __global__ void __launch_bounds__(256) arg_max(Matrix values, int* indices) {
    __shared__ float best_values[8];
    __shared__ int best_columns[8];
    const float* row = values.row(blockIdx.x);
    float best = NEGATIVE_INFINITY;
    int column = 0x7fffffff;
    for (int v = threadIdx.x; v < values.columns; v += blockDim.x)
        if (row[v] > best) {
            best = row[v];
            column = v;
        }

    for (int distance = 16; distance > 0; distance /= 2) {
        float other = __shfl_xor_sync(0xffffffffu, best, distance);
        int other_column = __shfl_xor_sync(0xffffffffu, column, distance);
        if (other > best || (other == best && other_column < column)) {
            best = other;
            column = other_column;
        }
    }

    if (threadIdx.x % 32 == 0) {
        best_values[threadIdx.x / 32] = best;
        best_columns[threadIdx.x / 32] = column;
    }

    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int w = 1; w < 8; w++)
        if (best_values[w] > best || (best_values[w] == best && best_columns[w] < column)) {
            best = best_values[w];
            column = best_columns[w];
        }

    indices[blockIdx.x] = column == 0x7fffffff ? 0 : column;
}
