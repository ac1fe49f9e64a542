// Which tiles of C a block computes, in which order. Producer and consumers walk the same schedule on their own.
#pragma once

#include "MatrixProduct/Fp8Products.cuh"

namespace krewe {

/// One tile of C of one group or product.
struct Tile {
    const Fp8Product* product;
    int group;
    /// First row within A, which its tensor map knows.
    int rowA;
    /// First row within B, all groups counted.
    int rowB;
    int column;
    /// Blocks of K, the last excluded.
    int firstBlock;
    int lastBlock;
    /// First row of the output, and the end of those the tile may write.
    int outputRow;
    int outputEnd;
};

/// Walks the tiles in units of one tile's rows times the cluster's columns: unit u belongs to cluster u modulo the
/// number of clusters. Groups, or separate products, come one after the other; within one, bands of BandTiles tiles
/// high.
class Schedule {
public:
    KREWE_DEVICE Schedule(const Fp8Products& products)
        : products(products), product(products.first), unit(blockIdx.x / Shape::Cluster),
          rank(blockIdx.x % Shape::Cluster) {
        enter_group();
    }

    /// The next tile of this block, or false.
    KREWE_DEVICE bool next(Tile& tile) {
        while (unit >= groupUnit + groupTiles * unitColumns) {
            groupUnit += groupTiles * unitColumns;
            if (++group >= group_count()) {
                return false;
            }
            enter_group();
        }
        const int local = unit - groupUnit;
        const int bandUnits = Shape::BandTiles * unitColumns;
        const int band = local / bandUnits;
        const int height = min_of(Shape::BandTiles, groupTiles - band * Shape::BandTiles);
        const int within = local - band * bandUnits;
        place(tile, (band * Shape::BandTiles + within % height) * Shape::TileRows, within / height);
        unit += gridDim.x / Shape::Cluster;
        return true;
    }

private:
    KREWE_DEVICE int group_count() const {
        return Shape::kind == Kind::Dense      ? 1
               : Shape::kind == Kind::Separate ? products.count
                                               : product->arguments.groupCount;
    }

    KREWE_DEVICE void enter_group() {
        if (Shape::kind == Kind::Separate) {
            product = products.first + group;
        }
        const Arguments& arguments = product->arguments;
        unitColumns = ceil_divide(arguments.columns, Shape::TileColumns * Shape::Cluster);
        groupFirst = 0;
        int rows = arguments.rows;
        if (Shape::kind == Kind::GroupedRows) {
            groupFirst = arguments.groups[group];
            rows = arguments.groups[group + 1] - groupFirst;
        } else if (Shape::kind == Kind::MaskedRows) {
            groupFirst = group * arguments.rows;
            rows = arguments.groups[group];
        }
        groupEnd = groupFirst + rows;
        groupTiles = ceil_divide(rows, Shape::TileRows);
    }

    KREWE_DEVICE void place(Tile& tile, int row, int unitColumn) const {
        constexpr bool grouped = Shape::kind == Kind::GroupedRows || Shape::kind == Kind::MaskedRows;
        const Arguments& arguments = product->arguments;
        tile.product = product;
        tile.group = group;
        tile.rowA = groupFirst + row;
        tile.column = (unitColumn * Shape::Cluster + rank) * Shape::TileColumns;
        tile.rowB = tile.column + (grouped ? group * arguments.columns : 0);
        tile.firstBlock = 0;
        tile.lastBlock = ceil_divide(arguments.depth, Shape::Block);
        tile.outputRow = tile.rowA;
        tile.outputEnd = groupEnd;
        if (Shape::kind == Kind::Separate) {
            tile.rowA += arguments.firstRow;
            tile.firstBlock = arguments.firstBlock;
            tile.lastBlock = arguments.lastBlock;
        }
        if (Shape::kind == Kind::GroupedDepth) {
            tile.firstBlock = arguments.groups[group] / Shape::Block;
            tile.lastBlock = arguments.groups[group + 1] / Shape::Block;
            tile.outputRow += group * arguments.rows;
            tile.outputEnd += group * arguments.rows;
        }
    }

    const Fp8Products& products;
    const Fp8Product* product;
    int unit;
    int rank;
    int unitColumns;
    int group = 0;
    int groupUnit = 0;
    int groupFirst;
    int groupEnd;
    int groupTiles;
};

}  // namespace krewe
