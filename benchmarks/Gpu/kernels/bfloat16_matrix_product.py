"""Compiles, checks and times the bfloat16 matrix products: python3 bfloat16_matrix_product.py [compile|check|time].

Needs NVRTC 12.8 or later and, to time, PyTorch 2.10 or later, whose products are the baseline. One H100; times are
medians of replayed graphs over operands that together exceed the L2 cache.
"""

from bfloat16_variant import BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD, Variant
from product_harness import run

TILES = [dict(rows=256), dict(rows=128, stages=6), dict(rows=64), dict(rows=64, columns=64, stages=6)]
VARIANTS = [Variant(form, **tile, accumulate=form == BACKWARD_WEIGHT)
            for form in (FORWARD, BACKWARD_INPUT, BACKWARD_WEIGHT) for tile in TILES]
VARIANTS += [Variant(FORWARD, accumulate=True), Variant(BACKWARD_WEIGHT)]


def check(driver, variant, function):
    """Largest difference from the float64 product."""
    from bfloat16_check import check  # needs numpy
    return check(driver, variant, function)


def time(driver, functions):
    from bfloat16_timing import time_all  # needs PyTorch
    time_all(driver, functions)


if __name__ == "__main__":
    run(__doc__, "bfloat16_matrix_product", VARIANTS, check, time)
