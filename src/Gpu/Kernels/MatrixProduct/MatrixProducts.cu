// Matrix products of float32, or of bfloat16 that the tensor cores cannot take as it lies, in float32: each element
// one chain of fused multiply-adds over the inner dimension in rising order:
// the bits of Kernels/Reference, whatever the tile. A weight gradient has a chain for each 1024 rows, each with blocks of
// its own where the tiles alone do not fill the card, and add_chains behind. The exact path, not the fast one.
// Grid: the tiles of all products, one behind the other; a block finds its product by its first tile. Block: 256
// threads, each with a part of the tile. The next piece of the operands is on its way while one is multiplied.
// Variants: 128x128 tiles where they fill the card, 64x64 else, 16x16 for a few rows (decoding).
// Bytes: A once for each tile of columns, B once for each tile of rows. Measured (benchmarks/Gpu/results): 30, 28 and
// 20 TFLOP/s forward, to the input and to the weight at 4096 x 2048 x 7168 on an H100, whose float32 rate is 67.
#include "Tensors.cuh"
#include "BFloat16.cuh"

constexpr int Threads = 256;

// Rows that one chain of a weight gradient sums over; mirrors IKernels.RowsOfChain.
constexpr int RowsOfChain = 1024;

// One product c[m, n] = chain over k of a(m, k) b(n, k); mirrors DeviceProduct. `gather` renames rows of the operand
// that is the saved input: of a by m, or in weight gradients of b by k. `range`: which of m, or of k there, are the
// product's own; see place_products.
struct Product {
    const void* a;
    const void* b;
    float* c;
    const int* gather;
    const int* range;
    float* chains;  // [chain_blocks - 1, m, n]: the chains but the first, where each has blocks of its own.
    int m, n, k;
    int stride_a, stride_b, stride_c;
    int accumulate;
    int first_tile;
    int chain_blocks;  // Chains that have blocks of their own; with 1 a block takes all of its tile, one after the other.
};

// A piece of one operand on its way from global to shared memory: `Rows` rows of the operand (or columns, where it lies
// across) by `Depth` steps of the inner dimension. Neighbouring threads read neighbouring addresses.
template <bool Transposed, int Rows, int Depth>
struct Piece {
    static constexpr int Distance = Rows + 4;
    static constexpr int Each = Rows * Depth / Threads;
    float values[Each];

    __device__ static int row(int i) { return Transposed ? i % Rows : i / Depth; }
    __device__ static int depth(int i) { return Transposed ? i / Rows : i % Depth; }

    // Zeros past the ends; `gather` renames the rows that lie apart in memory. All names come first, and where there are
    // none nothing of that is there: a load that might wait for a name waits for the loads before it too.
    template <typename Element>
    __device__ void load(const Element* data, int stride, const int* gather, int r0, int rows, int k0, int inner) {
        if (gather) {
            int names[Each];
#pragma unroll
            for (int e = 0; e < Each; e++)
                names[e] = is_inside(e, r0, rows, k0, inner) ? gather[apart(e, r0, k0)] : 0;
            load_rows(data, stride, [&](int e) { return names[e]; }, r0, rows, k0, inner);
        } else {
            load_rows(data, stride, [&](int e) { return apart(e, r0, k0); }, r0, rows, k0, inner);
        }
    }

    template <typename Element, typename Name>
    __device__ void load_rows(const Element* data, int stride, Name name, int r0, int rows, int k0, int inner) {
#pragma unroll
        for (int e = 0; e < Each; e++) {
            const int along = Transposed ? r0 + row(threadIdx.x + e * Threads) : k0 + depth(threadIdx.x + e * Threads);
            values[e] = is_inside(e, r0, rows, k0, inner) ? widen(data[(long long)name(e) * stride + along]) : 0.0f;
        }
    }

    // The own element e's coordinate between rows that lie apart in memory.
    __device__ static int apart(int e, int r0, int k0) {
        const int i = threadIdx.x + e * Threads;
        return Transposed ? k0 + depth(i) : r0 + row(i);
    }

    __device__ static bool is_inside(int e, int r0, int rows, int k0, int inner) {
        const int i = threadIdx.x + e * Threads;
        return r0 + row(i) < rows && k0 + depth(i) < inner;
    }

    __device__ void store(float* room) const {
#pragma unroll
        for (int e = 0; e < Each; e++) {
            int i = threadIdx.x + e * Threads;
            room[depth(i) * Distance + row(i)] = values[e];
        }
    }
};

// `Each` values of a row of shared memory for this thread: groups of four, `Side` threads apart, without conflicts.
template <int Each, int Side>
__device__ void read(const float* room, int thread, float* values) {
    if (Each == 1) {
        values[0] = room[thread];
        return;
    }

#pragma unroll
    for (int group = 0; group < Each / 4; group++) {
        float4 four = *(const float4*)&room[(group * Side + thread) * 4];
        values[group * 4] = four.x;
        values[group * 4 + 1] = four.y;
        values[group * 4 + 2] = four.z;
        values[group * 4 + 3] = four.w;
    }
}

template <int Each, int Side>
__device__ int place(int thread, int i) {
    return Each == 1 ? thread : (i / 4 * Side + thread) * 4 + i % 4;
}

// a is [m, k], or [k, m] where ATransposed; b is [n, k], or [k, n] where BTransposed. Tile: 16 threads each way, Each
// elements of a thread each way.
template <typename Element, bool ATransposed, bool BTransposed, int Each, int Depth>
__device__ void multiply(const Product* products, int count, int placed, const Fault* fault) {
    constexpr int Side = 16, Tile = Side * Each, Unroll = Each == 1 ? 16 : Each == 4 ? 8 : 2;
    using A = Piece<ATransposed, Tile, Depth>;
    using B = Piece<BTransposed, Tile, Depth>;
    __shared__ __align__(16) float a_room[Depth * A::Distance];
    __shared__ __align__(16) float b_room[Depth * B::Distance];
    if (is_set(fault) || (placed && (int)blockIdx.x >= products[count].first_tile)) return;

    const Product p = products[item_of_tile(products, count, blockIdx.x)];
    const int tiles_n = (p.n + Tile - 1) / Tile;
    const int tiles = tiles_n * ((p.m + Tile - 1) / Tile);
    const int tile = (blockIdx.x - p.first_tile) % tiles, chain = (blockIdx.x - p.first_tile) / tiles;
    const int m0 = tile / tiles_n * Tile, n0 = tile % tiles_n * Tile;
    const int tx = threadIdx.x % Side, ty = threadIdx.x / Side;
    const int* gather_a = ATransposed ? nullptr : p.gather;
    const int* gather_b = ATransposed ? p.gather : nullptr;
    const Element* a_data = (const Element*)p.a;
    const Element* b_data = (const Element*)p.b;
    const bool alone = p.chain_blocks > 1;
    int begin = chain * RowsOfChain;
    const int stop = alone ? min(begin + RowsOfChain, p.k) : p.k;
    do {
        const int end = ATransposed ? min(begin + RowsOfChain, stop) : stop;
        float sum[Each][Each];
#pragma unroll
        for (int i = 0; i < Each; i++)
#pragma unroll
            for (int j = 0; j < Each; j++) {
                int m = m0 + place<Each, Side>(ty, i), n = n0 + place<Each, Side>(tx, j);
                sum[i][j] = p.accumulate && begin == 0 && m < p.m && n < p.n
                    ? p.c[(long long)m * p.stride_c + n] : 0.0f;
            }

        A a;
        B b;
        a.load(a_data, p.stride_a, gather_a, m0, p.m, begin, end);
        b.load(b_data, p.stride_b, gather_b, n0, p.n, begin, end);
        for (int k0 = begin; k0 < end; k0 += Depth) {
            __syncthreads();
            a.store(a_room);
            b.store(b_room);
            __syncthreads();
            a.load(a_data, p.stride_a, gather_a, m0, p.m, k0 + Depth, end);
            b.load(b_data, p.stride_b, gather_b, n0, p.n, k0 + Depth, end);

            // A chain ends with the inner dimension: one more link of zeros would turn -0 into 0.
            const int depth = min(Depth, end - k0);
#pragma unroll Unroll
            for (int k = 0; k < depth; k++) {
                float left[Each], right[Each];
                read<Each, Side>(a_room + k * A::Distance, ty, left);
                read<Each, Side>(b_room + k * B::Distance, tx, right);
#pragma unroll
                for (int i = 0; i < Each; i++)
#pragma unroll
                    for (int j = 0; j < Each; j++) sum[i][j] = fmaf(left[i], right[j], sum[i][j]);
            }
        }

#pragma unroll
        for (int i = 0; i < Each; i++)
#pragma unroll
            for (int j = 0; j < Each; j++) {
                int m = m0 + place<Each, Side>(ty, i), n = n0 + place<Each, Side>(tx, j);
                if (m >= p.m || n >= p.n) continue;
                float* c = &p.c[(long long)m * p.stride_c + n];
                if (begin == 0) *c = sum[i][j];
                else if (alone) p.chains[((long long)(chain - 1) * p.m + m) * p.n + n] = sum[i][j];
                else *c += sum[i][j];
            }

        begin = end;
    } while (begin < stop);
}

// Adds the chains that had blocks of their own to the result in rising order. Grid: a block of 256 threads for each 256
// elements of a row of C, `first_tile` counting those. Bytes: the chains once.
extern "C" __global__ void __launch_bounds__(Threads)
add_chains(const Product* products, int count, const Fault* fault) {
    if (is_set(fault)) return;
    const Product p = products[item_of_tile(products, count, blockIdx.x)];
    const int pieces = (p.n + Threads - 1) / Threads;
    const int block = blockIdx.x - p.first_tile;
    const int m = block / pieces, n = block % pieces * Threads + threadIdx.x;
    if (n >= p.n) return;
    const long long step = (long long)p.m * p.n;
    const float* chain = p.chains + (long long)m * p.n + n;
    float* c = &p.c[(long long)m * p.stride_c + n];
    float sum = *c;
#pragma unroll 8
    for (int i = 1; i < p.chain_blocks; i++, chain += step) sum += *chain;
    *c = sum;
}

// Sizes that only the device knows: moves each product with a range to its own rows, or in weight gradients to its own part
// of the inner dimension, and numbers the tiles; the entry behind the last product takes their number. One block of 1024
// threads; the grid of the products behind it has as many blocks as there may be tiles, of which the rest leave.
extern "C" __global__ void __launch_bounds__(1024)
place_products(Product* products, int count, int tile, int weight_form, int element_bytes) {
    __shared__ int tiles[1024];
    int before = 0;
    for (int start = 0; start < count; start += 1024) {
        const int i = start + threadIdx.x;
        int own = 0;
        if (i < count) {
            Product p = products[i];
            if (p.range) {
                const long long first = p.range[0];
                const int rows = p.range[1] - (int)first;
                if (weight_form) {
                    p.k = rows;
                    p.a = (const char*)p.a + first * p.stride_a * element_bytes;
                    if (!p.gather) p.b = (const char*)p.b + first * p.stride_b * element_bytes;
                } else {
                    p.m = rows;
                    p.c += first * p.stride_c;
                    if (!p.gather) p.a = (const char*)p.a + first * p.stride_a * element_bytes;
                }

                if (p.gather) p.gather += first;
                products[i] = p;
            }

            own = ((p.m + tile - 1) / tile) * ((p.n + tile - 1) / tile);
        }

        tiles[threadIdx.x] = own;
        __syncthreads();
        for (int distance = 1; distance < 1024; distance *= 2) {
            const int other = threadIdx.x >= distance ? tiles[threadIdx.x - distance] : 0;
            __syncthreads();
            tiles[threadIdx.x] += other;
            __syncthreads();
        }

        if (i < count) products[i].first_tile = before + tiles[threadIdx.x] - own;
        before += tiles[1023];
        __syncthreads();
    }

    if (threadIdx.x == 0) products[count].first_tile = before;
}

// `blocks`: blocks of a multiprocessor, which bounds the registers.
#define PRODUCT(name, element, a_transposed, b_transposed, each, depth, blocks) \
    extern "C" __global__ void __launch_bounds__(Threads, blocks) \
    name(const Product* products, int count, int placed, const Fault* fault) { \
        multiply<element, a_transposed, b_transposed, each, depth>(products, count, placed, fault); \
    }

// output[m, n] (+)= sum over d of input[m, d] weight[n, d].
PRODUCT(linear_16, float, false, false, 1, 128, 2)
PRODUCT(linear_64, float, false, false, 4, 16, 2)
PRODUCT(linear_128, float, false, false, 8, 8, 2)

// gradInput[m, d] (+)= sum over n of gradOutput[m, n] weight[n, d].
PRODUCT(linear_backward_input_16, float, false, true, 1, 128, 2)
PRODUCT(linear_backward_input_64, float, false, true, 4, 16, 2)
PRODUCT(linear_backward_input_128, float, false, true, 8, 8, 2)

// gradWeight[n, d] += sum over m of gradOutput[m, n] input[m, d].
PRODUCT(linear_backward_weight_16, float, true, true, 1, 128, 2)
PRODUCT(linear_backward_weight_64, float, true, true, 4, 16, 2)
PRODUCT(linear_backward_weight_128, float, true, true, 8, 8, 2)

// The same of bfloat16.
PRODUCT(linear_bfloat16, BFloat16, false, false, 4, 16, 2)
PRODUCT(linear_backward_input_bfloat16, BFloat16, false, true, 4, 16, 2)
PRODUCT(linear_backward_weight_bfloat16, BFloat16, true, true, 4, 16, 2)
