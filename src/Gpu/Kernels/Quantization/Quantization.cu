// Quantisation in tiles with a scale each, and back (report 3.3.2); the bits of Kernels/Reference.
#include "Quantization/QuantizedMatrix.cuh"

template <Element E, class At>
__device__ void quantize_tile(const Quantized& to, At at) {
    __shared__ unsigned room[Warps];
    using Code = typename Minifloat<E>::Code;
    const int tile_row = blockIdx.x / to.tiles(), tile_column = blockIdx.x % to.tiles();
    const int top = tile_row * to.tile_rows, left = tile_column * to.tile_columns;
    const int width = min(to.tile_columns, to.columns - left);
    const long long count = (long long)min(to.tile_rows, to.rows - top) * width;
    unsigned max = 0;
    for (long long i = threadIdx.x; i < count; i += QuantizeThreads)
        max = ::max(max, magnitude(at(top + i / width, left + i % width)));
    max = warp_maximum(max);
    if (threadIdx.x % Lanes == 0) room[threadIdx.x / Lanes] = max;
    __syncthreads();
    for (int warp = 0; warp < Warps; warp++) max = ::max(max, room[warp]);
    const Scale scale = to.scale_of(max);
    if (threadIdx.x == 0) to.scales[blockIdx.x] = scale.value;
    for (long long i = threadIdx.x; i < count; i += QuantizeThreads) {
        const long long r = top + i / width, c = left + i % width;
        ((Code*)to.codes)[r * to.columns + c] = (Code)encode_quotient<E>(at(r, c), scale.value);
    }
}

// Tiles of any size; those of recipes have QuantizePieces.cu. Grid: a block for each tile; bytes: the source twice, the
// second time from cache.
extern "C" __global__ void __launch_bounds__(QuantizeThreads)
quantize_any_tile(Matrix source, const int* gather, Quantized to, int transposed, const Fault* fault) {
    if (is_set(fault)) return;
    const auto at = [&](long long r, long long c) {
        const long long row = transposed ? c : r, column = transposed ? r : c;
        return source.row(gather ? gather[row] : row)[column];
    };
    switch ((Element)to.element) {
        case Element::E4M3: return quantize_tile<Element::E4M3>(to, at);
        case Element::E5M2: return quantize_tile<Element::E5M2>(to, at);
        default: return quantize_tile<Element::E5M6>(to, at);
    }
}

template <Element E>
__device__ void dequantize_rows(const Quantized& from, const Matrix& destination) {
    using Code = typename Minifloat<E>::Code;
    struct alignas(4 * sizeof(Code)) Four { Code codes[4]; };
    const int column = (blockIdx.y * blockDim.x + threadIdx.x) * 4;
    const bool aligned = is_aligned(destination) && from.columns % 4 == 0
        && (unsigned long long)from.codes % sizeof(Four) == 0 && from.tile_columns % 4 == 0;
    if (column >= from.columns) return;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = blockIdx.x * 4 + i;
        if (row >= from.rows) return;
        const Code* codes = (const Code*)from.codes + (long long)row * from.columns;
        const float* scales = from.scales + (long long)(row / from.tile_rows) * from.tiles();
        float* to = destination.row(row);
        if (aligned) {
            const Four four = *(const Four*)(codes + column);
            const float scale = scales[column / from.tile_columns];
            *(float4*)(to + column) = {
                Minifloat<E>::decode(four.codes[0]) * scale, Minifloat<E>::decode(four.codes[1]) * scale,
                Minifloat<E>::decode(four.codes[2]) * scale, Minifloat<E>::decode(four.codes[3]) * scale};
        } else {
            for (int c = column; c < min(column + 4, from.columns); c++)
                to[c] = Minifloat<E>::decode(codes[c]) * scales[c / from.tile_columns];
        }
    }
}

// Codes times scales. Grid: four rows by 1024 columns a block of 256 threads; bytes: codes and values once.
extern "C" __global__ void __launch_bounds__(256) dequantize(Quantized from, Matrix destination) {
    switch ((Element)from.element) {
        case Element::E4M3: return dequantize_rows<Element::E4M3>(from, destination);
        case Element::E5M2: return dequantize_rows<Element::E5M2>(from, destination);
        default: return dequantize_rows<Element::E5M6>(from, destination);
    }
}
