// Where a piece's values come from: rows of a matrix, or what tiles keep of one. Compiled for one element:
// KREWE_ELEMENT, one of Element in Minifloats.cuh.
#pragma once

#include "Quantization/QuantizedParts.cuh"

#ifndef KREWE_ELEMENT
#define KREWE_ELEMENT Element::E4M3
#endif

// Rows of a matrix, or those that `gather` names.
struct Rows {
    Matrix source;
    const int* gather;

    __device__ void load(Values& values, int row, int count, int column) const {
        if (is_aligned(source)) {
#pragma unroll
            for (int r = 0; r < WarpRows; r++) {
                if (r >= count) continue;
                const float4 four = *(const float4*)(source.row(gather ? gather[row + r] : row + r) + column);
                values[r][0] = four.x, values[r][1] = four.y, values[r][2] = four.z, values[r][3] = four.w;
            }
        } else {
#pragma unroll
            for (int r = 0; r < WarpRows; r++)
                if (r < count)
                    load_four(
                        values[r], source.row(gather ? gather[row + r] : row + r), column, source.columns, false);
        }
    }
};

// What the tiles of a matrix keep, four codes at a time where rows of codes start at multiples of them.
struct Kept {
    Quantized source;
    const int* gather;

    __device__ void load(Values& values, int row, int count, int column) const {
        using Codes = Minifloat<KREWE_ELEMENT>;
        using Four = FourCodes<KREWE_ELEMENT>;
        const typename Codes::Code* all = (const typename Codes::Code*)source.codes;
        const int tiles = source.tiles();
        const auto scales_of = [&](int own) {
            return source.scales + (long long)(source.tile_rows == 1 ? own : own / source.tile_rows) * tiles;
        };
        if (source.columns % 4 == 0 && (unsigned long long)all % sizeof(Four) == 0 && source.tile_columns % 4 == 0) {
            const int tile = column / source.tile_columns;
#pragma unroll
            for (int r = 0; r < WarpRows; r++) {
                if (r >= count) continue;
                const int own = gather ? gather[row + r] : row + r;
                const Four four = *(const Four*)(all + (long long)own * source.columns + column);
                const float scale = scales_of(own)[tile];
                four.decode(values[r]);
#pragma unroll
                for (int j = 0; j < 4; j++) values[r][j] *= scale;
            }
        } else {
#pragma unroll 1
            for (int r = 0; r < min(WarpRows, count); r++) {
                const int own = gather ? gather[row + r] : row + r;
                const float* scales = scales_of(own);
                float x[4];
#pragma unroll
                for (int j = 0; j < 4; j++)
                    x[j] = column + j < source.columns
                        ? Codes::decode(all[(long long)own * source.columns + column + j])
                            * scales[(column + j) / source.tile_columns]
                        : 0;
                // No index of a register may be a variable.
#pragma unroll
                for (int own_row = 0; own_row < WarpRows; own_row++)
#pragma unroll
                    for (int j = 0; j < 4; j++) values[own_row][j] = own_row == r ? x[j] : values[own_row][j];
            }
        }
    }
};
