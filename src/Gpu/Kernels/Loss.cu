// Cross-entropy. Grid: a block of 256 threads for each token. Bytes: logits three times (maximum, sum, gradient).
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
