"""Checks variants on small random problems against float64 with numpy alone, edges of every kind included.

Run under compute-sanitizer too: nothing but the kernels runs on the device.
"""

import numpy as np

from fp8_variant import (BFLOAT16, BLOCK, DENSE, FLOAT32_SUM, GROUPED_DEPTH, GROUPED_ROWS, MASKED_ROWS, ROW_SCALES,
                         Launch, Problem, ceil_divide)

GUARD = 4096


def e4m3_values():
    """The value of each of the 256 codes; those that are no number come out as NaN."""
    code = np.arange(256)
    exponent, mantissa = code >> 3 & 15, code & 7
    value = np.where(exponent == 0, mantissa / 8 * 2.0 ** -6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    value[(code & 127) == 127] = np.nan
    return np.where(code >> 7, -value, value)


def random_codes(random, rows, columns):
    """Codes of normally distributed values with a standard deviation of 100, a quarter of the largest."""
    codes = np.flatnonzero(np.isfinite(E4M3)).astype(np.uint8)
    codes = codes[np.argsort(E4M3[codes], kind="stable")]
    middles = (E4M3[codes][1:] + E4M3[codes][:-1]) / 2
    return codes[np.searchsorted(middles, random.normal(0, 100, (rows, columns)))]


E4M3 = e4m3_values()


def cases(kind):
    """Problems of a kind: (rows, columns, depth, groups)."""
    if kind == DENSE:
        return [(64, 128, 128, None), (200, 264, 400, None), (1, 8, 16, None), (520, 136, 656, None),
                (8, 512, 2048, None)]
    if kind == GROUPED_ROWS:
        return [(200, 136, 272, [0, 4, 4, 132, 200]), (640, 264, 384, [0, 128, 640, 640])]
    if kind == MASKED_ROWS:
        return [(72, 136, 272, [3, 0, 72, 65]), (264, 264, 384, [200, 264])]
    return [(200, 136, 512, [0, 128, 128, 512]), (264, 520, 1280, [0, 256, 1280])]


def reference(variant, a, b, scales_a, scales_b, case):
    """Product in float64 [output rows, columns] and a mask of the rows that the kernel may write."""
    rows, columns, depth, groups = case
    values_a = E4M3[a] * np.repeat(scales_a, BLOCK, 1)[:, :depth]

    def values_b(group):
        part = E4M3[b[group * columns:(group + 1) * columns]]
        if variant.scales_b == ROW_SCALES:
            return part * np.repeat(scales_b, BLOCK, 1)[:columns, :depth]
        tiles = scales_b[group]
        return part * np.repeat(np.repeat(tiles, BLOCK, 0), BLOCK, 1)[:columns, :depth]

    if variant.kind == DENSE:
        return values_a @ values_b(0).T, np.ones(rows, bool)
    if variant.kind == GROUPED_DEPTH:
        parts = [values_a[:, x:y] @ values_b(0)[:, x:y].T for x, y in zip(groups, groups[1:])]
        return np.concatenate(parts), np.ones(rows * len(parts), bool)
    result, mask = np.zeros((len(a), columns)), np.zeros(len(a), bool)
    masked = variant.kind == MASKED_ROWS
    for group in range(len(groups) if masked else len(groups) - 1):
        first = group * rows if masked else groups[group]
        last = first + groups[group] if masked else groups[group + 1]
        result[first:last] = values_a[first:last] @ values_b(group).T
        mask[first:last] = True
    return result, mask


def run_case(driver, variant, function, case, random):
    """1 - similarity of a case; raises where it is too large, differs between runs, or other rows were written."""
    rows, columns, depth, groups = case
    count = 1 if groups is None else len(groups) - (variant.kind != MASKED_ROWS)
    rows_a = rows * (count if variant.kind == MASKED_ROWS else 1)
    rows_b = columns * (count if variant.kind in (GROUPED_ROWS, MASKED_ROWS) else 1)
    blocks = ceil_divide(depth, BLOCK)
    a, b = random_codes(random, rows_a, depth), random_codes(random, rows_b, depth)
    scales_a = random.uniform(0.5, 2, (rows_a, blocks)).astype(np.float32)
    if variant.scales_b == ROW_SCALES:
        scales_b = random.uniform(0.5, 2, (rows_b, blocks)).astype(np.float32)
    else:
        scales_b = random.uniform(0.5, 2, (count, ceil_divide(columns, BLOCK), blocks)).astype(np.float32)
    expected, mask = reference(variant, a, b, scales_a, scales_b, case)

    kind = np.uint16 if variant.output == BFLOAT16 else np.float32
    output = np.full(expected.size + GUARD, 0x7FC1 if kind == np.uint16 else np.nan, kind)
    if variant.output == FLOAT32_SUM:
        output[:expected.size] = random.normal(0, 1e5, expected.size).astype(np.float32)
        expected = expected + output[:expected.size].reshape(expected.shape)
    before = output.copy()
    offsets = driver.upload(np.array(groups if groups is not None else [0], np.int32))
    operands = [driver.upload(array) for array in (a, b, scales_a, scales_b)]
    pointers = [driver.upload(before) for _ in range(2)]
    for overlap, pointer in enumerate(pointers):  # the second starts while the first ends
        Launch(driver, variant, function, Problem(*operands, pointer, rows, columns, depth, offsets, count))(
            overlap=bool(overlap))
    results = [before.copy() for _ in pointers]
    for pointer, result in zip(pointers, results):
        driver.download(pointer, result)
    bits = [result.view(np.uint8) for result in results]
    if not np.array_equal(*bits):
        raise AssertionError(f"{variant.name} {case}: two runs differ")
    written = results[0][:expected.size].reshape(expected.shape)
    untouched = before[:expected.size].reshape(expected.shape)
    if not np.array_equal(written[~mask].view(np.uint8), untouched[~mask].view(np.uint8)) or not np.array_equal(
            results[0][expected.size:].view(np.uint8), before[expected.size:].view(np.uint8)):
        raise AssertionError(f"{variant.name} {case}: wrote outside of its rows")
    got = written if kind == np.float32 else (written.astype(np.uint32) << 16).view(np.float32)
    got, want = got[mask].astype(np.float64), expected[mask]
    similarity = 1 - 2 * np.sum(got * want) / np.sum(got * got + want * want)
    if not similarity < 1e-5:
        row, column = np.unravel_index(np.nanargmax(np.where(np.isnan(got), np.inf, abs(got - want))), got.shape)
        raise AssertionError(f"{variant.name} {case}: 1 - similarity {similarity:.3g}, worst in written row {row}, "
                             f"column {column}: expected {want[row, column]:.6g}, got {got[row, column]:.6g}")
    return similarity


def check(driver, variant, function, seed=1):
    """Runs all cases of the variant's kind; gives the largest 1 - similarity."""
    random = np.random.default_rng(seed)
    return max(run_case(driver, variant, function, case, random) for case in cases(variant.kind))
