"""A compiled variant of BFloat16MatrixProduct.cu and its launch, as the contract at the head of that file has it."""

import ctypes
import dataclasses

import cuda_driver
from cuda_driver import SWIZZLE_128_BYTES, compile_kernel
from fp8_variant import ceil_divide

FORWARD, BACKWARD_INPUT, BACKWARD_WEIGHT = range(3)
BLOCK = 64


class Product(ctypes.Structure):
    """Padded to a multiple of 128 bytes, as the kernel has it."""
    _fields_ = [("a", ctypes.c_uint8 * 128), ("b", ctypes.c_uint8 * 128), ("c", ctypes.c_uint8 * 128),
                ("m", ctypes.c_int), ("n", ctypes.c_int), ("k", ctypes.c_int), ("pad", ctypes.c_int * 29)]


class ProductList(ctypes.Structure):
    _fields_ = [("products", ctypes.c_uint64), ("first_tiles", ctypes.c_uint64), ("count", ctypes.c_int),
                ("tiles", ctypes.c_int)]


@dataclasses.dataclass(frozen=True)
class Variant:
    """What is fixed at compile time."""
    form: int = FORWARD
    rows: int = 256
    columns: int = 128
    stages: int = 4
    accumulate: bool = False

    @property
    def name(self):
        form = ("forward", "to input", "to weight")[self.form]
        return f"{form} {self.rows}x{self.columns} stages {self.stages}{' +=' if self.accumulate else ''}"

    @property
    def consumers(self):
        return 1 if self.rows == 64 else 2

    @property
    def threads(self):
        return 128 * (self.consumers + 1)

    @property
    def resident(self):
        return 2 if self.rows == 64 else 1

    @property
    def shared_bytes(self):
        return self.stages * ((self.rows + self.columns) * 128 + 16) + self.consumers * 4 * 3 * 8 * 128

    @property
    def across_a(self):
        return self.form == BACKWARD_WEIGHT

    @property
    def across_b(self):
        return self.form != FORWARD

    def compile(self):
        """The cubin and the compiler's log."""
        return compile_kernel("MatrixProduct/BFloat16MatrixProduct.cu", {
            "KREWE_KIND": 0, "KREWE_TILE_ROWS": self.rows, "KREWE_TILE_COLUMNS": self.columns, "KREWE_CLUSTER": 1,
            "KREWE_STAGES": self.stages, "KREWE_SCALES_B": 0, "KREWE_OUTPUT": 2 if self.accumulate else 1,
            "KREWE_ACROSS_A": int(self.across_a), "KREWE_ACROSS_B": int(self.across_b)})


@dataclasses.dataclass
class Matrix:
    """A matrix on the device as it is stored; rows <pitch> elements apart."""
    pointer: int
    rows: int
    columns: int
    pitch: int


class Launch:
    """One variant bound to a list of products (a, b, c, each a Matrix)."""

    def __init__(self, driver, variant, function, products, fault):
        self.driver, self.variant, self.function = driver, variant, function
        entries = (Product * len(products))()
        first_tiles = (ctypes.c_int * len(products))()
        tiles = 0

        def tensor_map(matrix, kind, size, *box):
            made, _room = driver.tensor_map(matrix.pointer, kind, matrix.columns, matrix.rows, matrix.pitch * size, *box,
                                            SWIZZLE_128_BYTES)
            return type(made).from_buffer_copy(made)

        def operand(matrix, across, tile):
            return tensor_map(matrix, cuda_driver.BFLOAT16, 2, BLOCK, BLOCK if across else tile)

        for i, (a, b, c) in enumerate(products):
            result = tensor_map(c, cuda_driver.FLOAT32, 4, 32, 8)
            depth = a.rows if variant.across_a else a.columns
            entries[i] = Product(operand(a, variant.across_a, variant.rows),
                                 operand(b, variant.across_b, variant.columns), result, c.rows, c.columns, depth)
            first_tiles[i] = tiles
            tiles += ceil_divide(c.rows, variant.rows) * ceil_divide(c.columns, variant.columns)
        self.list = ProductList(driver.upload_bytes(entries), driver.upload_bytes(first_tiles), len(products), tiles)
        self.fault = ctypes.c_uint64(fault)
        self.grid = min(driver.multiprocessors * variant.resident, tiles)

    def __call__(self, stream=None):
        self.driver.launch(self.function, self.grid, self.variant.threads, self.variant.shared_bytes,
                           [self.list, self.fault], stream)
