// Products of a warpgroup (wgmma) with FP8 operands in shared memory, and the ordering of products of any type.
//
// A and B lie in shared memory as rows of 128 bytes, K contiguous, in the copy engine's 128-byte swizzle. Of a
// product's 64 rows a warp holds 16; thread t of it holds rows t/4 and t/4 + 8, and of each group of 8 columns the
// columns 2 (t%4) and 2 (t%4) + 1: sum[4 g + 2 h + c] is row t/4 + 8 h, column 8 g + 2 (t%4) + c.
// The tensor cores add FP8 products with about 14 bits, so callers add short sums in float32 themselves.
#pragma once

#include "Prelude.cuh"

namespace krewe {

/// Descriptor of a K-contiguous operand whose rows of 128 bytes start at a multiple of 1024 bytes: 128-byte swizzle,
/// 1024 bytes from eight rows to the next eight. Adding bytes/16 moves along K within the row.
KREWE_DEVICE uint64 operand_descriptor(uint32 address) {
    return static_cast<uint64>((address & 0x3ffff) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

/// Orders the registers and the shared memory before the products that follow.
KREWE_DEVICE void warpgroup_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

/// Closes a group of products.
KREWE_DEVICE void warpgroup_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

/// Waits until at most <Pending> of the latest groups are unfinished.
template <int Pending> KREWE_DEVICE void warpgroup_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

/// Keeps the compiler from moving reads and writes of these registers across this point.
template <int Count> KREWE_DEVICE void hold(float (&values)[Count]) {
#pragma unroll
    for (int i = 0; i < Count; ++i) {
        asm volatile("" : "+f"(values[i])::"memory");
    }
}

/// Registers of a sum as the instructions name them, and as their operands are given.
#define KREWE_SUM_NAMES16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define KREWE_SUM_NAMES32                                                                                              \
    KREWE_SUM_NAMES16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define KREWE_SUM_NAMES64                                                                                              \
    KREWE_SUM_NAMES32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
                      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define KREWE_SUM4(sum, i) "+f"(sum[i]), "+f"(sum[i + 1]), "+f"(sum[i + 2]), "+f"(sum[i + 3])
#define KREWE_SUM8(sum, i) KREWE_SUM4(sum, i), KREWE_SUM4(sum, i + 4)
#define KREWE_SUM32(sum, i) KREWE_SUM8(sum, i), KREWE_SUM8(sum, i + 8), KREWE_SUM8(sum, i + 16), KREWE_SUM8(sum, i + 24)

/// sum[64, Columns] (+)= A[64, 32] B[Columns, 32]^T, started, not finished; overwrites unless <accumulate>.
template <int Columns>
KREWE_DEVICE void warpgroup_product(float (&sum)[Columns / 2], uint64 a, uint64 b, bool accumulate);

template <> KREWE_DEVICE void warpgroup_product<32>(float (&sum)[16], uint64 a, uint64 b, bool accumulate) {
    asm volatile(
        "{ .reg .pred accumulate; setp.ne.b32 accumulate, %18, 0;"
        " wgmma.mma_async.sync.aligned.m64n32k32.f32.e4m3.e4m3 "
        "{" KREWE_SUM_NAMES16 "}, %16, %17, accumulate, 1, 1; }"
        : KREWE_SUM8(sum, 0), KREWE_SUM8(sum, 8)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
}

template <> KREWE_DEVICE void warpgroup_product<64>(float (&sum)[32], uint64 a, uint64 b, bool accumulate) {
    asm volatile(
        "{ .reg .pred accumulate; setp.ne.b32 accumulate, %34, 0;"
        " wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3 "
        "{" KREWE_SUM_NAMES32 "}, %32, %33, accumulate, 1, 1; }"
        : KREWE_SUM32(sum, 0)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
}

template <> KREWE_DEVICE void warpgroup_product<128>(float (&sum)[64], uint64 a, uint64 b, bool accumulate) {
    asm volatile(
        "{ .reg .pred accumulate; setp.ne.b32 accumulate, %66, 0;"
        " wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3 "
        "{" KREWE_SUM_NAMES64 "}, %64, %65, accumulate, 1, 1; }"
        : KREWE_SUM32(sum, 0), KREWE_SUM32(sum, 32)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
}

}  // namespace krewe
