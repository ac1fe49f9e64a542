// Gradients of SwiGLU in tiles of E4M3, and the activation turned for the weight gradient, from gate and up projections
// as tiles would have kept them: the bits of quantize, dequantize, swiglu, swiglu_backward and quantize one behind the
// other. Grid: pieces of 128 x 128, rows by columns; with `offsets` those of each expert as in QuantizeExperts.cu.
// Block: 512 threads; sizeof(Shared) of dynamic shared memory. Bytes: gate, up and the gradient once, the gradient
// twice more from cache, the codes once.
#include "Quantization/QuantizedSources.cuh"

using Four = FourCodes<Element::E4M3>;

// A block's: what tiles of one row keep of gate and up projections, four codes of each row of a thread.
struct Shared {
    TileLayout<Element::E4M3>::Room room;
    Four kept[2][WarpRows][QuantizeThreads];
};

// Keeps a thread's values as tiles of one row would; gives what load needs of their scales. Called by all lanes, as
// load.
__device__ inline float keep(Four (&codes)[WarpRows][QuantizeThreads], const Values& values, const Quantized& format) {
    const RowScales scales(values, format);
#pragma unroll
    for (int r = 0; r < WarpRows; r++) {
        Four own;
        own.encode(values[r], scales.of_row(r), format.power_of_two);
        codes[r][threadIdx.x] = own;
    }

    return scales.own.value;
}

__device__ inline void load(float (&x)[4], const Four (&codes)[WarpRows][QuantizeThreads], float scale, int r) {
    const float own = RowScales::value_of_row(scale, r);
    codes[r][threadIdx.x].decode(x);
#pragma unroll
    for (int j = 0; j < 4; j++) x[j] *= own;
}

// What is written, pass by pass: the activation, the gradient of the gate projection and that of the up projection;
// mirrors DeviceSwiGluTiles.
struct Destinations { Quantized straight[3], turned[3]; };

// A pass's values of a row, from the gradients in their place and gate and up projections.
__device__ inline void compute(int pass, float (&values)[4], const float (&x)[4], const float (&u)[4]) {
    float quotient[4];
#pragma unroll
    for (int j = 0; j < 4; j++) quotient[j] = (pass == 0 ? x[j] : 1.0f) / (1.0f + expf(-x[j]));
    if (pass == 0) {
#pragma unroll
        for (int j = 0; j < 4; j++) values[j] = quotient[j] * u[j];
    } else if (pass == 1) {
#pragma unroll
        for (int j = 0; j < 4; j++)
            values[j] = values[j] * u[j] * (quotient[j] * (1.0f + x[j] * (1.0f - quotient[j])));
    } else {
#pragma unroll
        for (int j = 0; j < 4; j++) values[j] = values[j] * (x[j] * quotient[j]);
    }
}

template <class Tile>
__device__ void write_gradients(
    const Tile& tile, const Values& values, const Quantized& straight, const Quantized& turned, const Part& part) {
    if (straight.codes) tile.write_straight(values, straight, part.row, part.end);
    tile.write_transposed(values, turned, part.turned, part.turned_rows);
}

// As EvenTile has it.
struct AnyTile {
    TileLayout<Element::E4M3>::Room& room;
    int column, columns;

    __device__ void write_straight(const Values& values, const Quantized& to, int row, int rows) const {
        QuantizedTile<Element::E4M3>(room, row, column, rows, columns).write_straight(values, to);
    }

    __device__ void write_transposed(const Values& values, const Quantized& to, int row, int rows) const {
        QuantizedTile<Element::E4M3>(room, row, column, rows, columns).write_transposed(values, to);
    }
};

template <bool Even>
__device__ void differentiate(
    const Matrix& grad_output, const Matrix& gate, const Matrix& up, const Quantized& cache, const int* offsets,
    int experts, const Destinations& to) {
    extern __shared__ uint4 memory[];
    Shared& shared = *(Shared*)memory;
    const Part part(blockIdx.x, gate.rows, offsets, experts);
    if (part.is_empty()) return;
    const int column = blockIdx.y * Side, own_column = column + threadIdx.x % Lanes * 4;
    const int first = part.row + threadIdx.x / Lanes * WarpRows, count = min(WarpRows, part.end - first);
    Values values;
    float scales[2];
    // One body for all that is loaded and written: unrolled it was 18,500 instructions, and half as fast.
#pragma unroll 1
    for (int turn = 0; turn < 5; turn++) {
        const Matrix& from = turn == 0 ? gate : turn == 1 ? up : grad_output;
#pragma unroll
        for (int r = 0; r < WarpRows; r++)
#pragma unroll
            for (int j = 0; j < 4; j++) values[r][j] = 0;
        if (own_column < gate.columns) Rows{from, nullptr}.load(values, first, count, own_column);
        if (turn < 2) {
            const float scale = keep(shared.kept[turn], values, cache);
            if (turn == 0) scales[0] = scale;
            else scales[1] = scale;
            continue;
        }

        const int pass = turn - 2;
#pragma unroll
        for (int r = 0; r < WarpRows; r++) {
            float x[4], u[4];
            load(x, shared.kept[0], scales[0], r);
            load(u, shared.kept[1], scales[1], r);
            compute(pass, values[r], x, u);
        }

        const Quantized& straight = to.straight[pass];
        const Quantized& turned = to.turned[pass];
        if constexpr (Even)
            write_gradients(
                EvenTile<Element::E4M3>(shared.room, column, gate.columns), values, straight, turned, part);
        else write_gradients(AnyTile{shared.room, column, gate.columns}, values, straight, turned, part);
    }
}

// Where everything is_even.
extern "C" __global__ void __launch_bounds__(QuantizeThreads, 2)
swiglu_backward_tiles(
    Matrix grad_output, Matrix gate, Matrix up, Quantized cache, const int* offsets, int experts,
    const __grid_constant__ Destinations to) {
    differentiate<true>(grad_output, gate, up, cache, offsets, experts, to);
}

extern "C" __global__ void __launch_bounds__(QuantizeThreads, 2)
swiglu_backward_any_tiles(
    Matrix grad_output, Matrix gate, Matrix up, Quantized cache, const int* offsets, int experts,
    const __grid_constant__ Destinations to) {
    differentiate<false>(grad_output, gate, up, cache, offsets, experts, to);
}
