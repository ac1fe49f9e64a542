"""The command line of the matrix products' harnesses, and their compilation."""

import argparse
import concurrent.futures
import pathlib
import re
import tempfile

from cuda_driver import Driver


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


def run(description, kernel, variants, check, time):
    """Compiles; checks with <check>(driver, variant, function), one by one; times with <time>(driver, functions)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("what", nargs="*", default=["check", "time"], help="compile, check, time")
    parser.add_argument("--only", default="", help="regular expression that the variants' names hold")
    parser.add_argument("--cubins", type=pathlib.Path, help="folder that keeps compiled variants; default a fresh one")
    options = parser.parse_args()
    variants = [variant for variant in variants if re.search(options.only, variant.name)]
    cubins = compile_all(variants, options.cubins or pathlib.Path(tempfile.mkdtemp()))
    if options.what == ["compile"]:
        return
    driver = Driver()
    functions = {variant: driver.load(cubin, kernel, variant.shared_bytes) for variant, cubin in cubins.items()}
    if "check" in options.what:
        for variant in variants:
            print(f"check {variant.name}: {check(driver, variant, functions[variant]):.3g}", flush=True)
    if "time" in options.what:
        time(driver, functions)
