// Matrix products in float32, each element one chain of fused multiply-adds over the inner dimension in rising order:
// the bits of Kernels/Reference. The exact path, not the fast one.
// Grid: the tiles of all products, one behind the other; a block finds its product by its first tile. Block: 16x16
// threads, each with 4x4 elements of a 64x64 tile. Bytes: A and B once for each 64 columns or rows of the result.
#include "Tensors.cuh"

constexpr int Tile = 64, Depth = 16, Side = 16, Each = 4;

// One product c[m, n] = chain over k of a(m, k) b(n, k); mirrors DeviceProduct. `gather` renames rows of the operand
// that is the saved input: of a by m, or in weight gradients of b by k.
struct Product {
    const float* a;
    const float* b;
    float* c;
    const int* gather;
    int m, n, k;
    int stride_a, stride_b, stride_c;
    int accumulate;
    int first_tile;
};

__device__ int product_of_tile(const Product* products, int count, int tile) {
    int low = 0, high = count - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (products[middle].first_tile <= tile) low = middle;
        else high = middle - 1;
    }

    return low;
}

// a is [m, k], or [k, m] where ATransposed; b is [n, k], or [k, n] where BTransposed.
template <bool ATransposed, bool BTransposed>
__device__ void multiply(const Product* products, int count, const Fault* fault) {
    __shared__ __align__(16) float a_tile[Depth][Tile + 4];
    __shared__ __align__(16) float b_tile[Depth][Tile + 4];
    if (is_set(fault)) return;

    const Product p = products[product_of_tile(products, count, blockIdx.x)];
    int tiles_n = (p.n + Tile - 1) / Tile;
    int tile = blockIdx.x - p.first_tile;
    int m0 = tile / tiles_n * Tile;
    int n0 = tile % tiles_n * Tile;
    int tx = threadIdx.x % Side, ty = threadIdx.x / Side;

    float sum[Each][Each];
    for (int i = 0; i < Each; i++)
        for (int j = 0; j < Each; j++) {
            int m = m0 + ty * Each + i, n = n0 + tx * Each + j;
            sum[i][j] = p.accumulate && m < p.m && n < p.n ? p.c[(long long)m * p.stride_c + n] : 0.0f;
        }

    for (int k0 = 0; k0 < p.k; k0 += Depth) {
        // Neighbouring threads read neighbouring addresses: along k, or along m and n where the operand lies across.
        for (int i = threadIdx.x; i < Tile * Depth; i += Side * Side) {
            int row = ATransposed ? i % Tile : i / Depth;
            int depth = ATransposed ? i / Tile : i % Depth;
            int m = m0 + row, k = k0 + depth;
            float value = 0.0f;
            if (m < p.m && k < p.k) {
                if (ATransposed) value = p.a[(long long)k * p.stride_a + m];
                else value = p.a[(long long)(p.gather ? p.gather[m] : m) * p.stride_a + k];
            }

            a_tile[depth][row] = value;
            row = BTransposed ? i % Tile : i / Depth;
            depth = BTransposed ? i / Tile : i % Depth;
            int n = n0 + row;
            k = k0 + depth;
            value = 0.0f;
            if (n < p.n && k < p.k) {
                if (!BTransposed) value = p.b[(long long)n * p.stride_b + k];
                else value = p.b[(long long)(ATransposed && p.gather ? p.gather[k] : k) * p.stride_b + n];
            }

            b_tile[depth][row] = value;
        }

        __syncthreads();

        // A chain ends with the inner dimension: one more link of zeros would turn -0 into 0.
        int depth = min(Depth, p.k - k0);
        for (int k = 0; k < depth; k++) {
            float4 a = *(const float4*)&a_tile[k][ty * Each];
            float4 b = *(const float4*)&b_tile[k][tx * Each];
            float left[Each] = {a.x, a.y, a.z, a.w};
            float right[Each] = {b.x, b.y, b.z, b.w};
            for (int i = 0; i < Each; i++)
                for (int j = 0; j < Each; j++) sum[i][j] = fmaf(left[i], right[j], sum[i][j]);
        }

        __syncthreads();
    }

    for (int i = 0; i < Each; i++)
        for (int j = 0; j < Each; j++) {
            int m = m0 + ty * Each + i, n = n0 + tx * Each + j;
            if (m < p.m && n < p.n) p.c[(long long)m * p.stride_c + n] = sum[i][j];
        }
}

// output[m, n] (+)= sum over d of input[m, d] weight[n, d].
extern "C" __global__ void __launch_bounds__(256)
linear(const Product* products, int count, const Fault* fault) {
    multiply<false, false>(products, count, fault);
}

// gradInput[m, d] (+)= sum over n of gradOutput[m, n] weight[n, d].
extern "C" __global__ void __launch_bounds__(256)
linear_backward_input(const Product* products, int count, const Fault* fault) {
    multiply<false, true>(products, count, fault);
}

// gradWeight[n, d] += sum over m of gradOutput[m, n] input[m, d].
extern "C" __global__ void __launch_bounds__(256)
linear_backward_weight(const Product* products, int count, const Fault* fault) {
    multiply<true, true>(products, count, fault);
}
