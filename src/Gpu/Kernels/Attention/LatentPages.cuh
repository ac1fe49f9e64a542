// The latent cache in pages: where a row finds its tokens, how many chunks it has, and a page on its way to shared memory.
#pragma once

#include "AsyncCopies.cuh"
#include "BFloat16.cuh"
#include "Tensors.cuh"

constexpr int Chunks = 16, PageTokens = 64;

// Cached rows [latent | rotated key], float32 or bfloat16; mirrors DeviceLatentPages. Token j of row r lies in page
// table[sequences[r], j / 64], at j % 64; row r is of the token at positions[r].
struct Pages {
    void* rows;
    int width, stride, stored;
    const int* table;
    int table_columns;
    const int* sequences;
    const int* positions;

    __device__ int seen(int row) const { return positions[row] + 1; }

    // Pages that a chunk of the row has at most, and those that the row has seen.
    __device__ int pages_seen(int row) const { return (seen(row) + PageTokens - 1) / PageTokens; }
    __device__ int pages_of_chunk(int row) const { return (pages_seen(row) + Chunks - 1) / Chunks; }

    __device__ const int* pages_of(int row) const { return table + (long long)sequences[row] * table_columns; }

    template <class T>
    __device__ T* token(const int* pages, int j) const {
        return (T*)rows + ((long long)pages[j / PageTokens] * PageTokens + j % PageTokens) * stride;
    }
};

// The rows of a page to shared memory, `pitch` elements apart; 16 bytes at a time where all rows start at multiples.
template <class T>
__device__ void stage_page(const T* tokens, int stride, int count, int width, T* room, int pitch) {
    constexpr int Piece = 16 / sizeof(T);
    if ((unsigned long long)tokens % 16 == 0 && stride % Piece == 0 && width % Piece == 0) {
        const int pieces = width / Piece;
        for (int i = threadIdx.x; i < count * pieces; i += blockDim.x) {
            const int j = i / pieces, piece = i % pieces * Piece;
            copy_piece(room + j * pitch + piece, tokens + (long long)j * stride + piece);
        }

        copies_commit();
        copies_await<0>();
    } else {
        for (int i = threadIdx.x; i < count * width; i += blockDim.x)
            room[i / width * pitch + i % width] = tokens[(long long)(i / width) * stride + i % width];
    }
}
