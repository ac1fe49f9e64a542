// Sizes that only the device knows, for a list of products of Fp8MatrixProduct.cu: moves each product with a range of rows to
// its own rows of A and of the output, whose tensor map then ends where they end, and each with a range of the depth to its
// own blocks. Grid: a warp for each product, ahead of the packing.
#include "MatrixProduct/Fp8Products.cuh"

using namespace krewe;

KREWE_DEVICE void replace_rows(uint32 map, uint64 address, int rows) {
    asm volatile("tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%0], %1;" ::"r"(map), "l"(address)
                 : "memory");
    asm volatile("tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%0], 1, %1;" ::"r"(map), "r"(rows)
                 : "memory");
}

extern "C" __global__ void __launch_bounds__(32) place_fp8_products(Fp8Product* products) {
    alignas(128) __shared__ TensorMap room;
    Fp8Product& product = products[blockIdx.x];
    Arguments& arguments = product.arguments;
    const int* range = arguments.range;
    const int* depth = arguments.depthRange;
    if (depth && lane_index() == 0) {
        arguments.firstBlock = depth[0] / Shape::Block;
        arguments.lastBlock = depth[1] / Shape::Block;
        // Nothing to add: no tiles.
        arguments.rows = depth[0] == depth[1] ? 0 : arguments.rows;
    }
    if (!range) {
        return;
    }
    const int first = range[0], rows = range[1] - first;
    uint8* output = static_cast<uint8*>(arguments.output) + static_cast<int64>(first) * arguments.pitch * sizeof(float);
    __syncwarp();
    if (lane_index() < 16) {
        room.words[lane_index()] = product.output.words[lane_index()];
    }
    __syncwarp();
    if (lane_index() == 0) {
        // A map has no empty extents; where there are no rows, there is no tile that reads it.
        replace_rows(shared_address(&room), reinterpret_cast<uint64>(output), max(1, rows));
        arguments.output = output;
        arguments.rows = rows;
        arguments.firstRow = first;
    }
    __syncwarp();
    asm volatile("tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%0], [%1], 128;"
                 ::"l"(&product.output),
                 "r"(shared_address(&room))
                 : "memory");
}
