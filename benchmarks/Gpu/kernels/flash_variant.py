"""Attention on the tensor cores for one size of heads: its kernels and their launches."""

import ctypes
import dataclasses

import numpy as np

import cuda_driver
from cuda_driver import PLAIN, SWIZZLE_128_BYTES, compile_kernel

CHUNK, BOX_ROWS, TILE, THREADS = 64, 64, 128, 384
KERNELS = {"flash_attention": "FlashAttention.cu", "flash_query_gradient": "FlashQueryGradient.cu",
           "flash_key_gradient": "FlashKeyGradient.cu"}


def ceil_divide(value, divisor):
    return (value + divisor - 1) // divisor


class Matrix(ctypes.Structure):
    _fields_ = [("data", ctypes.c_uint64), ("rows", ctypes.c_int), ("columns", ctypes.c_int), ("stride", ctypes.c_int)]


class Arguments(ctypes.Structure):
    _fields_ = [("tiles", ctypes.c_uint64), ("heads", ctypes.c_int), ("tokens", ctypes.c_int),
                ("scale", ctypes.c_float)]


@dataclasses.dataclass(frozen=True)
class Heads:
    """Elements of a head: without position, rotated, of the value."""
    nope: int
    rope: int
    value: int

    @property
    def name(self):
        return f"{self.nope}+{self.rope}/{self.value}"

    @property
    def key(self):
        return self.nope + self.rope

    def defines(self):
        return {"KREWE_NOPE": self.nope, "KREWE_ROPE": self.rope, "KREWE_VALUE": self.value}

    def shared_bytes(self, kernel):
        """Dynamic shared memory of a block."""
        keys = (ceil_divide(self.nope, CHUNK) + ceil_divide(self.rope, CHUNK)) * CHUNK * 2
        values = ceil_divide(self.value, CHUNK) * CHUNK * 2
        if kernel == "flash_attention":
            return TILE * keys + 2 * TILE * (keys + values) + 9 * 8
        rows = 3 * 64 * 16 if kernel == "flash_key_gradient" else 0
        return (TILE + 3 * 64) * (keys + values) + rows + 7 * 8

    def compile(self):
        """Cubin and log of each kernel by name."""
        return {name: compile_kernel(f"Attention/{file}", self.defines()) for name, file in KERNELS.items()}


def tiles(starts, work):
    """Tiles of 128 tokens of all sequences as int32 [count, 4], those with the most <work>(tile) first."""
    made = [(start, stop, first, min(first + TILE, stop))
            for start, stop in zip(starts, starts[1:]) for first in range(start, stop, TILE)]
    return np.array(sorted(made, key=work, reverse=True), np.int32).reshape(-1, 4)


class Launches:
    """The kernels bound to buffers. Addresses: query, key_value, key_rope, grad_output bfloat16; float32 output,
    log_sum_exp, statistics, grad_query, grad_key_value, head_key_rope."""

    def __init__(self, driver, heads, functions, count, starts, scale, buffers):
        self.driver, self.heads, self.functions, self.count = driver, heads, functions, count
        tokens = starts[-1]
        by_query = tiles(starts, lambda tile: tile[3] - tile[0])
        by_key = tiles(starts, lambda tile: tile[1] - tile[2])
        self.grid = len(by_query) * count
        query_arguments, key_arguments = (Arguments(driver.upload(one), count, tokens, scale)
                                          for one in (by_query, by_key))

        def tensor_map(name, columns):
            return driver.tensor_map(buffers[name], cuda_driver.BFLOAT16, columns, tokens, columns * 2, CHUNK,
                                     BOX_ROWS, SWIZZLE_128_BYTES)

        def matrix(name, rows, columns):
            return Matrix(buffers[name], rows, columns, columns)

        widths = {"query": count * heads.key, "key_value": count * (heads.nope + heads.value), "key_rope": heads.rope,
                  "grad_output": count * heads.value}
        self.maps = [tensor_map(name, width) for name, width in widths.items()]
        self.maps.append(driver.tensor_map(buffers["statistics"], cuda_driver.FLOAT32, count * 4, tokens, count * 16, 4,
                                           BOX_ROWS, PLAIN))
        *maps, statistics_map = [entry[0] for entry in self.maps]
        statistics, head_key_rope = (ctypes.c_uint64(buffers[name]) for name in ("statistics", "head_key_rope"))
        self.parameters = {
            "flash_attention": [*maps[:3], matrix("output", tokens, count * heads.value),
                                matrix("log_sum_exp", count, tokens), query_arguments],
            "flash_query_gradient": [*maps, matrix("grad_query", tokens, widths["query"]), statistics,
                                     query_arguments],
            "flash_key_gradient": [*maps, statistics_map, matrix("grad_key_value", tokens, widths["key_value"]),
                                   head_key_rope, key_arguments]}

    def __call__(self, kernel, stream=None):
        self.driver.launch(self.functions[kernel], self.grid, THREADS, self.heads.shared_bytes(kernel),
                           self.parameters[kernel], stream)
