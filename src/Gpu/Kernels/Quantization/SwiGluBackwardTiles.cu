// Gradients of SwiGLU in tiles of E4M3, and the activation turned for the weight gradient, from gate and up projections as
// tiles would have kept them: the bits of quantize, dequantize, swiglu, swiglu_backward and quantize one behind the other.
// Grid: pieces of 128 x 128, rows by columns; with `offsets` those of each expert as in QuantizeExperts.cu. Block: 512
// threads. Bytes: gate, up and the gradient once, the gradient once more from cache, the codes once.
#include "Quantization/QuantizedSources.cuh"

// Four values of E4M3 codes, the first in the lowest place.
__device__ inline void decode_four(float (&x)[4], unsigned codes) {
#if __CUDA_ARCH__ >= 890
    asm("{ .reg .b16 low, high, a, b, c, d; .reg .b32 first, second;"
        " mov.b32 {low, high}, %4; cvt.rn.f16x2.e4m3x2 first, low; cvt.rn.f16x2.e4m3x2 second, high;"
        " mov.b32 {a, b}, first; mov.b32 {c, d}, second;"
        " cvt.f32.f16 %0, a; cvt.f32.f16 %1, b; cvt.f32.f16 %2, c; cvt.f32.f16 %3, d; }"
        : "=f"(x[0]), "=f"(x[1]), "=f"(x[2]), "=f"(x[3]) : "r"(codes));
#else
#pragma unroll
    for (int j = 0; j < 4; j++) x[j] = Minifloat<Element::E4M3>::decode(codes >> j * 8 & 0xFF);
#endif
}

// A thread's values as tiles of one row keep them. The scale of row r lies in lane 8 i + r of each eight lanes.
struct KeptValues {
    unsigned codes[WarpRows];
    float scale;

    // Called by all lanes of a warp, as load.
    __device__ KeptValues(const Values& values, const Quantized& format) {
        const int lanes = format.tile_columns / 4;
        unsigned own = 0;
#pragma unroll
        for (int r = 0; r < WarpRows; r++) {
            const unsigned max = lanes_maximum(values[r], lanes);
            if (threadIdx.x % WarpRows == r) own = max;
        }

        const Scale all = format.scale_of(own);
        scale = all.value;
#pragma unroll
        for (int r = 0; r < WarpRows; r++) {
            const Scale row = {of_row(all.value, r), of_row(all.inverse, r)};
            const Scale four[4] = {row, row, row, row};
            FourCodes<Element::E4M3> encoded;
            encoded.encode(values[r], four);
            codes[r] = encoded.words[0];
        }
    }

    __device__ void load(float (&x)[4], int r) const {
        const float own = of_row(scale, r);
        decode_four(x, codes[r]);
#pragma unroll
        for (int j = 0; j < 4; j++) x[j] *= own;
    }

    __device__ static float of_row(float value, int r) {
        return __shfl_sync(~0u, value, threadIdx.x % Lanes / WarpRows * WarpRows + r);
    }
};

// values = body(value, gate, up).
template <class Body>
__device__ inline void compute(Values& values, const KeptValues& gates, const KeptValues& ups, Body body) {
#pragma unroll
    for (int r = 0; r < WarpRows; r++) {
        float x[4], u[4];
        gates.load(x, r);
        ups.load(u, r);
#pragma unroll
        for (int j = 0; j < 4; j++) values[r][j] = body(values[r][j], x[j], u[j]);
    }
}

extern "C" __global__ void __launch_bounds__(QuantizeThreads, 2)
swiglu_backward_tiles(
    Matrix grad_output, Matrix gate, Matrix up, Quantized cache, const int* offsets, int experts, Quantized hidden,
    Quantized grad_gate, Quantized grad_gate_turned, Quantized grad_up, Quantized grad_up_turned) {
    using Tile = QuantizedTile<Element::E4M3>;
    __shared__ Tile::Room room;
    const Part part(blockIdx.x, gate.rows, offsets, experts);
    if (part.is_empty()) return;
    const int column = blockIdx.y * Side, own_column = column + threadIdx.x % Lanes * 4;
    const int first = part.row + threadIdx.x / Lanes * WarpRows, count = min(WarpRows, part.end - first);
    Tile straight(room, part.row, column, part.end, gate.columns);
    Tile turned(room, part.turned, column, part.turned_rows, gate.columns);
    Values values;
    const auto load = [&](const Matrix& from) {
#pragma unroll
        for (int r = 0; r < WarpRows; r++)
#pragma unroll
            for (int j = 0; j < 4; j++) values[r][j] = 0;
        if (own_column < gate.columns) Rows{from, nullptr}.load(values, first, count, own_column);
    };
    load(gate);
    const KeptValues gates(values, cache);
    load(up);
    const KeptValues ups(values, cache);

    compute(values, gates, ups, [](float, float x, float u) { return x / (1.0f + expf(-x)) * u; });
    turned.write_transposed(values, hidden);

    load(grad_output);
    compute(values, gates, ups, [](float g, float x, float u) {
        const float s = sigmoid(x);
        return g * u * (s * (1.0f + x * (1.0f - s)));
    });
    straight.write_straight(values, grad_gate);
    turned.write_transposed(values, grad_gate_turned);

    load(grad_output);
    compute(values, gates, ups, [](float g, float x, float) { return g * (x * sigmoid(x)); });
    straight.write_straight(values, grad_up);
    turned.write_transposed(values, grad_up_turned);
}
