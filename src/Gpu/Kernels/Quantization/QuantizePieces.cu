// Quantisation in the tiles that recipes have, 1 x 128, 1 x 32, 128 x 128 and 128 x 1, of a matrix or of what RMSNorm
// and SwiGLU make, with the bits of one kernel behind the other. Grid: pieces of 128 x 128, rows by columns.
// Compiled for one element: KREWE_ELEMENT, one of Element in Minifloats.cuh.
// Measured on an H100 that copies at 3008 GB/s (benchmarks/Gpu/results/h100-fp8.txt), 4096 x 7168, E4M3, GB/s: 1 x 128
// 2330, turned 2438, both 1946, 128 x 128 both 2169; SwiGLU 1998, both 1805.
#include "Quantization/QuantizedSources.cuh"

// The values that a producer computes from two matrices, or one, four rows at a time: loads first, so that they wait
// for memory together. They are written too where `keeps` says so.
template <class Producer>
struct Produced {
    Producer producer;
    Matrix output;
    bool keeps;

    __device__ void load(Values& values, int row, int count, int column) const {
        const bool aligned = producer.is_vector() && is_aligned(output);
        const typename Producer::Columns own = producer.columns_at(column, aligned);
#pragma unroll
        for (int r0 = 0; r0 < WarpRows; r0 += 4) {
            typename Producer::Raw raw[4];
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (r0 + i < count) producer.load(raw[i], row + r0 + i, column, aligned);
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (r0 + i < count) {
                    producer.compute(values[r0 + i], raw[i], own);
                    if (keeps)
                        store_four(values[r0 + i], output.row(row + r0 + i), column, output.columns, aligned);
                }
        }
    }
};

// input * weight * inverse_rms.
struct RmsNorm {
    Matrix input;
    const float* weight;
    const float* inverse_rms;

    struct Columns { float weight[4]; };
    struct Raw { float x[4], r; };

    __device__ bool is_vector() const { return is_aligned(input) && (unsigned long long)weight % 16 == 0; }

    __device__ Columns columns_at(int column, bool aligned) const {
        Columns own;
        load_four(own.weight, weight, column, input.columns, aligned);
        return own;
    }

    __device__ void load(Raw& raw, int row, int column, bool aligned) const {
        load_four(raw.x, input.row(row), column, input.columns, aligned);
        raw.r = inverse_rms[row];
    }

    __device__ void compute(float (&x)[4], const Raw& raw, const Columns& own) const {
#pragma unroll
        for (int j = 0; j < 4; j++) x[j] = raw.x[j] * raw.r * own.weight[j];
    }
};

// silu(gate) * up; past the row's end 0, as both are there.
struct SwiGlu {
    Matrix gate, up;

    struct Columns {};
    struct Raw { float gate[4], up[4]; };

    __device__ bool is_vector() const { return is_aligned(gate) && is_aligned(up); }

    __device__ Columns columns_at(int, bool) const { return {}; }

    __device__ void load(Raw& raw, int row, int column, bool aligned) const {
        load_four(raw.gate, gate.row(row), column, gate.columns, aligned);
        load_four(raw.up, up.row(row), column, gate.columns, aligned);
    }

    __device__ void compute(float (&x)[4], const Raw& raw, const Columns&) const {
#pragma unroll
        for (int j = 0; j < 4; j++) x[j] = raw.gate[j] / (1.0f + expf(-raw.gate[j])) * raw.up[j];
    }
};

// Bytes: the source once, the codes once each way.
extern "C" __global__ void __launch_bounds__(QuantizeThreads, 2)
quantize(Matrix source, const int* gather, int rows, Quantized straight, Quantized transposed, const Fault* fault) {
    if (is_set(fault)) return;
    quantize_piece<KREWE_ELEMENT>(
        blockIdx.x, blockIdx.y, rows, source.columns, straight, transposed, Rows{source, gather});
}

// A matrix of many, and the pieces ahead of its own; mirrors DeviceCopies.
struct Copies {
    Matrix source;
    Quantized straight, transposed;
    int first_tile;
};

// Many matrices, one behind the other: weights, in square tiles. Bytes: as quantize.
extern "C" __global__ void __launch_bounds__(QuantizeThreads, 2) quantize_many(const Copies* copies, int count) {
    const Copies own = copies[item_of_tile(copies, count, blockIdx.x)];
    const int pieces = (own.source.columns + Side - 1) / Side, piece = blockIdx.x - own.first_tile;
    quantize_piece<KREWE_ELEMENT, false>(
        piece / pieces, piece % pieces, own.source.rows, own.source.columns, own.straight, own.transposed,
        Rows{own.source, nullptr});
}

// Tiles of the transpose from tiles. Bytes: the codes once each way.
extern "C" __global__ void __launch_bounds__(QuantizeThreads, 2) requantize(Quantized source, Quantized transposed) {
    quantize_piece<KREWE_ELEMENT>(
        blockIdx.x, blockIdx.y, source.rows, source.columns, Quantized{}, transposed, Kept{source, nullptr});
}

// Bytes: the input once, beside its pass in rms_norm_scale; the codes once each way.
extern "C" __global__ void __launch_bounds__(QuantizeThreads, 2)
rms_norm_quantize(
    Matrix input, const float* weight, const float* inverse_rms, Matrix output, int keeps_output, Quantized straight,
    Quantized transposed) {
    const Produced<RmsNorm> values{{input, weight, inverse_rms}, output, keeps_output != 0};
    quantize_piece<KREWE_ELEMENT, false>(
        blockIdx.x, blockIdx.y, input.rows, input.columns, straight, transposed, values);
}

// Bytes: gate and up once, the codes once each way.
extern "C" __global__ void __launch_bounds__(QuantizeThreads, 2)
swiglu_quantize(
    Matrix gate, Matrix up, Matrix output, int keeps_output, Quantized straight, Quantized transposed) {
    const Produced<SwiGlu> values{{gate, up}, output, keeps_output != 0};
    quantize_piece<KREWE_ELEMENT, false>(
        blockIdx.x, blockIdx.y, gate.rows, gate.columns, straight, transposed, values);
}
