// C[rows, columns] = sum over blocks kb of 128 of (A[rows, 128] x B[columns, 128]^T) * scalesA[kb, row] * scaleB
//
// FP8 (E4M3) operands with a scale per 1 x 128 tile of A and per 128 x 128 tile of B, or per 1 x 128 tile of both for
// weight gradients; float32 sums. The tensor cores add up 128 products, which they do with about 14 bits, and the
// sums of the blocks are scaled and added in float32 registers (DeepSeek-V3 report 3.3.2; the reference's section 2).
//
// Kinds (KREWE_KIND, Shape.cuh lists all that is fixed at compile time):
//   dense         one product.
//   grouped rows  rows of all groups one after the other; groups[g] to groups[g + 1] are those of group g, which
//                 multiplies its own B. Bounds are multiples of 4; a group may be empty. Only its rows are written.
//   masked rows   each group has room for <rows> rows (a multiple of 4), of which groups[g] count; only those are
//                 written.
//   grouped depth one output per group, C_g = A[:, groups[g] .. groups[g + 1]] x B[:, the same]^T: the gradients of the
//                 experts' weights, depth being tokens. Bounds are multiples of 128 (zero codes or scales fill up).
//   separate      a list of products, each with operands, sizes and output of its own, all in one launch.
// groups is int32 in device memory: the host need not know the sizes.
//
// Buffers. A and B: E4M3, K contiguous, depth a multiple of 16 (what is missing to a block counts as zero).
//   a        [rows, depth]; masked [groups * rows, depth]
//   b        [columns, depth]; grouped and masked rows [groups * columns, depth]
//   scalesA  float32 [rows of a, ceil(depth / 128)]
//   scalesB  per tile: float32 [groups, ceil(columns / 128), ceil(depth / 128)];
//            per row: float32 [rows of b, ceil(depth / 128)]
//   output   [rows of a, columns], grouped depth [groups * rows, columns], rows a multiple of 8 there;
//            bfloat16 or float32, rows a multiple of 16 bytes apart, overwritten or added to
//
// Launch. Grid: min(clusters that fit on the device at once (cuOccupancyMaxActiveClusters), units) * KREWE_CLUSTER
// blocks, with units = groups * ceil(rows / tile rows) * ceil(columns / (tile columns * cluster)), or the sum of the
// separate products'; for grouped rows all that fit, as the units are not known. 384 threads, with tiles of 64 rows
// 256.
// Shape::SharedBytes of dynamic shared memory: stages * ((tile rows + tile columns) * 128 + 4 tile rows + s + 16) + s
//   + warps * 24 * min(tile columns * output bytes, 128), where s = 4 tile columns with scales per row, otherwise 0,
//   and warps = 8, with tiles of 64 rows 4.
// The cluster's size is compiled in; an attribute that repeats it does no harm. With programmatic stream serialization
// the kernel's start overlaps the end of the one before. Parameters: an Fp8Product by value, or, of several separate
// ones, their list in device memory, at a multiple of 64 bytes; how many they are; the record of a bad index, or null:
// where one is set nothing is done. An Fp8Product is
//   tensor map of a        uint8, box [tile rows / cluster, 128], swizzle 128 bytes
//   tensor map of b        uint8, box [tile columns, 128], swizzle 128 bytes
//   tensor map of output   bfloat16 or float32, box [8, min(tile columns, 128 bytes)], swizzle as wide as the box's row
//   Arguments              as Shape.cuh has them
//
// A persistent block walks tiles of C (Schedule.cuh). One thread has the copy engine fill a ring of stages (Producer);
// warps beside it bring scales, four blocks of K of a row at a time (ScaleProducer); two warpgroups multiply
// (Consumer), and the copy engine brings the result away (Epilogue). Each output element is written or added to once,
// in a fixed order of sums, so a result has the same bits every time. Bytes moved: each operand about once from device
// memory, since bands of 2048 rows share the L2 cache; of A a cluster reads each row once for all its blocks.
//
// Measured on an H100 (benchmarks/Gpu/results/fp8-matrix-product.txt), TFLOP/s in a burst, cuBLASLt in brackets:
// 4096 x 4096 x 7168 1320 (1290), 4096 x 7168 x 2048 1217 (1161); 8 groups of 4096 rows 1272 and 1211.
#include "MatrixProduct/Consumer.cuh"
#include "MatrixProduct/Producer.cuh"
#include "MatrixProduct/ScaleProducer.cuh"

using namespace krewe;

extern "C" __global__ void __cluster_dims__(Shape::Cluster, 1, 1) __launch_bounds__(Shape::Threads, 1)
    fp8_matrix_product(const __grid_constant__ Fp8Product own, const Fp8Product* list, int count, const int* fault) {
    alignas(1024) extern __shared__ uint8 shared[];
    const SharedMemory memory{shared_address(shared)};
    const bool listed = Shape::kind == Kind::Separate && list != nullptr;
    const Fp8Products products{listed ? list : &own, count, listed};
    const int warp = warp_index();
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < Shape::Stages; ++stage) {
            barrier_init(memory.filled(stage), 1 + Shape::ScaleParts);
            barrier_init(memory.emptied(stage), Shape::Cluster * Shape::Consumers * WarpgroupWarps);
        }
        barrier_init_fence();
    }
    cluster_sync();
    grid_release_dependents();
    grid_await_predecessors();
    if (fault != nullptr && load_changing(fault) != 0) {
        return;
    }

    if (warp >= Shape::Consumers * WarpgroupWarps) {
        if (Shape::Consumers == 2) {
            registers_decrease<Shape::ProducerRegisters>();
        }
        const int own = warp - Shape::Consumers * WarpgroupWarps;
        if (own > 0) {
            produce_scales(products, memory, own - 1);
        } else if (lane_index() == 0) {
            produce(products, memory);
        }
        __syncwarp();
    } else {
        if (Shape::Consumers == 2) {
            registers_increase<Shape::ConsumerRegisters>();
        }
        Consumer(products, memory, warp).run();
    }
    cluster_sync();
}
