"""Times attention and its gradients beside PyTorch's scaled_dot_product_attention, with errors against float64."""

import contextlib
import ctypes

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from cuda_driver import compile_kernel
from flash_variant import KERNELS, Heads, Launches, Matrix

WARM_UP, RUNS = 10, 50
BACKENDS = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]


def milliseconds(run):
    """Mean over RUNS calls in a row, the least of three rounds."""
    for _ in range(WARM_UP):
        run()
    times = []
    for _ in range(3):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        for _ in range(RUNS):
            run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / RUNS)
    return min(times)


def error(got, want):
    """Norm of the difference over the norm, and the largest difference over the largest element."""
    difference = got.double() - want
    return f"{(difference.norm() / want.norm()).item():.2e} / {(difference.abs().max() / want.abs().max()).item():.2e}"


class Problem:
    """Random operands of one sequence, and what PyTorch and float64 make of them."""

    def __init__(self, heads, count, tokens):
        self.heads, self.count, self.tokens, self.scale = heads, count, tokens, heads.key ** -0.5
        make = lambda width: torch.randn(tokens, width, device="cuda").bfloat16()
        self.query, self.key_value = make(count * heads.key), make(count * (heads.nope + heads.value))
        self.key_rope, self.grad_output = make(heads.rope), make(count * heads.value)
        self.flops = 2.0 * count * (heads.key + heads.value) * tokens * (tokens + 1) / 2

    def by_head(self):
        """query, key, value, grad_output as [1, heads, T, d], contiguous, as PyTorch likes them best."""
        kv = self.key_value.view(self.tokens, self.count, -1)
        rope = self.key_rope[:, None].expand(-1, self.count, -1)
        parts = [self.query.view(self.tokens, self.count, -1),
                 torch.cat([kv[..., :self.heads.nope], rope], -1), kv[..., self.heads.nope:],
                 self.grad_output.view(self.tokens, self.count, -1)]
        return [part.transpose(0, 1)[None].contiguous() for part in parts]

    def exact(self):
        """output, grad_query, grad_key, grad_value [heads, T, d] in float64, head by head."""
        results = [[], [], [], []]
        future = torch.ones(self.tokens, self.tokens, dtype=torch.bool, device="cuda").triu(1)
        for q, k, v, g in zip(*(part[0].double() for part in self.by_head())):
            p = (self.scale * q @ k.t()).masked_fill(future, float("-inf")).softmax(1)
            output = p @ v
            ds = p * (g @ v.t() - (g * output).sum(1, keepdim=True)) * self.scale
            for result, one in zip(results, (output, ds @ k, ds.t() @ q, p.t() @ g)):
                result.append(one)
        return [torch.stack(result) for result in results]


def sdpa(problem, q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=problem.scale)


def backend_taken(problem, parts):
    """The kernel that PyTorch launches where nobody chooses."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        sdpa(problem, *parts)
        torch.cuda.synchronize()
    return max(profile.key_averages(), key=lambda entry: entry.device_time_total).key[:90]


def time_baseline(problem, exact):
    """Prints what PyTorch's backends take; gives the default's milliseconds forward and backward."""
    parts = problem.by_head()
    grad = parts.pop()
    leaves = [part.requires_grad_() for part in parts]
    print(f"  PyTorch's choice: {backend_taken(problem, [leaf.detach() for leaf in leaves])}")
    results = []
    for backend in [None, *BACKENDS]:
        name = backend.name.lower() if backend else "default"
        try:
            with sdpa_kernel(backend) if backend else contextlib.nullcontext():
                with torch.no_grad():
                    forward = milliseconds(lambda: sdpa(problem, *leaves))
                output = sdpa(problem, *leaves)
                run = lambda: torch.autograd.grad(output, leaves, grad, retain_graph=True)
                gradients, backward = run(), milliseconds(run)
        except RuntimeError as fault:
            print(f"  sdpa {name}: {str(fault).splitlines()[0][:100]}")
            continue
        results.append((forward, backward))
        report(f"sdpa {name}", problem, forward, backward)
        print("    error (norm / largest) output, dq, dk, dv:",
              ", ".join(error(got[0], want) for got, want in zip([output, *gradients], exact)))
    return results[0]


def report(name, problem, forward, backward):
    print(f"  {name:28s} forward {forward * 1e3:8.1f} us {problem.flops / forward / 1e9:6.0f} TFLOP/s | "
          f"backward {backward * 1e3:8.1f} us {2.5 * problem.flops / backward / 1e9:6.0f} TFLOP/s", flush=True)


def time_case(driver, heads, functions, count, tokens):
    torch.manual_seed(1)
    problem = Problem(heads, count, tokens)
    print(f"{tokens} tokens, {count} heads {heads.name}, causal, bfloat16")
    exact = problem.exact()
    empty = lambda *shape, dtype=torch.float32: torch.full(shape, float("nan"), dtype=dtype, device="cuda")
    results = {"output": empty(tokens, count * heads.value), "log_sum_exp": empty(count, tokens),
               "grad_query": empty(*problem.query.shape), "grad_key_value": empty(*problem.key_value.shape),
               "head_key_rope": empty(count, tokens, heads.rope), "statistics": empty(tokens, count, 4)}
    inputs = {name: getattr(problem, name) for name in ("query", "key_value", "key_rope", "grad_output")}
    buffers = {name: one.data_ptr() for name, one in {**inputs, **results}.items()}
    launches = Launches(driver, heads, functions, count, [0, tokens], problem.scale, buffers)
    operands = Operands(driver, problem, inputs, results)
    stream = lambda: torch.cuda.current_stream().cuda_stream
    launches("flash_attention", stream())
    operands.gradient(stream())
    for kernel in list(KERNELS)[1:]:
        launches(kernel, stream())
    dq = results["grad_query"].view(tokens, count, -1).transpose(0, 1)
    dkv = results["grad_key_value"].view(tokens, count, -1).transpose(0, 1)
    dk = torch.cat([dkv[..., :heads.nope], results["head_key_rope"]], -1)
    output = results["output"].view(tokens, count, -1).transpose(0, 1)
    mine = [output, dq, dk, dkv[..., heads.nope:]]
    print("    error (norm / largest) output, dq, dk, dv:", ", ".join(map(error, mine, exact)))
    print("    the same rounded to bfloat16:             ",
          ", ".join(error(one.bfloat16(), want) for one, want in zip(mine, exact)))
    first = [one.clone() for one in mine]
    times = {}
    for kernel in KERNELS:
        times[kernel] = milliseconds(lambda: launches(kernel, stream()))
    times["round_operand"] = milliseconds(lambda: operands.forward(stream()))
    times["round_gradient"] = milliseconds(lambda: operands.gradient(stream()))
    same = all(torch.equal(one, other) for one, other in zip(first, mine))
    print("    repeatable:", same, "|", ", ".join(f"{name} {time * 1e3:.1f} us" for name, time in times.items()))
    forward = times["flash_attention"]
    backward = times["flash_query_gradient"] + times["flash_key_gradient"] + times["round_gradient"]
    report("krewe", problem, forward, backward)
    base = time_baseline(problem, exact)
    again = milliseconds(lambda: launches("flash_attention", stream()))
    print(f"  krewe again {again * 1e3:.1f} us; of PyTorch's default: forward {base[0] / forward:.2f}, "
          f"backward {base[1] / backward:.2f}")


class Operands:
    """The passes that round float32 to the kernels' operands."""

    def __init__(self, driver, problem, inputs, results):
        cubin, _ = compile_kernel("Attention/FlashOperands.cu", {})
        self.driver = driver
        self.functions = [driver.load(cubin, name, 0) for name in ("round_operand", "round_gradient")]
        self.wide = {name: one.float() for name, one in inputs.items()}
        self.target = {name: torch.empty_like(one) for name, one in inputs.items()}
        self.results, self.count, self.tokens = results, problem.count, problem.tokens

    @staticmethod
    def matrix(tensor):
        return Matrix(tensor.data_ptr(), tensor.shape[0], tensor.shape[1], tensor.shape[1])

    def forward(self, stream):
        for name in ("query", "key_value", "key_rope"):
            groups = self.wide[name].numel() // 4
            self.driver.launch(self.functions[0], (groups + 255) // 256, 256, 0,
                               [self.matrix(self.wide[name]), ctypes.c_uint64(self.target[name].data_ptr())], stream)

    def gradient(self, stream):
        self.driver.launch(
            self.functions[1], (self.tokens * self.count + 7) // 8, 256, 0,
            [*map(self.matrix, (self.wide["grad_output"], self.results["output"], self.results["log_sum_exp"])),
             ctypes.c_uint64(self.target["grad_output"].data_ptr()),
             ctypes.c_uint64(self.results["statistics"].data_ptr())], stream)


def time_all(driver, functions):
    print(torch.cuda.get_device_name(), "PyTorch", torch.__version__)
    for heads, count, tokens in ((Heads(128, 64, 128), 16, 4096), (Heads(64, 32, 64), 8, 4096)):
        time_case(driver, heads, functions[heads], count, tokens)
