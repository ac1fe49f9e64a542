// What the producer has the copy engine bring: boxes of 64 rows and 64 columns of the bfloat16 operands.
#pragma once

#include "Attention/FlashShape.cuh"

namespace krewe {

/// Tensor maps of bfloat16 matrices with a row for each token, in boxes [64, 64], swizzle 128 bytes.
struct Operands {
    /// [T, heads (nope + rope)]
    const TensorMap* query;
    /// [T, heads (nope + value)]
    const TensorMap* keyValue;
    /// [T, rope]
    const TensorMap* keyRope;
    /// [T, heads value], or null in the forward.
    const TensorMap* gradOutput;
    /// Statistics as float32 [T, 4 heads] in boxes [64, 4], no swizzle, or null where they are not copied.
    const TensorMap* statistics;
};

/// Starts the copies of <Rows> rows of all chunks of <columns> columns from (column, row) on. Rows past the sequence
/// are its neighbour's, and zeros past the last.
template <int Rows, int Chunks>
KREWE_DEVICE void copy_chunks(uint32 target, const TensorMap* map, uint32 barrier, int column, int row) {
#pragma unroll
    for (int chunk = 0; chunk < Chunks; ++chunk) {
#pragma unroll
        for (int box = 0; box < Rows / BoxRows; ++box) {
            copy_box(target + (chunk * (Rows / BoxRows) + box) * BoxBytes, map, barrier, column + chunk * ChunkColumns,
                     row + box * BoxRows);
        }
    }
}

template <int Rows>
KREWE_DEVICE void copy_queries(uint32 target, const Operands& operands, uint32 barrier, int head, int row) {
    const int column = head * KeyWidth::Columns;
    copy_chunks<Rows, KeyWidth::NopeChunks>(target, operands.query, barrier, column, row);
    copy_chunks<Rows, KeyWidth::Chunks - KeyWidth::NopeChunks>(
        target + KeyWidth::NopeChunks * (Rows / BoxRows) * BoxBytes, operands.query, barrier, column + KeyWidth::Nope,
        row);
}

template <int Rows>
KREWE_DEVICE void copy_keys(uint32 target, const Operands& operands, uint32 barrier, int head, int row) {
    copy_chunks<Rows, KeyWidth::NopeChunks>(target, operands.keyValue, barrier, head * KeyValueColumns, row);
    copy_chunks<Rows, KeyWidth::Chunks - KeyWidth::NopeChunks>(
        target + KeyWidth::NopeChunks * (Rows / BoxRows) * BoxBytes, operands.keyRope, barrier, 0, row);
}

template <int Rows>
KREWE_DEVICE void copy_values(uint32 target, const Operands& operands, uint32 barrier, int head, int row) {
    copy_chunks<Rows, ValueWidth::Chunks>(target, operands.keyValue, barrier, head * KeyValueColumns + KeyWidth::Nope,
                                          row);
}

template <int Rows>
KREWE_DEVICE void copy_gradients(uint32 target, const Operands& operands, uint32 barrier, int head, int row) {
    copy_chunks<Rows, ValueWidth::Chunks>(target, operands.gradOutput, barrier, head * ValueWidth::Columns, row);
}

}  // namespace krewe
