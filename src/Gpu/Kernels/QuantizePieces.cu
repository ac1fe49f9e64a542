// Quantisation in the tiles that recipes have, 1 x 128, 1 x 32, 128 x 128 and 128 x 1, of a matrix or of what RMSNorm
// and SwiGLU make, with the bits of one kernel behind the other. Grid: pieces of 128 x 128, rows by columns.
// Compiled for one element: KREWE_ELEMENT, one of Element in Minifloats.cuh.
#include "QuantizedTile.cuh"

#ifndef KREWE_ELEMENT
#define KREWE_ELEMENT Element::E4M3
#endif

// Bytes: the source once, the codes once each way.
extern "C" __global__ void __launch_bounds__(QuantizeThreads, 2)
quantize(Matrix source, const int* gather, int rows, Quantized straight, Quantized transposed, const Fault* fault) {
    if (is_set(fault)) return;
    const int columns = source.columns;
    const bool aligned = is_aligned(source);
    quantize_piece<KREWE_ELEMENT>(rows, columns, straight, transposed, [&](float (&x)[4], int row, int column) {
        load_four(x, source.row(gather ? gather[row] : row), column, columns, aligned);
    });
}

// values = input * weight * inverse_rms. Bytes: input once, beside its pass in rms_norm_scale; codes once each way.
extern "C" __global__ void __launch_bounds__(QuantizeThreads, 2)
rms_norm_quantize(
    Matrix input, const float* weight, const float* inverse_rms, Matrix output, int keeps_output, Quantized straight,
    Quantized transposed) {
    const int columns = input.columns;
    const bool aligned = is_aligned(input) && is_aligned(output) && (unsigned long long)weight % 16 == 0;
    quantize_piece<KREWE_ELEMENT>(input.rows, columns, straight, transposed, [&](float (&x)[4], int row, int column) {
        float w[4];
        load_four(x, input.row(row), column, columns, aligned);
        load_four(w, weight, column, columns, aligned);
        const float r = inverse_rms[row];
#pragma unroll
        for (int j = 0; j < 4; j++) x[j] = x[j] * r * w[j];
        if (keeps_output) store_four(x, output.row(row), column, columns, aligned);
    });
}

// values = silu(gate) * up. Bytes: gate and up once, codes once each way.
extern "C" __global__ void __launch_bounds__(QuantizeThreads, 2)
swiglu_quantize(
    Matrix gate, Matrix up, Matrix output, int keeps_output, Quantized straight, Quantized transposed) {
    const int columns = gate.columns;
    const bool aligned = is_aligned(gate) && is_aligned(up) && is_aligned(output);
    quantize_piece<KREWE_ELEMENT>(gate.rows, columns, straight, transposed, [&](float (&x)[4], int row, int column) {
        float u[4];
        load_four(x, gate.row(row), column, columns, aligned);
        load_four(u, up.row(row), column, columns, aligned);
#pragma unroll
        for (int j = 0; j < 4; j++) x[j] = column + j < columns ? x[j] / (1.0f + expf(-x[j])) * u[j] : 0.0f;
        if (keeps_output) store_four(x, output.row(row), column, columns, aligned);
    });
}
