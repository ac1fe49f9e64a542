"""NVRTC and the CUDA driver through ctypes: compiles, loads and launches the product's kernels as the product does.

Works on the primary context, which PyTorch uses too, so that buffers and streams may come from either.
"""

import ctypes
import pathlib
import sys

KERNELS = pathlib.Path(__file__).resolve().parents[3] / "src" / "Gpu" / "Kernels"
UINT8, FLOAT32, BFLOAT16 = 0, 7, 9
PLAIN, SWIZZLE_64_BYTES, SWIZZLE_128_BYTES = 0, 2, 3
MAX_DYNAMIC_SHARED_BYTES = 8
CLUSTER_DIMENSION, PROGRAMMATIC_STREAM_SERIALIZATION = 4, 6


def library(names):
    """The first of the libraries that can be loaded."""
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError(f"none of {', '.join(names)} can be loaded")


def nvrtc_library():
    folders = ["", "/usr/local/cuda/lib64/"]
    folders += [f"{folder}/" for place in sys.path for folder in pathlib.Path(place).glob("nvidia/*/lib")]
    return library([folder + name for name in ("libnvrtc.so.13", "libnvrtc.so.12") for folder in folders])


def compile_kernel(source, defines):
    """Compiles a .cu for sm_90a; gives the cubin and the compiler's log with registers and spills."""
    nvrtc = nvrtc_library()
    program = ctypes.c_void_p()
    path = KERNELS / source
    options = ["--gpu-architecture=sm_90a", "--std=c++17", f"--include-path={KERNELS}", "--ptxas-options=-v"]
    options += [f"--define-macro={name}={value}" for name, value in defines.items()]
    arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), path.read_bytes(), path.name.encode(), 0, None, None)
    result = nvrtc.nvrtcCompileProgram(program, len(options), arguments)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    text = log.value.decode()
    if result != 0:
        raise RuntimeError(f"{source} does not compile with {defines}:\n{text}")
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    cubin = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetCUBIN(program, cubin)
    return cubin.raw, text


class LaunchAttribute(ctypes.Structure):
    _fields_ = [("id", ctypes.c_int), ("pad", ctypes.c_int), ("value", ctypes.c_int * 16)]


class LaunchConfig(ctypes.Structure):
    _fields_ = [("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3), ("shared_bytes", ctypes.c_uint),
                ("stream", ctypes.c_void_p), ("attributes", ctypes.c_void_p), ("attribute_count", ctypes.c_uint)]


class Driver:
    """One device."""

    def __init__(self):
        self.cuda = library(["libcuda.so.1", "libcuda.so"])
        self.call("cuInit", 0)
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)
        count = ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(count), 16, device)
        self.multiprocessors = count.value

    def call(self, name, *arguments):
        result = getattr(self.cuda, name)(*arguments)
        if result != 0:
            text = ctypes.c_char_p()
            self.cuda.cuGetErrorName(result, ctypes.byref(text))
            raise RuntimeError(f"{name}: {text.value.decode() if text.value else result}")

    def load(self, cubin, name, shared_bytes):
        """A function of a cubin, allowed <shared_bytes> of shared memory."""
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), cubin)
        self.call("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
        self.call("cuFuncSetAttribute", function, MAX_DYNAMIC_SHARED_BYTES, shared_bytes)
        return function

    def tensor_map(self, pointer, kind, columns, rows, pitch_bytes, box_columns, box_rows, swizzle):
        """Tensor map of a matrix [rows, columns] read in boxes; what lies outside reads as zero."""
        room = (ctypes.c_uint8 * 192)()
        address = (ctypes.addressof(room) + 63) & ~63
        sizes = (ctypes.c_uint64 * 2)(columns, rows)
        pitches = (ctypes.c_uint64 * 1)(pitch_bytes)
        box = (ctypes.c_uint32 * 2)(box_columns, box_rows)
        ones = (ctypes.c_uint32 * 2)(1, 1)
        self.call("cuTensorMapEncodeTiled", ctypes.c_void_p(address), kind, 2, ctypes.c_void_p(pointer), sizes,
                  pitches, box, ones, 0, swizzle, 3, 0)
        return (ctypes.c_uint8 * 128).from_address(address), room

    def launch(self, function, grid, threads, shared_bytes, arguments, stream=None, overlap=False):
        """Launches a function; <overlap> lets it start up while the kernel before it ends."""
        attribute = LaunchAttribute(PROGRAMMATIC_STREAM_SERIALIZATION, 0, (ctypes.c_int * 16)(1))
        config = LaunchConfig((grid, 1, 1), (threads, 1, 1), shared_bytes, stream,
                              ctypes.addressof(attribute) if overlap else None, 1 if overlap else 0)
        pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
        self.call("cuLaunchKernelEx", ctypes.byref(config), function, pointers, None)

    def resident_clusters(self, function, cluster, threads, shared_bytes):
        """Clusters of blocks that the device holds at once."""
        attribute = LaunchAttribute(CLUSTER_DIMENSION, 0, (ctypes.c_int * 16)(cluster, 1, 1))
        config = LaunchConfig((cluster, 1, 1), (threads, 1, 1), shared_bytes, None, ctypes.addressof(attribute), 1)
        count = ctypes.c_int()
        self.call("cuOccupancyMaxActiveClusters", ctypes.byref(count), function, ctypes.byref(config))
        return count.value

    def upload(self, array):
        """Copies a numpy array to new device memory and gives its address; kept until the process ends."""
        return self.upload_from(array.ctypes.data_as(ctypes.c_void_p), array.nbytes)

    def upload_bytes(self, structure):
        """The same with a structure or array of ctypes."""
        return self.upload_from(ctypes.byref(structure), ctypes.sizeof(structure))

    def upload_from(self, source, size):
        pointer = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(max(size, 16)))
        self.call("cuMemcpyHtoD_v2", pointer, source, ctypes.c_size_t(size))
        return pointer.value

    def download(self, pointer, array):
        self.call("cuCtxSynchronize")
        self.call("cuMemcpyDtoH_v2", array.ctypes.data_as(ctypes.c_void_p), ctypes.c_uint64(pointer),
                  ctypes.c_size_t(array.nbytes))
