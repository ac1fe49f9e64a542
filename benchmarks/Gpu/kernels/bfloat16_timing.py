"""Times variants at the sizes of docs-26m's and DeepSeek-V3's experts beside PyTorch's products, in one run."""

import ctypes

import numpy as np
import torch

from bfloat16_variant import BACKWARD_INPUT, BACKWARD_WEIGHT, FORWARD, Launch, Matrix
from cuda_driver import compile_kernel
from fp8_timing import time_graph

ROTATED_BYTES = 200 << 20


class Operands:
    """Random operands of <groups> products: input [tokens, depth], weight [groups, columns, depth], and gradients of
    the output [tokens, columns]."""

    def __init__(self, groups, rows, columns, depth):
        self.groups, self.rows, self.columns, self.depth = groups, rows, columns, depth
        tokens = groups * rows
        make = lambda *shape: torch.randn(*shape, dtype=torch.bfloat16, device="cuda")
        self.input, self.weight, self.gradient = make(tokens, depth), make(groups, columns, depth), make(tokens, columns)
        self.ends = torch.arange(1, groups + 1, device="cuda", dtype=torch.int32) * rows
        self.results = [torch.zeros(tokens, columns, device="cuda"), torch.zeros(tokens, depth, device="cuda"),
                        torch.zeros(groups, columns, depth, device="cuda")]

    def bytes(self, form):
        operands = ((self.input, self.weight), (self.gradient, self.weight), (self.gradient, self.input))[form]
        return sum(tensor.nbytes for tensor in operands) + self.results[form].nbytes

    def flops(self):
        return 2.0 * self.groups * self.rows * self.columns * self.depth

    def products(self, form):
        def part(tensor, group, rows):
            return Matrix(tensor.data_ptr() + group * rows * tensor.shape[-1] * tensor.element_size(), rows,
                          tensor.shape[-1], tensor.shape[-1])

        for group in range(self.groups):
            tokens = [part(tensor, group, self.rows) for tensor in (self.input, self.gradient)]
            result = part(self.results[form], group, self.columns if form == BACKWARD_WEIGHT else self.rows)
            weight = part(self.weight, group, self.columns)
            yield ((tokens[0], weight, result), (tokens[1], weight, result), (tokens[1], tokens[0], result))[form]

    def torch_product(self, form):
        """PyTorch's own, with results in bfloat16."""
        if self.groups == 1:
            return (lambda: self.input @ self.weight[0].t(), lambda: self.gradient @ self.weight[0],
                    lambda: self.gradient.t() @ self.input)[form]()
        if form == FORWARD:
            return torch._grouped_mm(self.input, self.weight.transpose(1, 2), offs=self.ends)
        if form == BACKWARD_INPUT:
            return torch._grouped_mm(self.gradient, self.weight, offs=self.ends)
        return torch._grouped_mm(self.gradient.t(), self.input, offs=self.ends)

    def torch_float(self, form):
        """One product with results in float32."""
        a, b = ((self.input, self.weight[0].t()), (self.gradient, self.weight[0]), (self.gradient.t(), self.input))[form]
        return torch.mm(a, b, out_dtype=torch.float32)


def report(name, operands, form, milliseconds, note=""):
    print(f"  {name:44s} {milliseconds * 1e3:8.1f} us {operands.flops() / milliseconds / 1e9:6.0f} TFLOP/s "
          f"{operands.bytes(form) / milliseconds / 1e6:6.0f} GB/s {note}", flush=True)


def time_torch(name, sets, form, run):
    try:
        report(name, sets[0], form, time_graph(run, sets, False)[0])
    except Exception as fault:  # a form that this PyTorch lacks: the table says so
        print(f"  {name}: {str(fault).splitlines()[0][:100]}")


def time_case(driver, functions, fault, groups, rows, columns, depth):
    sets = [Operands(groups, rows, columns, depth)]
    while len(sets) * sets[0].bytes(FORWARD) < ROTATED_BYTES:
        sets.append(Operands(groups, rows, columns, depth))
    for form in (FORWARD, BACKWARD_INPUT, BACKWARD_WEIGHT):
        print(f"{('forward', 'to input', 'to weight')[form]}: {groups} groups of {rows} rows, weight {columns} x {depth}")
        kind = "matmul" if groups == 1 else "_grouped_mm"
        time_torch(f"torch {kind}, result bfloat16", sets, form, lambda one: one.torch_product(form))
        if groups == 1:
            time_torch("torch mm, result float32", sets, form, lambda one: one.torch_float(form))
        for variant, function in functions.items():
            if variant.form != form:
                continue
            launches = {id(one): Launch(driver, variant, function, list(one.products(form)), fault) for one in sets}
            run = lambda one: launches[id(one)](torch.cuda.current_stream().cuda_stream)
            sets[0].results[form].zero_()
            run(sets[0])
            torch.cuda.synchronize()
            want = sets[0].torch_product(form).float().view_as(sets[0].results[form])
            error = ((sets[0].results[form] - want).norm() / want.norm()).item()
            report(variant.name, sets[0], form, time_graph(run, sets, False)[0], f"off {error:.1e}")
    del sets
    torch.cuda.empty_cache()


class Gather(ctypes.Structure):
    _fields_ = [("source", ctypes.c_uint64), ("rows", ctypes.c_uint64), ("destination", ctypes.c_uint64),
                ("count", ctypes.c_int), ("pieces", ctypes.c_int), ("source_pitch", ctypes.c_int),
                ("destination_pitch", ctypes.c_int), ("first_row", ctypes.c_int), ("pad", ctypes.c_int)]


def time_gather(driver, fault, groups, rows, depth, tokens):
    """The rows of <groups> experts out of <tokens> tokens."""
    source = torch.randn(tokens, depth, dtype=torch.bfloat16, device="cuda")
    chosen = torch.randint(0, tokens, (groups * rows,), device="cuda", dtype=torch.int32)
    target = torch.zeros(groups * rows, depth, dtype=torch.bfloat16, device="cuda")
    pieces = depth // 8
    gathers = (Gather * groups)(*(Gather(
        source.data_ptr(), chosen.data_ptr() + group * rows * 4, target.data_ptr() + group * rows * depth * 2, rows,
        pieces, pieces, pieces, group * rows, 0) for group in range(groups)))
    cubin, _ = compile_kernel("MatrixProduct/GatherRows.cu", {})
    function = driver.load(cubin, "gather_bfloat16", 0)
    arguments = [ctypes.c_uint64(driver.upload_bytes(gathers)), ctypes.c_int(groups), ctypes.c_int(groups * rows),
                 ctypes.c_uint64(fault)]

    def run(_):
        driver.launch(function, groups * rows // 8, 256, 0, arguments, torch.cuda.current_stream().cuda_stream)

    time = time_graph(run, [None], False)[0]
    same = torch.equal(target, source[chosen.long()])
    print(f"gather {groups} x {rows} rows of {depth} out of {tokens}: {time * 1e3:.1f} us, "
          f"{2 * target.nbytes / time / 1e6:.0f} GB/s, {'right' if same else 'WRONG'}")


def time_all(driver, functions):
    """Prints the table: time, rate, bytes of operands and results a second, difference from PyTorch's."""
    torch.manual_seed(1)
    print(torch.cuda.get_device_name(), "PyTorch", torch.__version__)
    fault = driver.upload(np.zeros(8, np.int32))
    time_gather(driver, fault, 32, 4096, 256, 32768)
    time_gather(driver, fault, 8, 4096, 7168, 8192)
    for case in ((32, 4096, 128, 256), (32, 4096, 256, 128), (8, 4096, 2048, 7168), (8, 4096, 7168, 2048),
                 (32, 128, 2048, 7168), (1, 32768, 8192, 256), (1, 32768, 768, 256), (1, 4096, 2048, 7168)):
        time_case(driver, functions, fault, *case)
