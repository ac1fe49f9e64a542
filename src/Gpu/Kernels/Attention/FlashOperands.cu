// What the attention kernels on the tensor cores read: float32 rounded to bfloat16, and the rows' statistics. Bound by
// memory: each input is read once, 6 bytes an element moved, and 10 with the statistics.
#include "Attention/FlashShape.cuh"

using namespace krewe;

namespace {

/// Four floats, at once where they lie on 16 bytes.
KREWE_DEVICE float4 load_four(const float* values) {
    return reinterpret_cast<uint64>(values) % 16 == 0 ? *reinterpret_cast<const float4*>(values)
                                                      : make_float4(values[0], values[1], values[2], values[3]);
}

/// The product of a rounded pair with two floats, added to a sum.
KREWE_DEVICE float add_pair(float sum, uint32 pair, float first, float second) {
    return fmaf(__uint_as_float(pair & 0xffff0000), second, fmaf(__uint_as_float(pair << 16), first, sum));
}

}  // namespace

// target[rows, columns] = bfloat16(source), rows without gaps; columns a multiple of 4. Grid: blocks of 256 groups of
// four elements, along a row and then from row to row.
extern "C" __global__ void round_operand(Matrix source, uint16* target) {
    const int groups = source.columns / 4;
    const int64 i = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < static_cast<int64>(source.rows) * groups) {
        const float4 four = load_four(source.row(i / groups) + i % groups * 4);
        *reinterpret_cast<uint2*>(target + i * 4) =
            make_uint2(pack_bfloat16(four.x, four.y), pack_bfloat16(four.z, four.w));
    }
}

// target[T, heads value] = bfloat16(gradOutput), and statistics; delta is the sum of the rounded gradient times output
// over a head's columns, lane by lane, then over the lanes. Grid: a warp for each token and head, blocks of 256.
extern "C" __global__ void round_gradient(Matrix gradOutput, Matrix output, Matrix logSumExp, uint16* target,
                                          Statistics* statistics) {
    const int tokens = gradOutput.rows, heads = logSumExp.rows;
    const int value = gradOutput.columns / heads;
    const int64 warp = static_cast<int64>(blockIdx.x) * (blockDim.x / WarpThreads) + threadIdx.x / WarpThreads;
    if (warp >= static_cast<int64>(tokens) * heads) {
        return;
    }
    const int token = static_cast<int>(warp / heads), head = static_cast<int>(warp % heads);
    const float* gradients = gradOutput.row(token) + head * value;
    const float* outputs = output.row(token) + head * value;
    uint16* rounded = target + warp * value;
    float sum = 0;
    for (int column = lane_index() * 4; column < value; column += WarpThreads * 4) {
        const float4 g = load_four(gradients + column), o = load_four(outputs + column);
        const uint2 pairs = make_uint2(pack_bfloat16(g.x, g.y), pack_bfloat16(g.z, g.w));
        *reinterpret_cast<uint2*>(rounded + column) = pairs;
        sum = add_pair(add_pair(sum, pairs.x, o.x, o.y), pairs.y, o.z, o.w);
    }
    sum = warp_sum(sum);
    if (lane_index() == 0) {
        statistics[warp] = {logSumExp.row(head)[token] * Log2E, sum, {0, 0}};
    }
}
