// Quantisation in tiles of 1 x 128 of a few rows, or of what RMSNorm and SwiGLU make of them: steps of decoding, whose
// time is that of a few loads one behind the other. A warp takes a tile, a thread four columns of it; the bits of
// QuantizePieces.cu. Grid: rows by eight tiles, but of RMSNorm a block for each row, which sums up its squares first.
// Blocks of 256 threads. Compiled for one element: KREWE_ELEMENT, one of Element in Minifloats.cuh.
// Bytes: the source once, the codes once.
#include "Layers/Teams.cuh"
#include "Quantization/QuantizedMatrix.cuh"

#ifndef KREWE_ELEMENT
#define KREWE_ELEMENT Element::E4M3
#endif

constexpr int RowThreads = 256, RowWarps = RowThreads / Lanes;

// Four values of the own lane to the codes of a tile; its first lane writes the scale.
__device__ inline void write_tile(const float (&x)[4], const Quantized& to, int row, int tile) {
    using Code = typename Minifloat<KREWE_ELEMENT>::Code;
    const int lane = threadIdx.x % Lanes, column = tile * Side + lane * 4;
    const unsigned max = ::max(::max(magnitude(x[0]), magnitude(x[1])), ::max(magnitude(x[2]), magnitude(x[3])));
    const Scale scale = to.scale_of(warp_maximum(max));
    if (lane == 0) to.scales[(long long)row * to.tiles() + tile] = scale.value;
    const Scale all[4] = {scale, scale, scale, scale};
    FourCodes<KREWE_ELEMENT> codes;
    codes.encode(x, all);
    if (column < to.columns)
        *(FourCodes<KREWE_ELEMENT>*)((Code*)to.codes + (long long)row * to.columns + column) = codes;
}

__device__ inline int own_tile() { return blockIdx.y * RowWarps + threadIdx.x / Lanes; }

extern "C" __global__ void __launch_bounds__(RowThreads)
quantize_rows(Matrix source, const int* gather, Quantized to, const Fault* fault) {
    if (is_set(fault)) return;
    const int row = blockIdx.x, tile = own_tile(), column = tile * Side + threadIdx.x % Lanes * 4;
    if (tile >= to.tiles()) return;
    float x[4] = {};
    if (column < source.columns) load_four(x, source.row(gather ? gather[row] : row), column, source.columns, true);
    write_tile(x, to, row, tile);
}

extern "C" __global__ void __launch_bounds__(RowThreads)
swiglu_quantize_rows(Matrix gate, Matrix up, Matrix output, int keeps_output, Quantized to) {
    const int row = blockIdx.x, tile = own_tile(), column = tile * Side + threadIdx.x % Lanes * 4;
    if (tile >= to.tiles()) return;
    float x[4] = {};
    if (column < gate.columns) {
        float own_gate[4], own_up[4];
        load_four(own_gate, gate.row(row), column, gate.columns, true);
        load_four(own_up, up.row(row), column, gate.columns, true);
#pragma unroll
        for (int j = 0; j < 4; j++) x[j] = own_gate[j] / (1.0f + expf(-own_gate[j])) * own_up[j];
        if (keeps_output) store_four(x, output.row(row), column, output.columns, true);
    }
    write_tile(x, to, row, tile);
}

// Team: as many threads as rms_norm has for a row, so that the sum has its bits.
template <int Size>
__device__ void normalize_rows(
    const Matrix& input, const float* weight, float* inverse_rms, float epsilon, const Matrix& output, bool keeps_output,
    const Quantized& to) {
    __shared__ float shared_inverse;
    const int row = blockIdx.x;
    if (threadIdx.x < Size) {
        const float r = inverse_rms_of<Size>(input.row(row), input.columns, epsilon);
        if (threadIdx.x == 0) inverse_rms[row] = shared_inverse = r;
    }

    __syncthreads();
    const float r = shared_inverse;
    for (int tile = threadIdx.x / Lanes; tile < to.tiles(); tile += RowWarps) {
        const int column = tile * Side + threadIdx.x % Lanes * 4;
        float x[4] = {};
        if (column < input.columns) {
            float own[4], scale[4];
            load_four(own, input.row(row), column, input.columns, true);
            load_four(scale, weight, column, input.columns, true);
#pragma unroll
            for (int j = 0; j < 4; j++) x[j] = own[j] * r * scale[j];
            if (keeps_output) store_four(x, output.row(row), column, output.columns, true);
        }
        write_tile(x, to, row, tile);
    }
}

extern "C" __global__ void __launch_bounds__(RowThreads) rms_norm_quantize_rows(
    Matrix input, const float* weight, float* inverse_rms, float epsilon, Matrix output, int keeps_output, Quantized to,
    int of_warp) {
    if (of_warp) normalize_rows<Lanes>(input, weight, inverse_rms, epsilon, output, keeps_output != 0, to);
    else normalize_rows<RowThreads>(input, weight, inverse_rms, epsilon, output, keeps_output != 0, to);
}
