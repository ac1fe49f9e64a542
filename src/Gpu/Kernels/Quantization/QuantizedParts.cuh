// A piece of a source to its tiles, by the short way where these are even, and which rows a block takes.
#pragma once

#include "Quantization/EvenTile.cuh"
#include "Quantization/QuantizedTile.cuh"

// Rows [row, rows) of a source, a piece of them from column `column` on: `source.load(values, row, count, column)`
// gives four values each of some rows, and leaves those from `count` on. In the transpose they are columns from
// `turned` on of `turned_rows`. `TriesEven`: not for square tiles, nor where rows alone are wanted, which QuantizedTile
// does as fast.
template <Element E, bool TriesEven = true, class Source>
__device__ void quantize_part(
    int row, int rows, int turned, int turned_rows, int column, int columns, const Quantized& straight,
    const Quantized& transposed, const Source& source) {
    __shared__ typename TileLayout<E>::Room room;
    const int first = row + threadIdx.x / Lanes * WarpRows, own_column = column + threadIdx.x % Lanes * 4;
    Values values = {};
    if (own_column < columns) source.load(values, first, min(WarpRows, rows - first), own_column);
    if constexpr (TriesEven && sizeof(typename Minifloat<E>::Code) == 1)
        if (transposed.codes && is_even(straight, transposed, columns, turned_rows)) {
            const EvenTile<E> tile(room, column, columns);
            if (straight.codes) tile.write_straight(values, straight, row, rows);
            tile.write_transposed(values, transposed, turned, turned_rows);
            return;
        }
    if (straight.codes) QuantizedTile<E>(room, row, column, rows, columns).write_straight(values, straight);
    if (transposed.codes)
        QuantizedTile<E>(room, turned, column, turned_rows, columns).write_transposed(values, transposed);
}

// Piece (x, y) of a source of `rows` x `columns`.
template <Element E, bool TriesEven = true, class Source>
__device__ void quantize_piece(
    int x, int y, int rows, int columns, const Quantized& straight, const Quantized& transposed, const Source& source) {
    const int row = x * Side;
    quantize_part<E, TriesEven>(row, rows, row, rows, y * Side, columns, straight, transposed, source);
}

// The rows of a source that a block takes: [row, end), in the transpose columns from `turned` on of `turned_rows`.
struct Part {
    int row, end, turned, turned_rows;

    // Piece x of `rows` rows; or of each expert's rows by themselves, where `offsets` of a DispatchTable, [2, experts +
    // 1], has the rows of each and the columns of each in the transpose. Past the last expert it is empty.
    __device__ Part(int x, int rows, const int* offsets, int experts) {
        row = turned = x * Side;
        end = turned_rows = rows;
        if (!offsets) return;
        const int* columns = offsets + experts + 1;
        turned_rows = gridDim.x * Side;
        int low = 0, high = experts - 1;
        while (low < high) {
            const int middle = (low + high + 1) / 2;
            if (columns[middle] <= turned) low = middle;
            else high = middle - 1;
        }

        end = offsets[low + 1];
        row = turned < columns[experts] ? offsets[low] + turned - columns[low] : end;
    }

    __device__ bool is_empty() const { return row >= end; }
};
