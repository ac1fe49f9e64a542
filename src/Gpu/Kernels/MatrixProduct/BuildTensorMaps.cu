// Writes the tensor maps of a list of products. The host would take 4 us for each map, three a product; here a launch has
// all of them in about the time of an empty one. Grid: a block of three warps for each product, a warp for each map.
// Sizes that only the device knows are read here: the rows of a product, or in weight gradients its part of k, are a range
// of larger matrices. So the tiles are numbered here too, each block adding up those of the products ahead of its own.
//
// A map is copied from a template, which the host has made once for the boxes, swizzle and types of the variant, and
// gets its own address, extents and distance of rows. Source: PTX ISA 8.3 and later, tensormap.replace, sm_90a.
#include "MatrixProduct/ProductList.cuh"

using namespace krewe;

/// Maps of any matrices with the variant's boxes.
struct Templates {
    TensorMap maps[3];
};

/// The matrices of a product: a is [m, k] or, across k, [k, m]; b [n, k] or [k, n]; c [m, n]. Strides in elements. Mirrors
/// DeviceTensorProduct.
struct Matrices {
    uint64 addresses[3];
    const int* range;
    int m;
    int n;
    int k;
    int strides[3];

    /// Rows of c that are the product's own.
    KREWE_DEVICE int own_rows(bool weightForm) const { return range && !weightForm ? range[1] - range[0] : m; }

    /// The product's own part of k.
    KREWE_DEVICE int own_depth(bool weightForm) const { return range && weightForm ? range[1] - range[0] : k; }

    KREWE_DEVICE int tiles(bool weightForm, int tileRows, int tileColumns) const {
        return own_depth(weightForm) == 0 ? 0
                                          : ceil_divide(own_rows(weightForm), tileRows) * ceil_divide(n, tileColumns);
    }

    /// Where the product's own part of a matrix begins: rows of a and c, or where they lie across k those of a and b.
    KREWE_DEVICE uint64 own_address(int which, bool weightForm) const {
        const bool moves = range && which != (weightForm ? 2 : 1);
        return addresses[which] + (moves ? static_cast<int64>(range[0]) * strides[which] * (which == 2 ? 4 : 2) : 0);
    }
};

// Compilers before CUDA 12.5 take the distance of rows without its four lowest bits.
#if __CUDACC_VER_MAJOR__ > 12 || (__CUDACC_VER_MAJOR__ == 12 && __CUDACC_VER_MINOR__ >= 5)
constexpr int StrideShift = 0;
#else
constexpr int StrideShift = 4;
#endif

KREWE_DEVICE void replace(uint32 map, uint64 address, int columns, int rows, int64 pitch) {
    asm volatile("tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%0], %1;" ::"r"(map), "l"(address)
                 : "memory");
    asm volatile("tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%0], 0, %1;" ::"r"(map), "r"(columns)
                 : "memory");
    asm volatile("tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%0], 1, %1;" ::"r"(map), "r"(rows)
                 : "memory");
    asm volatile("tensormap.replace.tile.global_stride.shared::cta.b1024.b64 [%0], 0, %1;" ::"r"(map),
                 "l"(pitch >> StrideShift)
                 : "memory");
}

extern "C" __global__ void __launch_bounds__(96)
    build_tensor_maps(const __grid_constant__ Templates templates, const Matrices* matrices, Product* products,
                      int across_a, int across_b, int tileRows, int tileColumns, int* firstTiles) {
    alignas(128) __shared__ TensorMap rooms[3];
    __shared__ int tilesAhead;
    if (threadIdx.x == 0) {
        tilesAhead = 0;
    }
    __syncthreads();
    int ahead = 0;
    for (int i = threadIdx.x; i < blockIdx.x; i += blockDim.x) {
        ahead += matrices[i].tiles(across_a, tileRows, tileColumns);
    }
    atomicAdd(&tilesAhead, ahead);
    __syncthreads();
    const int which = warp_index(), lane = lane_index();
    const Matrices& own = matrices[blockIdx.x];
    Product& product = products[blockIdx.x];
    TensorMap& room = rooms[which];
    if (lane < 16) {
        room.words[lane] = templates.maps[which].words[lane];
    }
    __syncwarp();
    if (lane == 0) {
        // A map has no empty extents; where there is nothing, there is no tile that reads it.
        const int rows = max(1, own.own_rows(across_a)), depth = max(1, own.own_depth(across_a));
        const int outer = which == 1 ? own.n : rows;
        const int inner = which == 2 ? own.n : depth;
        const bool across = which == 0 ? across_a : which == 1 && across_b;
        replace(shared_address(&room), own.own_address(which, across_a), across ? outer : inner, across ? inner : outer,
                static_cast<int64>(own.strides[which]) * (which == 2 ? 4 : 2));
    }
    __syncwarp();
    TensorMap* target = which == 0 ? &product.a : which == 1 ? &product.b : &product.c;
    asm volatile("tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%0], [%1], 128;"
                 ::"l"(target),
                 "r"(shared_address(&room))
                 : "memory");
    if (threadIdx.x == 0) {
        product.m = own.own_rows(across_a);
        product.n = own.n;
        product.k = own.own_depth(across_a);
        firstTiles[blockIdx.x] = tilesAhead;
        if (blockIdx.x == gridDim.x - 1) {
            firstTiles[gridDim.x] = tilesAhead + own.tiles(across_a, tileRows, tileColumns);
        }
    }
}
