"""Compiles, checks and times attention on the tensor cores: python3 flash_attention.py [compile|check|time|all].

Needs NVRTC 12.8 or later and, to time, PyTorch. One H100.
"""

import argparse
import re

from cuda_driver import Driver
from flash_variant import Heads

SIZES = [Heads(128, 64, 128), Heads(64, 32, 64), Heads(16, 16, 32), Heads(48, 32, 16), Heads(128, 64, 64)]


def compile_all(sizes):
    """Prints registers, spills and warnings; gives the cubins by head sizes and kernel."""
    cubins = {}
    for heads in sizes:
        cubins[heads] = {}
        for name, (cubin, log) in heads.compile().items():
            notes = [line.split(":", 1)[-1].strip() for line in log.splitlines()
                     if "Used" in line or "spill" in line or "warning" in line or "Loss" in line]
            print(f"{heads.name:14s} {name:22s} {'; '.join(notes)}")
            cubins[heads][name] = cubin
    return cubins


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["compile", "check", "time", "all"], default="all")
    parser.add_argument("--only", default="", help="regular expression that the heads' names hold, as in 64[+]32/64")
    options = parser.parse_args()
    what = options.what
    cubins = compile_all([heads for heads in SIZES if re.search(options.only, heads.name)])
    if what == "compile":
        return
    driver = Driver()
    functions = {heads: {name: driver.load(cubin, name, heads.shared_bytes(name)) for name, cubin in kernels.items()}
                 for heads, kernels in cubins.items()}
    if what in ("check", "all"):
        from flash_check import check
        for heads in functions:
            worst = check(driver, heads, functions[heads])
            print(f"{heads.name:14s}", ", ".join(f"{name} {error:.2e}" for name, error in worst.items()), flush=True)
    if what in ("time", "all"):
        from flash_timing import time_all
        time_all(driver, functions)


if __name__ == "__main__":
    main()
