"""Times variants at the sizes of DeepSeek-V3's experts beside PyTorch's blockwise-scaled product, in one run."""

import statistics
from time import sleep

import torch

from fp8_variant import (BFLOAT16, BLOCK, DENSE, FLOAT32_OUT, FLOAT32_SUM, GROUPED_DEPTH, GROUPED_ROWS, MASKED_ROWS,
                         Launch, Problem)

SHAPES = [(4096, 7168), (7168, 2048)]
ROTATED_BYTES = 200 << 20
E4M3_LARGEST = 448.0


def quantise(values, tile_rows):
    """Codes [rows, depth] and scales [rows / tile_rows, depth / 128] of tiles of tile_rows x 128."""
    rows, depth = values.shape
    tiles = values.view(rows // tile_rows, tile_rows, depth // BLOCK, BLOCK)
    scales = tiles.abs().amax((1, 3), keepdim=True).clamp(min=1e-4) / E4M3_LARGEST
    codes = (tiles / scales).to(torch.float8_e4m3fn).view(rows, depth)
    return codes, scales.view(rows // tile_rows, depth // BLOCK)


def dequantise(codes, scales, tile_rows):
    return codes.double() * scales.double().repeat_interleave(tile_rows, 0).repeat_interleave(BLOCK, 1)


class Operands:
    """Random operands, quantised: A [rows, depth], B [groups x columns, depth], the output filled with NaN."""

    def __init__(self, kind, rows, columns, depth, groups, by_row, output):
        self.kind, self.rows, self.columns, self.depth, self.groups, self.by_row = (
            kind, rows, columns, depth, groups, by_row)
        self.output_kind = output
        b_groups = groups if kind in (GROUPED_ROWS, MASKED_ROWS) else 1
        self.a, self.scales_a = quantise(torch.randn(rows, depth, device="cuda"), 1)
        self.b, self.scales_b = quantise(torch.randn(b_groups * columns, depth, device="cuda"), 1 if by_row else BLOCK)
        self.scales_a_by_block = self.scales_a.t().contiguous()
        self.scales_b_by_block = self.scales_b.t().contiguous() if by_row else self.scales_b
        dtype = torch.bfloat16 if output == BFLOAT16 else torch.float32
        rows_out = rows * groups if kind == GROUPED_DEPTH else rows
        self.output = torch.full((rows_out, columns), float("nan"), dtype=dtype, device="cuda")
        if output == FLOAT32_SUM:
            self.output.zero_()
        if kind == MASKED_ROWS:
            bounds = [rows // groups] * groups
        else:
            bounds = [(depth if kind == GROUPED_DEPTH else rows) // groups * group for group in range(groups + 1)]
        self.bounds = torch.tensor(bounds, dtype=torch.int32, device="cuda")

    def problem(self):
        rows = self.rows // self.groups if self.kind == MASKED_ROWS else self.rows
        return Problem(self.a.data_ptr(), self.b.data_ptr(), self.scales_a.data_ptr(),
                       self.scales_b.data_ptr(), self.output.data_ptr(), rows, self.columns, self.depth,
                       self.bounds.data_ptr(), self.groups)

    def bytes(self):
        return self.a.nbytes + self.b.nbytes + self.output.nbytes + self.scales_a.nbytes + self.scales_b.nbytes

    def error(self):
        """1 - similarity with the float64 product of what was quantised, over all groups or the first four."""
        a = dequantise(self.a, self.scales_a, 1)
        difference = total = 0.0
        for group in range(min(self.groups, 4)):
            if self.kind == GROUPED_DEPTH:
                part = slice(self.bounds[group], self.bounds[group + 1])
                b = dequantise(self.b, self.scales_b, 1 if self.by_row else BLOCK)
                want = a[:, part] @ b[:, part].t()
                got = self.output[group * self.rows:(group + 1) * self.rows].double()
            else:
                rows = slice(group * self.rows // self.groups, (group + 1) * self.rows // self.groups)
                b = dequantise(self.b[group * self.columns:(group + 1) * self.columns],
                               self.scales_b[group * self.columns // BLOCK:(group + 1) * self.columns // BLOCK], BLOCK)
                want, got = a[rows] @ b.t(), self.output[rows].double()
            difference += (got - want).square().sum().item()
            total += (got.square() + want.square()).sum().item()
        return difference / total


def time_graph(run, sets, sustained=True):
    """Milliseconds of a call of run(set), as graphs that rotate over the sets: (burst, sustained) or (burst,).

    Burst: the median of three graphs of 8 ms after a pause, before the card lowers its clock to its power limit.
    Sustained: the median of nine after 25, at the clock that the power limit leaves.
    """
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for one in sets:
            run(one)
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for one in sets:
            run(one)
        end.record()
        end.synchronize()
        rounds = max(1, round(8 / max(start.elapsed_time(end), 0.01)))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(rounds):
                for one in sets:
                    run(one)

        def median(warm_up, count):
            for _ in range(warm_up):
                graph.replay()
            marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
            marks[0].record()
            for mark in marks[1:]:
                graph.replay()
                mark.record()
            torch.cuda.synchronize()
            times = [first.elapsed_time(second) for first, second in zip(marks, marks[1:])]
            return statistics.median(times) / rounds / len(sets)

        torch.cuda.synchronize()
        sleep(0.15)
        return (median(0, 3), median(25, 9)) if sustained else (median(0, 3),)


def baseline(operands):
    return torch._scaled_mm(operands.a, operands.b.t(), scale_a=operands.scales_a_by_block.t(),
                            scale_b=operands.scales_b_by_block if operands.by_row else operands.scales_b.t(),
                            out_dtype=operands.output.dtype)


def report(name, operands, timing, note=""):
    flops = 2.0 * operands.rows * operands.columns * operands.depth
    size = operands.bytes()
    columns = [f"{time * 1e3:8.1f} us {flops / time / 1e9:6.0f} {size / time / 1e6:6.0f}" for time in timing]
    print(f"  {name:52s} {' |'.join(columns)} {note}", flush=True)


def time_baseline(sets, sustained):
    try:
        report("cuBLASLt", sets[0], time_graph(baseline, sets, sustained))
    except Exception as fault:  # an older PyTorch or a layout it refuses: the table says so
        print(f"  cuBLASLt: {str(fault).splitlines()[0]}")


def verify(launch, operands):
    """Runs twice on poisoned output; gives 1 - similarity and what is wrong, if anything."""
    results = []
    for _ in range(2):
        operands.output.fill_(0.0 if operands.output_kind == FLOAT32_SUM else float("nan"))
        launch()
        torch.cuda.synchronize()
        results.append(operands.output.clone())
    same = torch.equal(results[0].view(torch.uint8), results[1].view(torch.uint8))
    return f"error {operands.error():.2g}{'' if same else ' NOT REPEATABLE'}"


def time_case(driver, functions, kind, rows, columns, depth, groups, output, by_row, with_baseline):
    """One block of the table: all variants of the kind and output that suit the rows of a group."""
    print(f"{('dense', 'rows', 'masked', 'depth')[kind]} rows {rows} columns {columns} depth {depth} groups {groups}")
    make = lambda: Operands(kind, rows, columns, depth, groups, by_row, output)
    sets = [make()]
    while len(sets) * sets[0].bytes() < ROTATED_BYTES:
        sets.append(make())
    few = kind != GROUPED_DEPTH and rows // groups <= 128
    if with_baseline:
        time_baseline(sets, not few)
    for variant, function in functions.items():
        suits = variant.rows <= 128 if few else variant.rows >= 128
        if variant.kind != kind or variant.output != output or not suits:
            continue
        launches = {id(one): Launch(driver, variant, function, one.problem()) for one in sets}

        def run(one, overlap=False):
            launches[id(one)](torch.cuda.current_stream().cuda_stream, overlap)

        note = verify(lambda: run(sets[0]), sets[0])
        report(variant.name, sets[0], time_graph(run, sets, not few), note)
        if few:
            report(variant.name + ", early start", sets[0], time_graph(lambda one: run(one, True), sets, False))
    if with_baseline:
        time_baseline(sets, not few)
    del sets
    torch.cuda.empty_cache()


def time_all(driver, functions):
    """Prints the table: time, rate, bytes of operands and output a second, 1 - similarity."""
    torch.manual_seed(1)
    print(torch.cuda.get_device_name(), "PyTorch", torch.__version__)
    big = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    other = torch.empty_like(big)
    copy = time_graph(lambda one: other.copy_(one), [big], False)[0]
    print(f"copy {2 * big.nbytes / copy / 1e6:.0f} GB/s read and written")
    print("a call's time, TFLOP/s, GB/s of operands and output: in a burst | sustained")
    del big, other
    for columns, depth in SHAPES:
        for rows in (4096, 64, 128):
            time_case(driver, functions, DENSE, rows, columns, depth, 1, BFLOAT16, False, True)
        for groups, rows in ((8, 4096), (32, 128)):
            for kind in (GROUPED_ROWS, MASKED_ROWS):
                time_case(driver, functions, kind, groups * rows, columns, depth, groups, BFLOAT16, False, False)
        time_case(driver, functions, GROUPED_DEPTH, columns, depth, 4096, 1, FLOAT32_OUT, True, True)
        for groups in (1, 8):
            time_case(driver, functions, GROUPED_DEPTH, columns, depth, groups * 4096, groups, FLOAT32_SUM, True, False)
