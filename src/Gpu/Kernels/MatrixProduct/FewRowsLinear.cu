// output[m, n] (+)= sum over d of input[m, d] weight[n, d] of float32 and few rows: the gate of a step of decoding. Each
// element is one chain of fused multiply-adds in rising order, the bits of MatrixProducts.cu; what is left to win is that
// nothing waits but the chain. Grid: 8 columns of the output by 8 rows. Block: 256 threads, which bring 1024 of the depth
// of all their rows at once, and the next 1024 while 64 of them multiply.
// Bytes: the weight once for each 8 rows. Dynamic shared memory: SharedBytes of the launcher.
#include "AsyncCopies.cuh"
#include "Tensors.cuh"

constexpr int TileColumns = 8, TileRows = 8, Depth = 1024, Pitch = Depth + 4, Threads = 256;

extern "C" __global__ void __launch_bounds__(Threads)
linear_few_rows(Matrix input, Matrix weight, Matrix output, int accumulate) {
    // [buffer][8 rows of the weight, 8 of the input][depth]
    extern __shared__ float4 room4[];
    float* room = (float*)room4;
    const int n0 = blockIdx.x * TileColumns, m0 = blockIdx.y * TileRows, inner = input.columns;
    const auto bring = [&](int k0, int buffer) {
        for (int i = threadIdx.x; i < (TileColumns + TileRows) * (Depth / 4); i += Threads) {
            const int row = i / (Depth / 4), k = i % (Depth / 4) * 4;
            if (k0 + k >= inner) continue;
            float* to = room + (buffer * (TileColumns + TileRows) + row) * Pitch + k;
            if (row < TileColumns) {
                if (n0 + row < weight.rows) copy_piece(to, weight.row(n0 + row) + k0 + k);
            } else if (m0 + row - TileColumns < input.rows) {
                copy_piece(to, input.row(m0 + row - TileColumns) + k0 + k);
            }
        }

        copies_commit();
    };

    const int m = threadIdx.x / TileColumns, n = threadIdx.x % TileColumns;
    const bool own = m < TileRows && m0 + m < input.rows && n0 + n < weight.rows;
    float sum = own && accumulate ? output.row(m0 + m)[n0 + n] : 0.0f;
    bring(0, 0);
    for (int k0 = 0, buffer = 0; k0 < inner; k0 += Depth, buffer ^= 1) {
        bring(k0 + Depth, buffer ^ 1);
        copies_await<1>();
        __syncthreads();
        if (own) {
            const float4* b = (const float4*)(room + (buffer * (TileColumns + TileRows) + n) * Pitch);
            const float4* a = (const float4*)(room + (buffer * (TileColumns + TileRows) + TileColumns + m) * Pitch);
            const int fours = min(Depth, inner - k0) / 4;
#pragma unroll 8
            for (int k = 0; k < fours; k++) {
                const float4 x = a[k], y = b[k];
                sum = fmaf(x.x, y.x, sum);
                sum = fmaf(x.y, y.y, sum);
                sum = fmaf(x.z, y.z, sum);
                sum = fmaf(x.w, y.w, sum);
            }
        }

        __syncthreads();
    }

    if (own) output.row(m0 + m)[n0 + n] = sum;
}
