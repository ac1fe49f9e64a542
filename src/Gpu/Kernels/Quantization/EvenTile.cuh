// Quantises a piece as QuantizedTile does, with fewer instructions, where everything is even: tiles of one row, 32 or
// 128 wide, codes of one byte, rows of codes that are whole fours and, turned, whole pieces of 16 bytes.
#pragma once

#include "Quantization/QuantizedTile.cuh"

__device__ inline bool is_even(
    const Quantized& straight, const Quantized& transposed, int columns, int turned_rows) {
    const bool rows = !straight.codes
        || (straight.tile_rows == 1 && columns % 4 == 0 && (unsigned long long)straight.codes % 4 == 0);
    return rows && (!transposed.codes
        || (transposed.tile_rows == 1 && turned_rows % 16 == 0 && (unsigned long long)transposed.codes % 16 == 0));
}

// Scales of tiles of one row: that of row r lies in lane 8 i + r of each eight lanes, whose columns are one tile's.
// Made and read by all lanes of a warp.
struct RowScales {
    Scale own;

    __device__ RowScales(const Values& values, const Quantized& format) {
        const bool wide = format.tile_columns == Side;
        unsigned mine = 0;
#pragma unroll
        for (int r = 0; r < WarpRows; r++) {
            const unsigned max =
                wide ? warp_maximum(four_maximum(values[r])) : lanes_maximum(values[r], WarpRows);
            if (threadIdx.x % WarpRows == r) mine = max;
        }

        own = format.scale_of(mine);
    }

    __device__ Scale of_row(int r) const { return {value_of_row(own.value, r), value_of_row(own.inverse, r)}; }

    __device__ static float value_of_row(float value, int r) {
        return __shfl_sync(~0u, value, threadIdx.x % Lanes / WarpRows * WarpRows + r);
    }
};

template <Element E>
class EvenTile {
public:
    using Layout = TileLayout<E>;
    using Room = typename Layout::Room;

    // A piece from column `column` on of a source of that many columns.
    __device__ EvenTile(Room& room, int column, int columns)
        : room(room), column(column), columns(columns), warp(threadIdx.x / Lanes), lane(threadIdx.x % Lanes) {}

    // Rows [row, rows).
    __device__ void write_straight(const Values& values, const Quantized& to, int row, int rows) const {
        const RowScales scales(values, to);
        const bool wide = to.tile_columns == Side;
        const int first = row + warp * WarpRows, d = column + lane * 4;
        // The column of the own eight lanes' tile, which has one scale.
        const int left = wide ? column : column + lane / WarpRows * WarpRows * 4, own = first + lane % WarpRows;
        if ((!wide || lane < WarpRows) && own < rows && left < columns)
            to.scales[(long long)own * tiles_of(to) + (left >> bits_of(to))] = scales.own.value;
        char* target = (char*)to.codes + (long long)first * columns + d;
#pragma unroll
        for (int r = 0; r < WarpRows; r++, target += columns) {
            FourCodes<E> codes;
            codes.encode(values[r], scales.of_row(r), to.power_of_two);
            if (first + r < rows && d < columns) *(unsigned*)target = codes.words[0];
        }
    }

    // As columns from `row` on of `rows` of the transpose.
    __device__ void write_transposed(const Values& values, const Quantized& to, int row, int rows) const {
        find_scales(values, to, row, rows);
        const Scale* scales = room.scales + (warp * WarpRows >> bits_of(to)) * Side + lane * 4;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const Scale scale = scales[j];
            FourCodes<E> upper, lower;
            upper.encode({values[0][j], values[1][j], values[2][j], values[3][j]}, scale, to.power_of_two);
            lower.encode({values[4][j], values[5][j], values[6][j], values[7][j]}, scale, to.power_of_two);
            const int line = lane * 4 + j;
            room.lines[line][Layout::turned(line, warp / 2) * 2 + warp % 2] = {upper.words[0], lower.words[0]};
        }

        __syncthreads();
        Layout::store_lines(room, to, row, column, rows, columns);
    }

private:
    static_assert(WarpRows == 8, "a thread has half a piece of a line");

    __device__ static int bits_of(const Quantized& to) { return to.tile_columns == Side ? 7 : 5; }

    __device__ static int tiles_of(const Quantized& to) {
        return to.columns + to.tile_columns - 1 >> bits_of(to);
    }

    // The scales of the columns' tiles, for the block and the destination.
    __device__ void find_scales(const Values& values, const Quantized& to, int row, int rows) const {
        unsigned maxima[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            maxima[j] = 0;
#pragma unroll
            for (int r = 0; r < WarpRows; r++) maxima[j] = max(maxima[j], magnitude(values[r][j]));
        }

        __syncthreads();
        *(uint4*)&room.maxima[warp * Side + lane * 4] = {maxima[0], maxima[1], maxima[2], maxima[3]};
        __syncthreads();
        const int bits = bits_of(to), tiles = tiles_of(to), parts = to.tile_columns / WarpRows;
        for (int i = threadIdx.x; i < Side * (Side >> bits); i += QuantizeThreads) {
            const int tile = i / Side, line = i % Side;
            const unsigned* own = room.maxima + tile * parts * Side + line;
            unsigned max = 0;
#pragma unroll 4
            for (int part = 0; part < parts; part++) max = ::max(max, own[part * Side]);
            const Scale scale = to.scale_of(max);
            room.scales[i] = scale;
            const int r = row + (tile << bits);
            if (r < rows && column + line < columns)
                to.scales[(long long)(column + line) * tiles + (r >> bits)] = scale.value;
        }

        __syncthreads();
    }

    Room& room;
    int column, columns, warp, lane;
};
