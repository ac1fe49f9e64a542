// Products of a warpgroup (wgmma) with bfloat16 operands, 64 rows by chunks of 64 columns, sums in float32.
//
// Which element a thread holds is as in Wgmma.cuh. What a product leaves in registers is, rounded to bfloat16, just
// what the next takes as its left operand: thread t gives of each 8 x 8 block row t/4, columns 2 (t%4) and 2 (t%4) + 1.
// So probabilities never touch shared memory.
#pragma once

#include "Attention/FlashShape.cuh"
#include "MatrixProduct/Wgmma.cuh"

namespace krewe {

/// A warpgroup's sums of 64 rows and 64 columns.
using Sum = float[32];

/// Sums of 64 rows and 32 columns.
using HalfSum = float[16];

/// A left operand of 64 rows in registers, in steps of 16 columns.
template <int Steps> using Weights = uint32[Steps][4];

/// Descriptor of an operand whose rows are summed over: step <step> of 16 rows of chunks that are <chunkBytes> apart.
KREWE_DEVICE uint64 turned_descriptor(uint32 address, int chunkBytes) {
    return static_cast<uint64>((address & 0x3ffff) >> 4) | static_cast<uint64>(chunkBytes >> 4) << 16 | 64ull << 32 |
           1ull << 62;
}

/// sum (+)= A[64, 16] B[32, 16]^T, both in shared memory; started, not finished; overwrites unless <accumulate>.
KREWE_DEVICE void product(HalfSum& sum, uint64 a, uint64 b, bool accumulate) {
    asm volatile(
        "{ .reg .pred accumulate; setp.ne.b32 accumulate, %18, 0;"
        " wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {" KREWE_SUM_NAMES16
        "}, %16, %17, accumulate, 1, 1, 0, 0; }"
        : KREWE_SUM8(sum, 0), KREWE_SUM8(sum, 8)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
}

/// The same with B[64, 16].
KREWE_DEVICE void product(Sum& sum, uint64 a, uint64 b, bool accumulate) {
    asm volatile(
        "{ .reg .pred accumulate; setp.ne.b32 accumulate, %34, 0;"
        " wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" KREWE_SUM_NAMES32
        "}, %32, %33, accumulate, 1, 1, 0, 0; }"
        : KREWE_SUM32(sum, 0)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
}

/// The same with B[128, 16].
KREWE_DEVICE void product(Sum (&sum)[2], uint64 a, uint64 b, bool accumulate) {
    asm volatile(
        "{ .reg .pred accumulate; setp.ne.b32 accumulate, %66, 0;"
        " wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" KREWE_SUM_NAMES64
        "}, %64, %65, accumulate, 1, 1, 0, 0; }"
        : KREWE_SUM32(sum[0], 0), KREWE_SUM32(sum[1], 0)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
}

/// sum (+)= A[64, 16] B[16, 64], A in registers, B's rows in shared memory.
KREWE_DEVICE void turned_product(Sum& sum, const uint32 (&a)[4], uint64 b, bool accumulate) {
    asm volatile(
        "{ .reg .pred accumulate; setp.ne.b32 accumulate, %37, 0;"
        " wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" KREWE_SUM_NAMES32
        "}, {%32, %33, %34, %35}, %36, accumulate, 1, 1, 1; }"
        : KREWE_SUM32(sum, 0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)));
}

/// The same with B[16, 128].
KREWE_DEVICE void turned_product(Sum& low, Sum& high, const uint32 (&a)[4], uint64 b, bool accumulate) {
    asm volatile(
        "{ .reg .pred accumulate; setp.ne.b32 accumulate, %69, 0;"
        " wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" KREWE_SUM_NAMES64
        "}, {%64, %65, %66, %67}, %68, accumulate, 1, 1, 1; }"
        : KREWE_SUM32(low, 0), KREWE_SUM32(high, 0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)));
}

/// Keeps the compiler from moving reads and writes of these sums across this point.
template <int Chunks> KREWE_DEVICE void hold(Sum (&sums)[Chunks]) {
#pragma unroll
    for (int chunk = 0; chunk < Chunks; ++chunk) {
        hold(sums[chunk]);
    }
}

/// Starts sum = A B^T over the columns of <Width>: 64 rows of A and as many of B as the sum has columns, from the
/// addresses on, in matrices whose chunks are so many bytes apart.
template <class Width, int ChunkBytesA, int ChunkBytesB, class Result>
KREWE_DEVICE void multiply(Result& sum, uint32 a, uint32 b) {
#pragma unroll
    for (int chunk = 0; chunk < Width::Chunks; ++chunk) {
        const uint64 left = operand_descriptor(a + chunk * ChunkBytesA);
        const uint64 right = operand_descriptor(b + chunk * ChunkBytesB);
#pragma unroll
        for (int step = 0; step < Width::steps(chunk); ++step) {
            const int advance = step * StepElements * 2 / 16;
            product(sum, left + advance, right + advance, chunk + step > 0);
        }
    }
}

/// Starts sums (+)= weights B: of B, <Width> wide, as many rows from the address on as the weights have columns.
template <class Width, int ChunkBytes, int Steps>
KREWE_DEVICE void multiply_turned(Sum (&sums)[Width::Chunks], const Weights<Steps>& weights, uint32 b,
                                  bool accumulate) {
#pragma unroll
    for (int step = 0; step < Steps; ++step) {
        const uint32 rows = b + step * StepElements * ChunkColumns * 2;
        const bool add = accumulate || step > 0;
#pragma unroll
        for (int chunk = 0; chunk < Width::Chunks; chunk += 2) {
            const uint64 right = turned_descriptor(rows + chunk * ChunkBytes, ChunkBytes);
            if (chunk + 1 < Width::Chunks) {
                turned_product(sums[chunk], sums[min_of(chunk + 1, Width::Chunks - 1)], weights[step], right, add);
            } else {
                turned_product(sums[chunk], weights[step], right, add);
            }
        }
    }
}

/// Rounds 16 columns of a thread's sums to a step of the next product's left operand.
KREWE_DEVICE void pack(uint32 (&weights)[4], const float* values) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        weights[i] = pack_bfloat16(values[i * 2], values[i * 2 + 1]);
    }
}

/// Column within a chunk of element <i> of a lane's sums.
KREWE_DEVICE constexpr int sum_column(int i, int lane) { return i / 4 * 8 + lane % 4 * 2 + i % 2; }

}  // namespace krewe
