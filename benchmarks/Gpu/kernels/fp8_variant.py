"""A compiled variant of Fp8MatrixProduct.cu and its launch, as the contract at the head of that file has it."""

import ctypes
import dataclasses

import cuda_driver
from cuda_driver import SWIZZLE_64_BYTES, SWIZZLE_128_BYTES, UINT8, compile_kernel

DENSE, GROUPED_ROWS, MASKED_ROWS, GROUPED_DEPTH = range(4)
TILE_SCALES, ROW_SCALES = range(2)
BFLOAT16, FLOAT32_OUT, FLOAT32_SUM = range(3)
BLOCK = 128


def ceil_divide(value, divisor):
    return (value + divisor - 1) // divisor


class Arguments(ctypes.Structure):
    _fields_ = [("scales_a", ctypes.c_uint64), ("scales_b", ctypes.c_uint64), ("output", ctypes.c_uint64),
                ("groups", ctypes.c_uint64), ("group_count", ctypes.c_int), ("rows", ctypes.c_int),
                ("columns", ctypes.c_int), ("depth", ctypes.c_int), ("pitch", ctypes.c_int),
                ("pitch_scales_a", ctypes.c_int), ("pitch_scales_b", ctypes.c_int), ("accumulate", ctypes.c_int),
                ("of_separate_products", ctypes.c_uint8 * 32)]


class Product(ctypes.Structure):
    """Three tensor maps and the arguments, 512 bytes."""
    _fields_ = [("maps", ctypes.c_uint8 * 128 * 3), ("arguments", Arguments), ("pad", ctypes.c_uint8 * 32)]


@dataclasses.dataclass(frozen=True)
class Variant:
    """What is fixed at compile time."""
    kind: int = DENSE
    rows: int = 128
    columns: int = 128
    cluster: int = 2
    stages: int = 6
    scales_b: int = TILE_SCALES
    output: int = BFLOAT16
    extra: tuple = ()

    @property
    def name(self):
        kind = ("dense", "rows", "masked", "depth")[self.kind]
        output = ("bf16", "f32", "f32+=")[self.output]
        extra = "".join(f" {name[6:].lower()}={value}" for name, value in self.extra)
        return f"{kind} {self.rows}x{self.columns} cluster {self.cluster} stages {self.stages} {output}{extra}"

    @property
    def consumers(self):
        return 2 if self.rows >= 128 else 1

    @property
    def threads(self):
        return 128 * (self.consumers + 1)

    @property
    def output_bytes(self):
        return 2 if self.output == BFLOAT16 else 4

    @property
    def patch_columns(self):
        return min(self.columns, 128 // self.output_bytes)

    @property
    def shared_bytes(self):
        scales_b = self.columns * 4 if self.scales_b == ROW_SCALES else 0
        stage = (self.rows + self.columns) * BLOCK + self.rows * 4 + scales_b + 16
        patches = self.consumers * 4 * 3 * 8 * self.patch_columns * self.output_bytes
        return self.stages * stage + patches + scales_b

    def compile(self):
        """The cubin and the compiler's log."""
        return compile_kernel("MatrixProduct/Fp8MatrixProduct.cu", {
            "KREWE_KIND": self.kind, "KREWE_TILE_ROWS": self.rows, "KREWE_TILE_COLUMNS": self.columns,
            "KREWE_CLUSTER": self.cluster, "KREWE_STAGES": self.stages, "KREWE_SCALES_B": self.scales_b,
            "KREWE_OUTPUT": self.output, **dict(self.extra)})


@dataclasses.dataclass
class Problem:
    """Operands on the device, by address. <rows> counts A's rows, with masked groups those of one group."""
    a: int
    b: int
    scales_a: int
    scales_b: int
    output: int
    rows: int
    columns: int
    depth: int
    groups: int = 0
    group_count: int = 1


class Launch:
    """One variant bound to one problem."""

    def __init__(self, driver, variant, function, problem):
        self.driver, self.variant, self.function = driver, variant, function
        grouped = variant.kind in (GROUPED_ROWS, MASKED_ROWS)
        rows_a = problem.rows * (problem.group_count if variant.kind == MASKED_ROWS else 1)
        rows_b = problem.columns * (problem.group_count if grouped else 1)
        blocks = ceil_divide(problem.depth, BLOCK)

        def operand(pointer, rows, box_rows):
            return driver.tensor_map(pointer, UINT8, problem.depth, rows, problem.depth, BLOCK, box_rows,
                                     SWIZZLE_128_BYTES)

        self.maps = [operand(problem.a, rows_a, variant.rows // variant.cluster),
                     operand(problem.b, rows_b, variant.columns)]
        rows_out = rows_a * (problem.group_count if variant.kind == GROUPED_DEPTH else 1)
        width = variant.patch_columns * variant.output_bytes
        self.maps.append(driver.tensor_map(
            problem.output, cuda_driver.BFLOAT16 if variant.output == BFLOAT16 else cuda_driver.FLOAT32,
            problem.columns, rows_out, problem.columns * variant.output_bytes, variant.patch_columns, 8,
            SWIZZLE_128_BYTES if width == 128 else SWIZZLE_64_BYTES))
        self.arguments = Arguments(problem.scales_a, problem.scales_b, problem.output, problem.groups,
                                   problem.group_count, problem.rows, problem.columns, problem.depth, problem.columns,
                                   blocks, blocks, variant.output == FLOAT32_SUM)
        self.product = Product(type(Product().maps)(*(entry[0] for entry in self.maps)), self.arguments)
        clusters = driver.resident_clusters(function, variant.cluster, variant.threads, variant.shared_bytes)
        if variant.kind != GROUPED_ROWS:
            tiles = ceil_divide(problem.rows, variant.rows) * problem.group_count
            clusters = min(clusters, tiles * ceil_divide(problem.columns, variant.columns * variant.cluster))
        self.grid = clusters * variant.cluster

    def __call__(self, stream=None, overlap=False):
        parameters = [self.product, ctypes.c_void_p(), ctypes.c_int(1), ctypes.c_void_p()]
        self.driver.launch(self.function, self.grid, self.variant.threads, self.variant.shared_bytes, parameters,
                           stream, overlap)
