// Where a piece's values come from: rows of a matrix, or what tiles keep of one. Compiled for one element: KREWE_ELEMENT,
// one of Element in Minifloats.cuh.
#pragma once

#include "Quantization/QuantizedTile.cuh"

#ifndef KREWE_ELEMENT
#define KREWE_ELEMENT Element::E4M3
#endif

// Rows of a matrix, or those that `gather` names.
struct Rows {
    Matrix source;
    const int* gather;

    __device__ void load(Values& values, int row, int count, int column) const {
        const bool aligned = is_aligned(source);
#pragma unroll
        for (int r = 0; r < WarpRows; r++)
            if (r < count)
                load_four(
                    values[r], source.row(gather ? gather[row + r] : row + r), column, source.columns, aligned);
    }
};

// What the tiles of a matrix keep, four codes at a time where rows of codes start at multiples of them.
struct Kept {
    Quantized source;
    const int* gather;

    __device__ void load(Values& values, int row, int count, int column) const {
        using Codes = Minifloat<KREWE_ELEMENT>;
        using Code = typename Codes::Code;
        struct alignas(4 * sizeof(Code)) Four { Code codes[4]; };
        const bool aligned = source.columns % 4 == 0 && (unsigned long long)source.codes % sizeof(Four) == 0
            && source.tile_columns % 4 == 0;
#pragma unroll
        for (int r = 0; r < WarpRows; r++) {
            if (r >= count) continue;
            const int own = gather ? gather[row + r] : row + r;
            const Code* codes = (const Code*)source.codes + (long long)own * source.columns + column;
            const float* scales = source.scales + (long long)(own / source.tile_rows) * source.tiles();
            if (aligned) {
                const Four four = *(const Four*)codes;
                const float scale = scales[column / source.tile_columns];
#pragma unroll
                for (int j = 0; j < 4; j++) values[r][j] = Codes::decode(four.codes[j]) * scale;
            } else {
#pragma unroll
                for (int j = 0; j < 4; j++)
                    if (column + j < source.columns)
                        values[r][j] = Codes::decode(codes[j]) * scales[(column + j) / source.tile_columns];
            }
        }
    }
};
