"""Checks variants on small random lists of products against float64 with numpy alone, edges of every kind included.

Run under compute-sanitizer too: nothing but the kernel runs on the device.
"""

import numpy as np

from bfloat16_variant import BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD, Launch, Matrix

# Lists of products (m, n, k): a tile's edges, one row, a depth that ends within a block, many at once.
CASES = [
    [(64, 64, 64)],
    [(1, 8, 8), (3, 136, 72), (300, 264, 520)],
    [(257, 8, 200), (64, 128, 16), (130, 72, 1000), (8, 520, 64)],
    [(1 + 37 * i % 90, 128, 8 * (1 + i % 7)) for i in range(70)],
]
GAP = 8


def ones(values):
    """float32 values rounded to bfloat16: bits, and values."""
    bits = values.astype(np.float32).view(np.uint32)
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return bits.astype(np.uint16), (bits << 16).view(np.float32).astype(np.float64)


def stored(driver, random, rows, columns):
    """A matrix on the device with a gap behind each row, NaN there, and its values."""
    bits, values = ones(random.normal(0, 1, (rows, columns)))
    room = np.full((rows, (columns + 7) // 8 * 8 + GAP), 0x7FC1, np.uint16)
    room[:, :columns] = bits
    return Matrix(driver.upload(room), rows, columns, room.shape[1]), values


def run_case(driver, variant, function, case, random):
    """Largest difference by the root mean square; raises where it is too large, differs between runs, or strays."""
    fault = driver.upload(np.zeros(8, np.int32))
    products, wanted, rooms = [], [], []
    for m, n, k in case:
        a, a_values = stored(driver, random, *((k, m) if variant.across_a else (m, k)))
        b, b_values = stored(driver, random, *((k, n) if variant.across_b else (n, k)))
        result = (a_values.T if variant.across_a else a_values) @ (b_values if variant.across_b else b_values.T)
        columns = (n + 3) // 4 * 4 + GAP
        before = np.full((m + 1, columns), np.nan, np.float32)
        if variant.accumulate:
            before[:m, :n] = random.normal(0, 1, (m, n))
            result = result + before[:m, :n]
        products.append((a, b, before))
        wanted.append(result)
        rooms.append(before)
    runs = []
    for _ in range(2):
        pointers = [driver.upload(room) for room in rooms]
        entries = [(a, b, Matrix(pointer, room.shape[0] - 1, want.shape[1], room.shape[1]))
                   for (a, b, _), pointer, room, want in zip(products, pointers, rooms, wanted)]
        Launch(driver, variant, function, entries, fault)()
        results = [room.copy() for room in rooms]
        for pointer, result in zip(pointers, results):
            driver.download(pointer, result)
        runs.append(results)
    worst = 0.0
    for size, first, second, before, want in zip(case, *runs, rooms, wanted):
        m, n = want.shape
        if not np.array_equal(first.view(np.uint8), second.view(np.uint8)):
            raise AssertionError(f"{variant.name} {size}: two runs differ")
        outside = np.ones(first.shape, bool)
        outside[:m, :n] = False
        if not np.array_equal(first.view(np.uint32)[outside], before.view(np.uint32)[outside]):
            raise AssertionError(f"{variant.name} {size}: wrote outside")
        difference = abs(first[:m, :n].astype(np.float64) - want) / np.sqrt(np.mean(want * want))
        if not difference.max() < 2e-5:
            row, column = np.unravel_index(np.nanargmax(np.where(np.isnan(difference), np.inf, difference)), (m, n))
            raise AssertionError(f"{variant.name} {size}: worst at [{row}, {column}]: expected {want[row, column]:.6g}, "
                                 f"got {first[row, column]:.6g}")
        worst = max(worst, difference.max())
    return worst


def check(driver, variant, function, seed=1):
    """Runs all cases; gives the largest difference."""
    random = np.random.default_rng(seed)
    return max(run_case(driver, variant, function, case, random) for case in CASES)
