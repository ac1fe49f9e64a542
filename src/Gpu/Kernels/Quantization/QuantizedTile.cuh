// Quantises a piece of 128 x 128 values, straight, transposed or both, from registers: one pass over the source.
// Block: 512 threads; warp w holds rows 8 w to 8 w + 7, lane l of it columns 4 l to 4 l + 3, so that a row's codes
// leave in one line and each thread has 8 codes in a row of the transpose.
#pragma once

#include "Quantization/QuantizedMatrix.cuh"

// Tiles of a piece, in rows and columns of the source, as powers of two: 1 x 128, 1 x 32, 128 x 1, 32 x 1, 128 x 128.
struct Tiling {
    int row_bits, column_bits;

    __device__ Tiling(int rows, int columns) : row_bits(31 - __clz(rows)), column_bits(31 - __clz(columns)) {}

    __device__ bool is_row() const { return row_bits == 0; }
    __device__ bool is_column() const { return column_bits == 0; }

    // Tiles side by side.
    __device__ int across() const { return Side >> column_bits; }
    __device__ int count() const { return across() * (Side >> row_bits); }
    __device__ int of(int row, int column) const { return (row >> row_bits) * across() + (column >> column_bits); }
};

// Values of a thread: four of each of its rows.
using Values = float[WarpRows][4];

__device__ inline unsigned four_maximum(const float (&x)[4]) {
    return max(max(magnitude(x[0]), magnitude(x[1])), max(magnitude(x[2]), magnitude(x[3])));
}

// Of that many neighbouring lanes.
__device__ inline unsigned lanes_maximum(const float (&x)[4], int lanes) {
    unsigned max = four_maximum(x);
    for (int distance = 1; distance < lanes; distance *= 2) max = ::max(max, __shfl_xor_sync(~0u, max, distance));
    return max;
}

// Codes as a block's threads hold them, of one element.
template <Element E>
struct TileLayout {
    using Code = typename Minifloat<E>::Code;
    static constexpr int CodeBytes = sizeof(Code);
    static constexpr int PieceCodes = 16 / CodeBytes;
    static constexpr int RowPieces = Side / PieceCodes;
    // Codes of a thread in a row of the transpose, 8 bytes each.
    static constexpr int OwnHalves = WarpRows * CodeBytes / 8;

    // Shared by the block; `lines` are rows of the transpose in halves of pieces of 16 bytes, which are turned by the
    // row against conflicts.
    struct alignas(16) Room {
        uint2 lines[Side][RowPieces * 2];
        alignas(16) unsigned maxima[Side * Warps];
        Scale scales[Side * 4];
    };

    // Place of a piece within its line.
    __device__ static int turned(int line, int piece) { return piece ^ (line / 4 & 7); }

    // The codes of a line that lie within a transpose of `rows` columns, in pieces that start at multiples of 16 bytes.
    __device__ static void store_lines(
        const Room& room, const Quantized& to, int row, int column, int rows, int columns) {
        for (int i = threadIdx.x; i < Side * RowPieces; i += QuantizeThreads) {
            const int line = i / RowPieces, piece = i % RowPieces;
            const int d = column + line, m = row + piece * PieceCodes;
            if (d < columns && m < rows)
                *(uint4*)((char*)to.codes + ((long long)d * rows + m) * CodeBytes) =
                    *(const uint4*)&room.lines[line][turned(line, piece) * 2];
        }
    }
};

template <Element E>
class QuantizedTile {
public:
    using Layout = TileLayout<E>;
    using Code = typename Layout::Code;
    using Room = typename Layout::Room;
    static constexpr int CodeBytes = Layout::CodeBytes, PieceCodes = Layout::PieceCodes;
    static constexpr int RowPieces = Layout::RowPieces, OwnHalves = Layout::OwnHalves;

    // The piece at (row, column) of a source of that many rows and columns.
    __device__ QuantizedTile(Room& room, int row, int column, int rows, int columns)
        : room(room), row(row), column(column), rows(rows), columns(columns), warp(threadIdx.x / Lanes),
          lane(threadIdx.x % Lanes) {}

    __device__ void write_straight(const Values& values, const Quantized& to) {
        const Tiling tiling(to.tile_rows, to.tile_columns);
        if (tiling.is_row()) return write_rows(values, tiling, to);
        find_scales(values, tiling, to, [&](int r, int c) {
            return (r >> tiling.row_bits) * to.tiles() + (c >> tiling.column_bits);
        });
        each_row([&](int r) {
            const int first = tiling.of(warp * WarpRows + r, lane * 4);
            Scale scale[4];
#pragma unroll
            for (int j = 0; j < 4; j++) scale[j] = room.scales[tiling.is_column() ? first + j : first];
            write_codes(values[r], scale, r, to);
        });
    }

    __device__ void write_transposed(const Values& values, const Quantized& to) {
        const Tiling tiling(to.tile_columns, to.tile_rows);
        find_scales(values, tiling, to, [&](int r, int c) {
            return (c >> tiling.column_bits) * to.tiles() + (r >> tiling.row_bits);
        });
        fill_lines(values, tiling);
        __syncthreads();
        if (rows % PieceCodes == 0 && (unsigned long long)to.codes % 16 == 0)
            Layout::store_lines(room, to, row, column, rows, columns);
        else store_codes(to);
    }

private:
    template <class Body>
    __device__ static void each_row(Body body) {
#pragma unroll
        for (int r = 0; r < WarpRows; r++) body(r);
    }

    // Tiles within rows: no warp needs another. Of tiles as wide as a warp, lane r computes the scale of row r.
    __device__ void write_rows(const Values& values, Tiling tiling, const Quantized& to) {
        const int lanes = Lanes / tiling.across(), d = column + lane * 4;
        const bool wide = lanes == Lanes;
        unsigned max = 0;
        each_row([&](int r) {
            const unsigned row_max = wide ? warp_maximum(four_maximum(values[r])) : 0;
            if (lane == r) max = row_max;
        });
        const Scale own = to.scale_of(max);
        each_row([&](int r) {
            const int m = row + warp * WarpRows + r;
            const Scale scale = wide
                ? Scale{__shfl_sync(~0u, own.value, r), __shfl_sync(~0u, own.inverse, r)}
                : to.scale_of(lanes_maximum(values[r], lanes));
            if (lane % lanes == 0 && m < rows && d < columns)
                to.scales[(long long)m * to.tiles() + (d >> tiling.column_bits)] = scale.value;
            const Scale all[4] = {scale, scale, scale, scale};
            write_codes(values[r], all, r, to);
        });
    }

    // The codes of the own four columns in the own row r.
    __device__ void write_codes(const float (&x)[4], const Scale (&scale)[4], int r, const Quantized& to) const {
        const int m = row + warp * WarpRows + r, d = column + lane * 4;
        FourCodes<E> codes;
        codes.encode(x, scale);
        if (m >= rows || d >= columns) return;
        char* target = (char*)to.codes + ((long long)m * columns + d) * CodeBytes;
        if (columns % 4 == 0 && (unsigned long long)to.codes % (4 * CodeBytes) == 0) store(target, codes);
        else store(target, (const char*)&codes, min(4, columns - d) * CodeBytes);
    }

    // The largest magnitude of each tile, then its scale, for the block and the destination; `place` is where the scale
    // of the tile at (row, column) of the source lies there.
    template <class Place>
    __device__ void find_scales(const Values& values, Tiling tiling, const Quantized& to, Place place) {
        __syncthreads();
        int parts = 1;
        if (tiling.is_row()) row_maxima(values, tiling);
        else if (tiling.is_column()) parts = column_maxima(values, tiling);
        else parts = piece_maximum(values);
        __syncthreads();
        const int across = tiling.across();
        for (int i = threadIdx.x; i < tiling.count(); i += QuantizeThreads) {
            const int first = i / across * parts * across + i % across;
            unsigned max = 0;
            for (int part = 0; part < parts; part++) max = ::max(max, room.maxima[first + part * across]);
            const Scale scale = to.scale_of(max);
            room.scales[i] = scale;
            const int r = row + (i / across << tiling.row_bits), c = column + (i % across << tiling.column_bits);
            if (r < rows && c < columns) to.scales[place(r, c)] = scale.value;
        }
        __syncthreads();
    }

    __device__ void row_maxima(const Values& values, Tiling tiling) {
        const int lanes = Lanes / tiling.across();
        each_row([&](int r) {
            const unsigned max = lanes_maximum(values[r], lanes);
            if (lane % lanes == 0) room.maxima[tiling.of(warp * WarpRows + r, lane * 4)] = max;
        });
    }

    // Each warp's maxima of the columns; gives the warps of a tile.
    __device__ int column_maxima(const Values& values, Tiling tiling) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            unsigned max = 0;
            each_row([&](int r) { max = ::max(max, magnitude(values[r][j])); });
            room.maxima[warp * Side + lane * 4 + j] = max;
        }
        return (1 << tiling.row_bits) / WarpRows;
    }

    // Each warp's maximum; gives the warps.
    __device__ int piece_maximum(const Values& values) {
        unsigned max = 0;
        each_row([&](int r) { max = ::max(max, four_maximum(values[r])); });
        max = warp_maximum(max);
        if (lane == 0) room.maxima[warp] = max;
        return Warps;
    }

    __device__ void fill_lines(const Values& values, Tiling tiling) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int line = lane * 4 + j;
            unsigned words[2 * OwnHalves];
            Scale scale[4];
#pragma unroll
            for (int r = 0; r < WarpRows; r += 4) {
                float four[4];
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    four[i] = values[r + i][j];
                    // Tiles of more than a row have all of a warp's.
                    if (r == 0 || tiling.is_row())
                        scale[i] = room.scales[tiling.of(warp * WarpRows + r + i, line)];
                }
                FourCodes<E> codes;
                codes.encode(four, scale);
#pragma unroll
                for (int i = 0; i < CodeBytes; i++) words[r / 4 * CodeBytes + i] = codes.words[i];
            }
#pragma unroll
            for (int i = 0; i < OwnHalves; i++) {
                const int half = warp * OwnHalves + i;
                room.lines[line][Layout::turned(line, half / 2) * 2 + half % 2] = {words[i * 2], words[i * 2 + 1]};
            }
        }
    }

    // Where no line starts at a multiple of 16 bytes: code by code.
    __device__ void store_codes(const Quantized& to) const {
        for (int i = threadIdx.x; i < Side * Side; i += QuantizeThreads) {
            const int line = i / Side, place = i % Side;
            const int d = column + line, m = row + place;
            if (d < columns && m < rows)
                ((Code*)to.codes)[(long long)d * rows + m] =
                    ((const Code*)&room.lines[line][Layout::turned(line, place / PieceCodes) * 2])[place % PieceCodes];
        }
    }

    __device__ static void store(char* target, const FourCodes<E>& codes) {
        if (CodeBytes == 1) *(unsigned*)target = codes.words[0];
        else *(uint2*)target = {codes.words[0], codes.words[CodeBytes - 1]};
    }

    __device__ static void store(char* target, const char* codes, int bytes) {
        for (int i = 0; i < 4 * CodeBytes; i++)
            if (i < bytes) target[i] = codes[i];
    }

    Room& room;
    int row, column, rows, columns, warp, lane;
};
