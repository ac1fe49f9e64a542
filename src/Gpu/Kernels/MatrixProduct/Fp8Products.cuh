// The products of one launch of Fp8MatrixProduct.cu.
#pragma once

#include "MatrixProduct/Shape.cuh"

namespace krewe {

/// A product with its tensor maps, see Fp8MatrixProduct.cu; mirrors Fp8Product.
struct alignas(128) Fp8Product {
    TensorMap a;
    TensorMap b;
    TensorMap output;
    Arguments arguments;
};

/// All products: the kernel's own parameter, or a list in device memory.
struct Fp8Products {
    const Fp8Product* first;
    int count;
    bool listed;
};

}  // namespace krewe
