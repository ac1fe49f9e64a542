// Products of a warpgroup (wgmma) with bfloat16 operands in shared memory, summed in float32.
//
// An operand lies as the copy engine brings it, in rows of 128 bytes with the 128-byte swizzle:
//   along K    a row of the tile is 64 elements of K; operand_descriptor describes it (Wgmma.cuh)
//   across K   the matrix is stored with K as its rows: boxes of 64 rows of K by 64 rows of the operand, side by side
// The transposition bits of the instruction tell the two apart, so no matrix is transposed in memory.
#pragma once

#include "MatrixProduct/Wgmma.cuh"

namespace krewe {

/// Bytes of a box of an operand across K: 64 rows of 128 bytes.
constexpr int BoxAcrossBytes = 64 * 128;

/// Descriptor of an operand across K whose boxes start at a multiple of 1024 bytes: 1024 bytes from eight rows of K to
/// the next eight, a box from 64 rows of the operand to the next 64. Adding bytes/16 moves along K by whole rows.
KREWE_DEVICE uint64 operand_descriptor_across(uint32 address) {
    return static_cast<uint64>((address & 0x3ffff) >> 4) | static_cast<uint64>(BoxAcrossBytes / 16) << 16 |
           64ull << 32 | 1ull << 62;
}

/// sum[64, Columns] (+)= A[64, 16] B[Columns, 16]^T, started, not finished; overwrites unless <accumulate>. An operand
/// lies along K or <Across> it.
template <int Columns, bool AcrossA, bool AcrossB>
KREWE_DEVICE void warpgroup_product_bfloat16(float (&sum)[Columns / 2], uint64 a, uint64 b, bool accumulate) {
    static_assert(Columns == 64 || Columns == 128, "what the tiles need");
    if constexpr (Columns == 64) {
        asm volatile(
            "{ .reg .pred accumulate; setp.ne.b32 accumulate, %34, 0;"
            " wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
            "{" KREWE_SUM_NAMES32 "}, %32, %33, accumulate, 1, 1, %35, %36; }"
            : KREWE_SUM32(sum, 0)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(AcrossA), "n"(AcrossB));
    } else {
        asm volatile(
            "{ .reg .pred accumulate; setp.ne.b32 accumulate, %66, 0;"
            " wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
            "{" KREWE_SUM_NAMES64 "}, %64, %65, accumulate, 1, 1, %67, %68; }"
            : KREWE_SUM32(sum, 0), KREWE_SUM32(sum, 32)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(AcrossA), "n"(AcrossB));
    }
}

}  // namespace krewe
