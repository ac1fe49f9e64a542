// Quantisation of each expert's rows by themselves: tiles along the tokens hold one expert's. Grid: pieces of the
// transpose's columns by columns; those past the last expert leave. Bytes: the source once, the codes once each way.
#include "Quantization/QuantizedSources.cuh"

template <class Source>
__device__ void quantize_expert(
    const int* offsets, int experts, int columns, const Quantized& straight, const Quantized& transposed,
    const Source& source) {
    const Part part(blockIdx.x, 0, offsets, experts);
    if (part.is_empty()) return;
    quantize_part<KREWE_ELEMENT>(
        part.row, part.end, part.turned, part.turned_rows, blockIdx.y * Side, columns, straight, transposed, source);
}

extern "C" __global__ void __launch_bounds__(QuantizeThreads, 2)
quantize_experts(
    Matrix source, const int* gather, const int* offsets, int experts, Quantized straight, Quantized transposed) {
    quantize_expert(offsets, experts, source.columns, straight, transposed, Rows{source, gather});
}

// Tiles of the transpose from tiles.
extern "C" __global__ void __launch_bounds__(QuantizeThreads, 2)
requantize_experts(Quantized source, const int* gather, const int* offsets, int experts, Quantized transposed) {
    quantize_expert(offsets, experts, source.columns, Quantized{}, transposed, Kept{source, gather});
}

// Rows of tokens times the weights of those who chose them.
struct Weighted {
    Matrix source;
    const int* tokens;
    const int* assignments;
    Matrix weights;

    __device__ void load(Values& values, int row, int count, int column) const {
        const bool aligned = is_aligned(source);
#pragma unroll
        for (int r = 0; r < WarpRows; r++) {
            if (r >= count) continue;
            const int token = tokens[row + r];
            const int* own = assignments + (long long)token * weights.columns;
            int choice = 0;
            while (choice < weights.columns - 1 && own[choice] != row + r) choice++;
            const float weight = weights.row(token)[choice];
            load_four(values[r], source.row(token), column, source.columns, aligned);
#pragma unroll
            for (int j = 0; j < 4; j++) values[r][j] *= weight;
        }
    }
};

extern "C" __global__ void __launch_bounds__(QuantizeThreads, 2)
quantize_weighted_experts(
    Matrix source, const int* tokens, const int* assignments, Matrix weights, const int* offsets, int experts,
    Quantized straight, Quantized transposed) {
    quantize_expert(
        offsets, experts, source.columns, straight, transposed, Weighted{source, tokens, assignments, weights});
}
