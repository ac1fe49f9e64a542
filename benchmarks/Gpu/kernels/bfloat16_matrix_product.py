"""Compiles, checks and times the bfloat16 matrix products: python3 bfloat16_matrix_product.py [compile|check|time].

Needs NVRTC 12.8 or later and, to time, PyTorch 2.10 or later, whose products are the baseline. One H100; times are
medians of replayed graphs over operands that together exceed the L2 cache.
"""

import argparse
import pathlib
import re
import tempfile

from bfloat16_variant import BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD, Variant
from cuda_driver import Driver
from fp8_matrix_product import compile_all

TILES = [dict(rows=256), dict(rows=128, stages=6), dict(rows=64), dict(rows=64, columns=64, stages=6)]
VARIANTS = [Variant(form, **tile, accumulate=form == BACKWARD_WEIGHT)
            for form in (FORWARD, BACKWARD_INPUT, BACKWARD_WEIGHT) for tile in TILES]
VARIANTS += [Variant(FORWARD, accumulate=True), Variant(BACKWARD_WEIGHT)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["check", "time"], help="compile, check, time")
    parser.add_argument("--only", default="", help="regular expression that the variants' names hold")
    parser.add_argument("--cubins", type=pathlib.Path, help="folder that keeps compiled variants; default a fresh one")
    options = parser.parse_args()
    variants = [variant for variant in VARIANTS if re.search(options.only, variant.name)]
    cubins = compile_all(variants, options.cubins or pathlib.Path(tempfile.mkdtemp()))
    if options.what == ["compile"]:
        return
    driver = Driver()
    functions = {variant: driver.load(cubin, "bfloat16_matrix_product", variant.shared_bytes)
                 for variant, cubin in cubins.items()}
    if "check" in options.what:
        from bfloat16_check import check  # needs numpy
        for variant in variants:
            print(f"check {variant.name}: {check(driver, variant, functions[variant]):.3g}", flush=True)
    if "time" in options.what:
        from bfloat16_timing import time_all  # needs PyTorch
        time_all(driver, functions)


if __name__ == "__main__":
    main()
