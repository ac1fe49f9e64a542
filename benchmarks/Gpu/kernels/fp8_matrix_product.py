"""Compiles, checks and times the FP8 matrix products: python3 fp8_matrix_product.py [compile|check|time] [--only WORD].

Needs NVRTC 12.8 or later and, to time, PyTorch 2.10 or later, whose blockwise-scaled FP8 product (cuBLASLt) is the
baseline. One H100; times are medians of replayed graphs over inputs that together exceed the L2 cache.
"""

import argparse
import concurrent.futures
import pathlib
import re
import tempfile

from cuda_driver import Driver
from fp8_variant import FLOAT32_OUT, FLOAT32_SUM, GROUPED_DEPTH, GROUPED_ROWS, MASKED_ROWS, ROW_SCALES, Variant

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


def compile_variant(variant):
    return variant.compile()


def file_name(variant):
    return re.sub("[^a-z0-9=+]+", "-", variant.name) + ".cubin"


def compile_all(variants, folder):
    """Compiles in parallel what <folder> lacks and prints registers, spills, warnings; gives the cubins by variant."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [variant for variant in variants if not (folder / file_name(variant)).exists()]
    with concurrent.futures.ProcessPoolExecutor() as pool:
        for variant, (cubin, log) in zip(missing, pool.map(compile_variant, missing)):
            (folder / file_name(variant)).write_bytes(cubin)
            registers = re.search(r"Used (\d+) registers", log)
            # A compilation that NVRTC had in its cache has no log.
            memory = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores", log)
            stack, spills = memory.groups() if memory else ("unknown", "unknown")
            warnings = "".join("\n    " + line for line in sorted(set(log.splitlines())) if re.search("warn|C75", line))
            print(f"{variant.name}: {registers and registers[1]} registers, {stack} bytes of stack, {spills} spilled,"
                  f" {variant.shared_bytes} bytes shared{warnings}", flush=True)
    return {variant: (folder / file_name(variant)).read_bytes() for variant in variants}


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
    functions = {variant: driver.load(cubin, "fp8_matrix_product", variant.shared_bytes)
                 for variant, cubin in cubins.items()}
    if "check" in options.what:
        from fp8_check import check  # needs numpy
        for variant in variants:
            print(f"check {variant.name}: 1 - similarity {check(driver, variant, functions[variant]):.3g}", flush=True)
    if "time" in options.what:
        from fp8_timing import time_all  # needs PyTorch
        time_all(driver, functions)


if __name__ == "__main__":
    main()
