// Products of quantised matrices in float32, to the bit of Kernels/Reference: each slice of the inner dimension under
// one pair of scales is a chain of fused multiply-adds over the codes from 0, which is then added times both scales, in
// rising order. The exact path, for every format and shape; MatrixProduct/ has the fast one.
// Grid: tiles of 64 x 64 of all products, one behind the other. Block: 256 threads with 4 x 4 elements each; the next
// piece of the inner dimension is on its way while one is multiplied. Bytes: as MatrixProducts.cu, with codes of one.
#include "Quantization/Minifloats.cuh"
#include "Tensors.cuh"

constexpr int Threads = 256, Tile = 64, Depth = 32, Each = 4, Distance = Tile + 4;

// One operand; mirrors DeviceScaledOperand. Row r of the product is row gather[r] of it, where there is a gather.
struct Operand {
    const unsigned char* codes;
    const float* scales;
    const int* gather;
    int rows;
    int tile_rows;
    int element;
    // Codes from row to row, and scales.
    int pitch;
    int slices;

    __device__ long long row(int r) const { return gather ? gather[r] : r; }

    __device__ float value(unsigned code) const {
        return element == (int)Element::E4M3 ? Minifloat<Element::E4M3>::decode(code)
                                             : Minifloat<Element::E5M2>::decode(code);
    }
};

// c[m, n] = a[m, k] b[n, k]^T; mirrors DeviceScaledProduct. `width`: columns under one scale. `range`: which rows of c, and
// `depth`: which columns of a and b are the product's own; see place_scaled_products.
struct ScaledProduct {
    Operand a, b;
    float* c;
    const int* range;
    const int* depth;
    int k;
    int width;
    int stride;
    int accumulate;
    int first_tile;
};

// `Depth` codes of `Tile` rows of an operand on their way to shared memory: neighbouring threads have neighbours.
struct Piece {
    static constexpr int Count = Tile * Depth / Threads;
    unsigned char codes[Count];

    __device__ void load(const Operand& operand, int first, int k0, int depth) {
#pragma unroll
        for (int e = 0; e < Count; e++) {
            const int i = threadIdx.x + e * Threads, r = first + i / Depth, k = i % Depth;
            const bool inside = r < operand.rows && k < depth;
            codes[e] = inside ? operand.codes[operand.row(r) * operand.pitch + k0 + k] : (unsigned char)0;
        }
    }

    __device__ void store(const Operand& operand, float* room) const {
#pragma unroll
        for (int e = 0; e < Count; e++) {
            const int i = threadIdx.x + e * Threads;
            room[i % Depth * Distance + i / Depth] = operand.value(codes[e]);
        }
    }
};

// Scales of four rows in a slice; 0 past the operand's rows.
__device__ void load_scales(float (&scales)[Each], const Operand& operand, int first, int slice) {
#pragma unroll
    for (int i = 0; i < Each; i++)
        scales[i] = first + i < operand.rows
            ? operand.scales[operand.row(first + i) / operand.tile_rows * operand.slices + slice] : 0.0f;
}

// Sizes that only the device knows, as place_products in MatrixProducts.cu. One block of 1024 threads.
extern "C" __global__ void __launch_bounds__(1024) place_scaled_products(ScaledProduct* products, int count) {
    __shared__ int tiles[1024];
    int before = 0;
    for (int start = 0; start < count; start += 1024) {
        const int i = start + threadIdx.x;
        int own = 0;
        if (i < count) {
            ScaledProduct p = products[i];
            if (p.range) {
                const int first = p.range[0];
                p.a.rows = p.range[1] - first;
                p.c += (long long)first * p.stride;
                if (p.a.gather) p.a.gather += first;
                else {
                    p.a.codes += (long long)first * p.a.pitch;
                    p.a.scales += (long long)first * p.a.slices;
                }
            }

            if (p.depth) {
                const int first = p.depth[0];
                p.k = p.depth[1] - first;
                p.a.codes += first;
                p.b.codes += first;
                p.a.scales += first / p.width;
                p.b.scales += first / p.width;
            }

            products[i] = p;
            own = ((p.a.rows + Tile - 1) / Tile) * ((p.b.rows + Tile - 1) / Tile);
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

extern "C" __global__ void __launch_bounds__(Threads, 2)
scaled_products(const ScaledProduct* products, int count, int placed, const Fault* fault) {
    __shared__ __align__(16) float a_room[Depth * Distance];
    __shared__ __align__(16) float b_room[Depth * Distance];
    if (is_set(fault) || (placed && (int)blockIdx.x >= products[count].first_tile)) return;

    const ScaledProduct& p = products[item_of_tile(products, count, blockIdx.x)];
    const int tiles_n = (p.b.rows + Tile - 1) / Tile, tile = blockIdx.x - p.first_tile;
    const int m0 = tile / tiles_n * Tile, n0 = tile % tiles_n * Tile;
    const int m = m0 + threadIdx.x / 16 * Each, n = n0 + threadIdx.x % 16 * Each;

    float sum[Each][Each], chain[Each][Each];
#pragma unroll
    for (int i = 0; i < Each; i++)
#pragma unroll
        for (int j = 0; j < Each; j++) {
            const bool keeps = p.accumulate && m + i < p.a.rows && n + j < p.b.rows;
            sum[i][j] = keeps ? p.c[(long long)(m + i) * p.stride + n + j] : 0.0f;
            chain[i][j] = 0.0f;
        }

    // The codes from k on that share a scale, as many as a piece holds.
    const auto depth_from = [&](int k) { return min(Depth, min(p.k, (k / p.width + 1) * p.width) - k); };
    Piece a, b;
    int depth = p.k > 0 ? depth_from(0) : 0;
    a.load(p.a, m0, 0, depth);
    b.load(p.b, n0, 0, depth);
    for (int k0 = 0; k0 < p.k;) {
        __syncthreads();
        a.store(p.a, a_room);
        b.store(p.b, b_room);
        __syncthreads();
        const int next = k0 + depth, next_depth = next < p.k ? depth_from(next) : 0;
        a.load(p.a, m0, next, next_depth);
        b.load(p.b, n0, next, next_depth);
#pragma unroll 4
        for (int k = 0; k < depth; k++) {
            const float4 left = *(const float4*)&a_room[k * Distance + threadIdx.x / 16 * Each];
            const float4 right = *(const float4*)&b_room[k * Distance + threadIdx.x % 16 * Each];
            const float x[Each] = {left.x, left.y, left.z, left.w}, y[Each] = {right.x, right.y, right.z, right.w};
#pragma unroll
            for (int i = 0; i < Each; i++)
#pragma unroll
                for (int j = 0; j < Each; j++) chain[i][j] = fmaf(x[i], y[j], chain[i][j]);
        }

        if (next == p.k || next % p.width == 0) {
            float left[Each], right[Each];
            load_scales(left, p.a, m, k0 / p.width);
            load_scales(right, p.b, n, k0 / p.width);
#pragma unroll
            for (int i = 0; i < Each; i++)
#pragma unroll
                for (int j = 0; j < Each; j++) {
                    sum[i][j] = fmaf(chain[i][j], left[i] * right[j], sum[i][j]);
                    chain[i][j] = 0.0f;
                }
        }

        k0 = next;
        depth = next_depth;
    }

#pragma unroll
    for (int i = 0; i < Each; i++)
#pragma unroll
        for (int j = 0; j < Each; j++)
            if (m + i < p.a.rows && n + j < p.b.rows) p.c[(long long)(m + i) * p.stride + n + j] = sum[i][j];
}
