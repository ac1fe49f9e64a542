// The products of one launch, and which tile of which product a block computes when.
#pragma once

#include "MatrixProduct/Shape.cuh"

namespace krewe {

/// One product c[m, n] = a b^T over k, or added to c. Each tensor map ends where its matrix ends: what lies outside
/// reads as zero and is not written. DeviceTensorProduct.MapBytes is its size.
struct alignas(128) Product {
    TensorMap a;
    TensorMap b;
    TensorMap c;
    int m;
    int n;
    int k;
};

/// All products of a launch; <firstTiles> holds the number of tiles ahead of each product, and behind them that of all.
struct ProductList {
    const Product* products;
    const int* firstTiles;
    int count;
};

/// One tile of c.
struct ProductTile {
    const Product* product;
    int row;
    int column;
    /// Blocks of K.
    int blocks;
    /// The block's first tile of this product.
    bool entered;
};

/// Walks the tiles of a block, with all lanes of a warp: every <gridDim.x>-th, products one after the other; within a
/// product bands of BandTiles tiles high, so that what they read stays in the L2 cache.
class ProductWalk {
public:
    /// Elements of K in a block.
    static constexpr int BlockDepth = Shape::Block / 2;

    KREWE_DEVICE ProductWalk(const ProductList& list)
        : list(list), tiles(list.firstTiles[list.count]), next_tile(blockIdx.x) {}

    /// The next tile, or false.
    KREWE_DEVICE bool next(ProductTile& tile) {
        if (next_tile >= tiles) {
            return false;
        }
        const int before = index;
        find();
        const Product& product = list.products[index];
        const int local = next_tile - first;
        const int columnTiles = ceil_divide(product.n, Shape::TileColumns);
        const int rowTiles = ceil_divide(product.m, Shape::TileRows);
        const int band = local / (Shape::BandTiles * columnTiles);
        const int height = min_of(Shape::BandTiles, rowTiles - band * Shape::BandTiles);
        const int within = local - band * Shape::BandTiles * columnTiles;
        tile.product = &product;
        tile.row = (band * Shape::BandTiles + within % height) * Shape::TileRows;
        tile.column = within / height * Shape::TileColumns;
        tile.blocks = ceil_divide(product.k, BlockDepth);
        tile.entered = index != before;
        next_tile += gridDim.x;
        return true;
    }

private:
    /// The product of the next tile: the last whose first tile is not behind it, 32 looked at a time.
    KREWE_DEVICE void find() {
        int start = index < 0 ? 0 : index;
        while (true) {
            const int candidate = start + lane_index();
            const int begin = candidate < list.count ? list.firstTiles[candidate] : 0x7fffffff;
            const int passed = __popc(__ballot_sync(0xffffffffu, begin <= next_tile));
            if (passed < WarpThreads || start + WarpThreads >= list.count) {
                index = start + passed - 1;
                first = __shfl_sync(0xffffffffu, begin, passed - 1);
                return;
            }
            start += WarpThreads - 1;
        }
    }

    const ProductList& list;
    int tiles;
    int next_tile;
    int index = -1;
    int first = 0;
};

}  // namespace krewe
