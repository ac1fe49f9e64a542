// Products of FP8 matrices of a few rows, as decoding has them: output[m, n] (+)= sum over d of input[m, d] weight[n, d],
// E4M3 in tiles of 1 x 128 by 128 x 128. Bound by the bytes of the weights, so these go from memory to registers and are
// the tensor cores' first operand, 64 rows at a time; 8 rows of the input are the second. The bits of
// Fp8MatrixProduct.cu: the same products of 32 of the depth, 128 in one sum, sums times scales added in float32 in rising
// order.
// Grid: as many blocks as the card holds, or fewer; a block takes pieces of 64 columns of the output by 8 rows, of all
// products in turn, which it counts itself where their rows are known on the device alone. Block: four warpgroups, each
// with two blocks of 128 of the depth at a time, the next ones on their way meanwhile. Dynamic shared memory: none.
// Bytes: the weights once for each 8 rows, 64 KiB on their way on each multiprocessor.
#include "MatrixProduct/Wgmma.cuh"
#include "Tensors.cuh"

namespace krewe {

constexpr int Block = 128, Step = 32, Steps = Block / Step, TileColumns = 64, TileRows = 8;
constexpr int Warpgroups = 4, Each = 2, StageBlocks = Warpgroups * Each, Threads = Warpgroups * WarpgroupThreads;
constexpr int PartialPitch = TileColumns + 4;

/// A product; mirrors DeviceFewRows. `range`: which rows of the output are its own, or null; `gather`: the input's rows.
struct FewRows {
    const uint8* input;
    const float* input_scales;
    const int* gather;
    const uint8* weight;
    const float* weight_scales;
    float* output;
    const int* range;
    int rows, columns, depth;
    int input_blocks, weight_blocks, pitch, accumulate;

    KREWE_DEVICE int tiles() const { return ceil_divide(columns, TileColumns); }
};

/// What the blocks of the depth of a stage leave, and what the tensor cores read of the input: for each 32 of the depth
/// two matrices of 8 rows by 16 bytes.
struct Room {
    alignas(128) uint8 input[StageBlocks * Block * TileRows];
    float partial[StageBlocks][TileRows * PartialPitch];
    float input_scales[2][TileRows][StageBlocks];
    float weight_scales[2][StageBlocks];
    int ends[Threads];
    int warps[Threads / WarpThreads];
};

/// sum[64, 8] (+)= A[64, 32] B[8, 32]^T, A in registers; overwrites unless <accumulate>.
KREWE_DEVICE void few_product(float (&sum)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint64 b, bool accumulate) {
    asm volatile(
        "{ .reg .pred accumulate; setp.ne.b32 accumulate, %9, 0;"
        " wgmma.mma_async.sync.aligned.m64n8k32.f32.e4m3.e4m3 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, accumulate, 1, 1; }"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(static_cast<int>(accumulate)));
}

/// Descriptor of 8 rows by 32 bytes: two matrices of 8 rows by 16 bytes, 128 bytes apart.
KREWE_DEVICE uint64 rows_descriptor(uint32 address) {
    return static_cast<uint64>((address & 0x3ffff) >> 4) | 8ull << 16 | 16ull << 32;
}

KREWE_DEVICE uint2 load_weight(const uint8* pointer) {
    uint2 value;
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(value.x), "=r"(value.y) : "l"(pointer));
    return value;
}

/// A piece of work at one of its stages: 1024 of the depth.
struct Work {
    const FewRows* product;
    int column, row, end, stage, blocks;
    int unit;

    KREWE_DEVICE bool is_last() const { return (stage + 1) * StageBlocks >= blocks; }
};

/// What a thread brings of a stage. Of a row of 32 weights thread t of four has the bytes 8 t to 8 t + 7: four for each
/// of the tensor cores' matrices, whose order within 32 does not matter to the sum as long as the input has it too.
struct Loaded {
    uint2 weight[Each][2][Steps];
    uint4 input;
    float scale;
};

class FewRowsBlock {
public:
    KREWE_DEVICE FewRowsBlock(const FewRows* products, int count, Room& room)
        : products(products), count(count), room(room), warpgroup(warp_index() / WarpgroupWarps),
          strip(warp_index() % WarpgroupWarps * 16), group(lane_index() / 4), part(lane_index() % 4) {}

    /// Numbers the pieces of all products.
    KREWE_DEVICE void place() {
        int own = 0;
        if (static_cast<int>(threadIdx.x) < count) {
            const FewRows& product = products[threadIdx.x];
            const int rows = product.range ? product.range[1] - product.range[0] : product.rows;
            own = ceil_divide(rows, TileRows) * product.tiles();
        }
        int sum = own;
        for (int distance = 1; distance < WarpThreads; distance *= 2) {
            const int other = __shfl_up_sync(~0u, sum, distance);
            if (lane_index() >= distance) sum += other;
        }
        // Found by a shuffle, so by all lanes.
        const int own_warp = warp_index();
        if (lane_index() == WarpThreads - 1) room.warps[own_warp] = sum;
        __syncthreads();
        int before = 0;
        for (int warp = 0; warp < own_warp; ++warp) before += room.warps[warp];
        room.ends[threadIdx.x] = before + sum;
        __syncthreads();
        units = room.ends[count - 1];
    }

    /// Moves to a piece, or says that there is none.
    KREWE_DEVICE bool enter(Work& work, int unit) const {
        work.unit = unit;
        if (unit >= units) return false;
        int low = 0, high = count - 1;
        while (low < high) {
            const int middle = (low + high) / 2;
            if (room.ends[middle] > unit) high = middle;
            else low = middle + 1;
        }
        const FewRows& product = products[low];
        const int first = product.range ? product.range[0] : 0;
        work.product = &product;
        work.end = product.range ? product.range[1] : product.rows;
        const int groups = ceil_divide(work.end - first, TileRows);
        const int own = unit - (low > 0 ? room.ends[low - 1] : 0);
        work.column = own / groups * TileColumns;
        work.row = first + own % groups * TileRows;
        work.stage = 0;
        work.blocks = ceil_divide(product.depth, Block);
        return true;
    }

    /// Moves to the next stage, of this piece or of the block's next.
    KREWE_DEVICE bool advance(Work& work) const {
        if (work.is_last()) return enter(work, work.unit + gridDim.x);
        ++work.stage;
        return true;
    }

    KREWE_DEVICE void load_weights(Loaded& loaded, const Work& work) const {
        const FewRows& product = *work.product;
        const int depth = product.depth, last = product.columns - 1;
        const int row = work.column + strip + group;
        const uint8* upper = product.weight + static_cast<int64>(min_of(row, last)) * depth + part * 8;
        const uint8* lower = product.weight + static_cast<int64>(min_of(row + 8, last)) * depth + part * 8;
#pragma unroll
        for (int i = 0; i < Each; ++i) {
            const int start = (work.stage * StageBlocks + warpgroup * Each + i) * Block;
#pragma unroll
            for (int step = 0; step < Steps; ++step) {
                const int k = start + step * Step;
                const bool inside = k + part * 8 < depth;
                loaded.weight[i][0][step] = inside ? load_weight(upper + k) : uint2{0, 0};
                loaded.weight[i][1][step] = inside ? load_weight(lower + k) : uint2{0, 0};
            }
        }
    }

    KREWE_DEVICE void load_inputs(Loaded& loaded, const Work& work) const {
        const FewRows& product = *work.product;
        const int row = work.row + threadIdx.x / 64, k = work.stage * StageBlocks * Block + threadIdx.x % 64 * 16;
        loaded.input = {0, 0, 0, 0};
        if (row < work.end && k < product.depth) {
            const int own = product.gather ? product.gather[row] : row;
            loaded.input = *reinterpret_cast<const uint4*>(product.input + static_cast<int64>(own) * product.depth + k);
        }
        loaded.scale = 0;
        if (threadIdx.x < (TileRows + 1) * StageBlocks) {
            const int r = threadIdx.x / StageBlocks, block = work.stage * StageBlocks + threadIdx.x % StageBlocks;
            if (block < work.blocks && r == TileRows)
                loaded.scale = product.weight_scales[work.column / Block * product.weight_blocks + block];
            else if (block < work.blocks && work.row + r < work.end) {
                const int own = product.gather ? product.gather[work.row + r] : work.row + r;
                loaded.scale = product.input_scales[static_cast<int64>(own) * product.input_blocks + block];
            }
        }
    }

    /// One stage: `now` is in registers, `next` is brought meanwhile. Says whether there is a next one.
    KREWE_DEVICE bool step(Work& work, const Loaded& now, Loaded& next) {
        store_inputs(now);
        Work ahead = work;
        const bool more = advance(ahead);
        if (more) {
            load_weights(next, ahead);
            load_inputs(next, ahead);
        }
        copy_fence();
        __syncthreads();
        multiply(now, work);
        __syncthreads();
        add_up(work);
        work = ahead;
        parity ^= 1;
        return more;
    }

private:
    /// The input as the tensor cores read it: the order of the bytes within 32 is that of Loaded.
    KREWE_DEVICE void store_inputs(const Loaded& now) {
        const int row = threadIdx.x / 64, piece = threadIdx.x % 64;
        uint8* at = room.input + piece / 2 * 256 + row * 16 + piece % 2 * 8;
        *reinterpret_cast<uint2*>(at) = {now.input.x, now.input.z};
        *reinterpret_cast<uint2*>(at + 128) = {now.input.y, now.input.w};
        if (threadIdx.x < TileRows * StageBlocks)
            room.input_scales[parity][threadIdx.x / StageBlocks][threadIdx.x % StageBlocks] = now.scale;
        else if (threadIdx.x < (TileRows + 1) * StageBlocks)
            room.weight_scales[parity][threadIdx.x % StageBlocks] = now.scale;
    }

    KREWE_DEVICE void multiply(const Loaded& now, const Work& work) {
        float partial[Each][4];
        warpgroup_fence();
#pragma unroll
        for (int i = 0; i < Each; ++i) {
            const uint32 input = shared_address(room.input) + (warpgroup * Each + i) * Block * TileRows;
#pragma unroll
            for (int step = 0; step < Steps; ++step)
                few_product(
                    partial[i], now.weight[i][0][step].x, now.weight[i][1][step].x, now.weight[i][0][step].y,
                    now.weight[i][1][step].y, rows_descriptor(input + step * Step * TileRows), step > 0);
        }
        warpgroup_commit();
        warpgroup_wait<0>();
#pragma unroll
        for (int i = 0; i < Each; ++i) {
            hold(partial[i]);
            float* room_of = room.partial[warpgroup * Each + i] + part * 2 * PartialPitch + strip + group;
            room_of[0] = partial[i][0];
            room_of[PartialPitch] = partial[i][1];
            room_of[8] = partial[i][2];
            room_of[PartialPitch + 8] = partial[i][3];
        }
    }

    /// Each thread has one element of the output.
    KREWE_DEVICE void add_up(const Work& work) {
        const int column = threadIdx.x % TileColumns, row = threadIdx.x / TileColumns;
        const int blocks = min_of(StageBlocks, work.blocks - work.stage * StageBlocks);
        if (work.stage == 0) sum = 0;
#pragma unroll
        for (int i = 0; i < StageBlocks; ++i)
            if (i < blocks) {
                const float scale = room.input_scales[parity][row][i] * room.weight_scales[parity][i];
                sum = fmaf(scale, room.partial[i][row * PartialPitch + column], sum);
            }
        if (work.is_last() && work.row + row < work.end && work.column + column < work.product->columns) {
            float* to = work.product->output + static_cast<int64>(work.row + row) * work.product->pitch + work.column + column;
            *to = work.product->accumulate ? *to + sum : sum;
        }
    }

    const FewRows* products;
    int count;
    Room& room;
    int warpgroup, strip, group, part;
    int units = 0, parity = 0;
    float sum = 0;
};

}  // namespace krewe

using namespace krewe;

// `placed`: rows of some product are known on the device alone; where none are, the weights are on their way while the
// kernels before this one end.
extern "C" __global__ void __launch_bounds__(Threads, 1)
few_rows_product(const FewRows* products, int count, int placed, const Fault* fault) {
    __shared__ Room room;
    FewRowsBlock block(products, count, room);
    grid_release_dependents();
    if (placed) grid_await_predecessors();
    block.place();
    Work work;
    Loaded first, second;
    if (!block.enter(work, blockIdx.x)) {
        if (!placed) grid_await_predecessors();
        return;
    }
    block.load_weights(first, work);
    if (!placed) grid_await_predecessors();
    if (is_set(fault)) return;
    block.load_inputs(first, work);
    while (block.step(work, first, second) && block.step(work, second, first)) {
    }
}
