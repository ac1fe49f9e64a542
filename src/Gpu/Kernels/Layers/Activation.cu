// SwiGLU and the rotary embedding. Grid: blocks of 256 threads, each with four columns of a row (or a pair); bytes: each
// tensor once.
#include "Tensors.cuh"
#include "BFloat16.cuh"

// The own thread's four columns of a row; `aligned` where all of them lie together in every tensor.
struct Four {
    long long row;
    int column, count;
    bool aligned;

    __device__ Four(const Matrix& like, int in_fours) {
        const int groups = (like.columns + 3) / 4;
        const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
        row = i / groups;
        column = (int)(i % groups) * 4;
        count = row < like.rows ? min(4, like.columns - column) : 0;
        aligned = in_fours != 0;
    }

    __device__ void load(float (&x)[4], const Matrix& from) const {
        const float* at = from.row(row) + column;
        if (aligned) {
            const float4 four = *(const float4*)at;
            x[0] = four.x, x[1] = four.y, x[2] = four.z, x[3] = four.w;
            return;
        }
#pragma unroll
        for (int i = 0; i < 4; i++) x[i] = i < count ? at[i] : 0.0f;
    }

    __device__ void store(const float (&x)[4], const Stored& to) const {
        if (aligned) return to.write_four(row, column, x);
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (i < count) to.write(row, column + i, x[i]);
    }
};

// output = silu(gate) * up.
extern "C" __global__ void __launch_bounds__(256) swiglu(Matrix gate, Matrix up, Stored output, int in_fours) {
    const Four own(gate, in_fours);
    if (own.count == 0) return;
    float x[4], u[4], y[4];
    own.load(x, gate);
    own.load(u, up);
#pragma unroll
    for (int i = 0; i < 4; i++) y[i] = x[i] / (1.0f + expf(-x[i])) * u[i];
    own.store(y, output);
}

// silu'(x) = s (1 + x (1 - s)), s = sigmoid(x). The gradients may lie on top of gate and up.
extern "C" __global__ void __launch_bounds__(256) swiglu_backward(
    Matrix grad_output, Matrix gate, Matrix up, Stored grad_gate, Stored grad_up, int in_fours) {
    const Four own(gate, in_fours);
    if (own.count == 0) return;
    float g[4], x[4], u[4], first[4], second[4];
    own.load(g, grad_output);
    own.load(x, gate);
    own.load(u, up);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float s = sigmoid(x[i]);
        first[i] = g[i] * u[i] * (s * (1.0f + x[i] * (1.0f - s)));
        second[i] = g[i] * (x[i] * s);
    }

    own.store(first, grad_gate);
    own.store(second, grad_up);
}

// Rotates pairs (2i, 2i+1) of a slice of each head by the angle of the row's position. One thread a pair.
extern "C" __global__ void rotary_embedding(
    Matrix data, int heads, int offset, Matrix table, const int* positions, int inverse, const Fault* fault) {
    if (is_set(fault)) return;
    int pairs = table.columns / 2;
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    int pair = (int)(i % pairs);
    int head = (int)(i / pairs % heads);
    long long row = i / pairs / heads;
    if (row >= data.rows) return;
    const float* angle = table.row(positions[row]) + 2 * pair;
    float* at = data.row(row) + (long long)head * (data.columns / heads) + offset + 2 * pair;
    float cosine = angle[0];
    float sine = inverse ? -angle[1] : angle[1];
    float x = at[0], y = at[1];
    at[0] = x * cosine - y * sine;
    at[1] = x * sine + y * cosine;
}
