// What the attention kernels on the tensor cores read: float32 rounded to bfloat16, and delta. Bound by memory: each
// input is read once, 6 bytes an element moved, and 10 where delta is computed along.
#include "Prelude.cuh"
#include "Tensors.cuh"

using namespace krewe;

namespace {

/// Rounds four floats and stores them, 8 bytes.
KREWE_DEVICE void store_rounded(uint16* target, float x, float y, float z, float w) {
    *reinterpret_cast<uint2*>(target) = make_uint2(pack_bfloat16(x, y), pack_bfloat16(z, w));
}

}  // namespace

// target[rows, columns] = bfloat16(source), rows without gaps; columns a multiple of 4. Grid: blocks of 256 groups of
// four elements, along a row and then from row to row.
extern "C" __global__ void round_operand(Matrix source, uint16* target) {
    const int groups = source.columns / 4;
    const int64 i = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= static_cast<int64>(source.rows) * groups) {
        return;
    }
    const float* values = source.row(i / groups) + i % groups * 4;
    if (reinterpret_cast<uint64>(values) % 16 == 0) {
        const float4 four = *reinterpret_cast<const float4*>(values);
        store_rounded(target + i * 4, four.x, four.y, four.z, four.w);
    } else {
        store_rounded(target + i * 4, values[0], values[1], values[2], values[3]);
    }
}

// target[T, heads value] = bfloat16(gradOutput) and delta[heads, T] = that times output, summed over each head's
// columns: lane by lane, then over the lanes. Grid: a warp for each token and head, blocks of 256 threads.
extern "C" __global__ void round_gradient(Matrix gradOutput, Matrix output, int heads, uint16* target, float* delta) {
    const int tokens = gradOutput.rows;
    const int value = gradOutput.columns / heads;
    const int64 warp = static_cast<int64>(blockIdx.x) * (blockDim.x / WarpThreads) + threadIdx.x / WarpThreads;
    if (warp >= static_cast<int64>(tokens) * heads) {
        return;
    }
    const int token = static_cast<int>(warp / heads), head = static_cast<int>(warp % heads);
    const float* gradients = gradOutput.row(token) + head * value;
    const float* outputs = output.row(token) + head * value;
    uint16* rounded = target + (static_cast<int64>(token) * heads + head) * value;
    float sum = 0;
    for (int column = lane_index() * 2; column < value; column += WarpThreads * 2) {
        const uint32 pair = pack_bfloat16(gradients[column], gradients[column + 1]);
        *reinterpret_cast<uint32*>(rounded + column) = pair;
        sum = fmaf(__uint_as_float(pair << 16), outputs[column], sum);
        sum = fmaf(__uint_as_float(pair & 0xffff0000), outputs[column + 1], sum);
    }
    sum = warp_sum(sum);
    if (lane_index() == 0) {
        delta[static_cast<int64>(head) * tokens + token] = sum;
    }
}
