"""Compiles, checks and times the FP8 matrix products: python3 fp8_matrix_product.py [compile|check|time] [--only WORD].

Needs NVRTC 12.8 or later and, to time, PyTorch 2.10 or later, whose blockwise-scaled FP8 product (cuBLASLt) is the
baseline. One H100; times are medians of replayed graphs over inputs that together exceed the L2 cache.
"""

from fp8_variant import FLOAT32_OUT, FLOAT32_SUM, GROUPED_DEPTH, GROUPED_ROWS, MASKED_ROWS, ROW_SCALES, Variant
from product_harness import run

MANY_ROWS = dict(rows=256, stages=4)
FEW_ROWS = dict(rows=64, stages=10)
WEIGHT_GRADIENT = dict(kind=GROUPED_DEPTH, scales_b=ROW_SCALES)
VARIANTS = [
    Variant(**MANY_ROWS),
    Variant(**MANY_ROWS, cluster=1),
    Variant(),
    Variant(**MANY_ROWS, output=FLOAT32_OUT),
    Variant(output=FLOAT32_SUM),
    Variant(rows=64, columns=32, stages=12),
    Variant(**FEW_ROWS, columns=64),
    Variant(rows=64, stages=8),
    Variant(GROUPED_ROWS, **MANY_ROWS),
    Variant(GROUPED_ROWS),
    Variant(GROUPED_ROWS, rows=64, stages=8),
    Variant(MASKED_ROWS, **MANY_ROWS),
    Variant(MASKED_ROWS),
    Variant(MASKED_ROWS, rows=64, stages=8),
    Variant(MASKED_ROWS, **FEW_ROWS, columns=64),
    Variant(**WEIGHT_GRADIENT, **MANY_ROWS, output=FLOAT32_OUT),
    Variant(**WEIGHT_GRADIENT, stages=5, output=FLOAT32_OUT),
    Variant(**WEIGHT_GRADIENT, **MANY_ROWS, output=FLOAT32_SUM),
    Variant(**WEIGHT_GRADIENT, stages=5, output=FLOAT32_SUM),
]


def check(driver, variant, function):
    """1 - similarity to the float64 product."""
    from fp8_check import check  # needs numpy
    return check(driver, variant, function)


def time(driver, functions):
    from fp8_timing import time_all  # needs PyTorch
    time_all(driver, functions)


if __name__ == "__main__":
    run(__doc__, "fp8_matrix_product", VARIANTS, check, time)
