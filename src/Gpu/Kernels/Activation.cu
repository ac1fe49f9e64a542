// SwiGLU and the rotary embedding. Grid: blocks of 256 elements (pairs); bytes: each tensor once.
#include "Tensors.cuh"

// output = silu(gate) * up.
extern "C" __global__ void swiglu(Matrix gate, Matrix up, Matrix output) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= gate.count()) return;
    float x = gate.at(i);
    output.at(i) = x / (1.0f + expf(-x)) * up.at(i);
}

// silu'(x) = s (1 + x (1 - s)), s = sigmoid(x). The gradients may lie on top of gate and up.
extern "C" __global__ void swiglu_backward(
    Matrix grad_output, Matrix gate, Matrix up, Matrix grad_gate, Matrix grad_up) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= gate.count()) return;
    float g = grad_output.at(i), x = gate.at(i), u = up.at(i);
    float s = sigmoid(x);
    grad_gate.at(i) = g * u * (s * (1.0f + x * (1.0f - s)));
    grad_up.at(i) = g * (x * s);
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
