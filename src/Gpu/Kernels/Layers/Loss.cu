// Cross-entropy and the most likely token. Grid: a block of 256 threads for each token, of 1024 where it has more than 8192
// logits. Bytes: logits once, up to 32,768 of them (a thread keeps 32), else three times; their gradient once.
#include "Tensors.cuh"
#include "BFloat16.cuh"

// The logits of a row that fall to a thread: kept in registers, or read anew each time.
template <int Threads, int Kept>
struct Logits {
    float kept[Kept > 0 ? Kept : 1];
    const float* row;
    int columns;

    __device__ Logits(const float* row, int columns) : row(row), columns(columns) {
#pragma unroll
        for (int i = 0; i < Kept; i++) {
            const int v = threadIdx.x + i * Threads;
            kept[i] = v < columns ? row[v] : NEGATIVE_INFINITY;
        }
    }

    template <class Use>
    __device__ void each(Use use) {
        if (Kept > 0) {
#pragma unroll
            for (int i = 0; i < Kept; i++)
                if (threadIdx.x + i * Threads < columns) use(threadIdx.x + i * Threads, kept[i]);
        } else {
            for (int v = threadIdx.x; v < columns; v += Threads) {
                float x = row[v];
                use(v, x);
            }
        }
    }
};

template <int Threads, int Kept>
__device__ void cross_entropy(
    Matrix logits, int target, float* losses, float grad_scale, BFloat16* rounded, int rounded_stride) {
    __shared__ float maxima[Threads / 32];
    __shared__ double sums[Threads / 32];
    float* row = logits.row(blockIdx.x);
    BFloat16* gradients = rounded ? rounded + (long long)blockIdx.x * rounded_stride : nullptr;
    const auto write = [&](int v, float gradient) {
        if (rounded) gradients[v].bits = (unsigned short)bfloat16_bits(gradient);
        else row[v] = gradient;
    };
    if (target < 0) {
        if (threadIdx.x == 0) losses[blockIdx.x] = 0;
        if (grad_scale != 0)
            for (int v = threadIdx.x; v < logits.columns; v += Threads) write(v, 0);
        return;
    }

    Logits<Threads, Kept> own(row, logits.columns);
    float maximum = NEGATIVE_INFINITY;
    own.each([&](int, float x) { maximum = fmaxf(maximum, x); });
    maximum = block_max(maximum, maxima);
    double sum = 0;
    own.each([&](int, float& x) {
        x = expf(x - maximum);
        sum += x;
    });
    sum = block_sum(sum, sums);
    const float log_sum = maximum + (float)log(sum), share = (float)(1.0 / sum);
    if (threadIdx.x == 0) losses[blockIdx.x] = log_sum - row[target];

    // The loss reads a logit that the gradient overwrites.
    __syncthreads();
    if (grad_scale != 0)
        own.each([&](int v, float x) {
            const float power = Kept > 0 ? x : expf(x - maximum);
            write(v, grad_scale * (power * share - (v == target ? 1.0f : 0.0f)));
        });
}

// losses[t] = logsumexp(logits[t]) - logits[t, target]; the sum in float64. With a scale the logits become
// scale * (softmax - onehot), or `rounded` takes that in bfloat16. A negative target gives 0 and a zero gradient.
extern "C" __global__ void __launch_bounds__(256, 4)
cross_entropy(
    Matrix logits, const int* targets, float* losses, float grad_scale, BFloat16* rounded, int rounded_stride,
    const Fault* fault) {
    if (!is_set(fault))
        cross_entropy<256, 32>(logits, targets[blockIdx.x], losses, grad_scale, rounded, rounded_stride);
}

// The same of more than 8192 columns.
extern "C" __global__ void __launch_bounds__(1024, 1)
cross_entropy_wide(
    Matrix logits, const int* targets, float* losses, float grad_scale, BFloat16* rounded, int rounded_stride,
    const Fault* fault) {
    if (is_set(fault)) return;
    const int target = targets[blockIdx.x];
    if (logits.columns <= 32 * 1024)
        cross_entropy<1024, 32>(logits, target, losses, grad_scale, rounded, rounded_stride);
    else
        cross_entropy<1024, 0>(logits, target, losses, grad_scale, rounded, rounded_stride);
}

// indices[t] = column of the largest value of row t, the lowest on ties; 0 where none is above minus infinity.
extern "C" __global__ void __launch_bounds__(1024) arg_max(Matrix values, int* indices) {
    __shared__ float best_values[32];
    __shared__ int best_columns[32];
    const float* row = values.row(blockIdx.x);
    float best = NEGATIVE_INFINITY;
    int column = 0x7fffffff;
    // As many loads on their way as hide the way.
    constexpr int Ahead = 16;
    for (int v0 = threadIdx.x; v0 < values.columns; v0 += Ahead * blockDim.x) {
        float own[Ahead];
#pragma unroll
        for (int i = 0; i < Ahead; i++) {
            const int v = v0 + i * blockDim.x;
            own[i] = v < values.columns ? row[v] : NEGATIVE_INFINITY;
        }
#pragma unroll
        for (int i = 0; i < Ahead; i++)
            if (own[i] > best) {
                best = own[i];
                column = v0 + i * blockDim.x;
            }
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
    for (int w = 1; w < (int)blockDim.x / 32; w++)
        if (best_values[w] > best || (best_values[w] == best && best_columns[w] < column)) {
            best = best_values[w];
            column = best_columns[w];
        }

    indices[blockIdx.x] = column == 0x7fffffff ? 0 : column;
}
