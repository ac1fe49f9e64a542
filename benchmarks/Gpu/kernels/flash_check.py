"""Checks attention and its gradients on small ragged sequences against float64 with numpy alone.

Run under compute-sanitizer too: nothing but the kernels runs on the device.
"""

import numpy as np

from flash_variant import KERNELS, Launches

GUARD = 4096
# Each probability and each score's gradient is rounded to bfloat16, 2^-9 of itself at most; sums of many average out.
BOUND = 4e-3
CASES = [(2, [0, 1]), (1, [0, 3, 3, 130]), (3, [0, 64, 65, 193, 400]), (2, [0, 128, 640])]


def to_bfloat16(values):
    """Nearest bfloat16, as bits."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def reference(heads, count, starts, scale, query, key_value, key_rope, grad_output):
    """Everything the kernels write, in float64."""
    tokens = starts[-1]
    q = query.reshape(tokens, count, heads.key)
    kv = key_value.reshape(tokens, count, heads.nope + heads.value)
    g = grad_output.reshape(tokens, count, heads.value)
    output, log_sum_exp, delta = np.zeros_like(g), np.zeros((count, tokens)), np.zeros((count, tokens))
    grad_query, grad_key_value = np.zeros_like(q), np.zeros_like(kv)
    head_key_rope = np.zeros((count, tokens, heads.rope))
    for first, end in zip(starts, starts[1:]):
        for head in range(count):
            rows = slice(first, end)
            k = np.concatenate([kv[rows, head, :heads.nope], key_rope[rows]], 1)
            v = kv[rows, head, heads.nope:]
            scores = scale * q[rows, head] @ k.T
            scores[np.triu_indices(end - first, 1)] = -np.inf
            maximum = scores.max(1, keepdims=True, initial=-np.inf)
            p = np.exp(scores - maximum)
            total = p.sum(1, keepdims=True)
            p /= total
            log_sum_exp[head, rows] = (maximum + np.log(total))[:, 0]
            output[rows, head] = p @ v
            delta[head, rows] = (g[rows, head] * output[rows, head]).sum(1)
            ds = p * (g[rows, head] @ v.T - delta[head, rows, None]) * scale
            grad_query[rows, head] = ds @ k
            dk = ds.T @ q[rows, head]
            grad_key_value[rows, head] = np.concatenate([dk[:, :heads.nope], p.T @ g[rows, head]], 1)
            head_key_rope[head, rows] = dk[:, heads.nope:]
    return {"output": output, "log_sum_exp": log_sum_exp, "delta": delta, "grad_query": grad_query,
            "grad_key_value": grad_key_value, "head_key_rope": head_key_rope}


def run_case(driver, heads, functions, count, starts, random):
    """Largest relative error of each result; raises where one is too large, or bits differ from run to run."""
    tokens, scale = starts[-1], float(np.float32(heads.key ** -0.5))
    shapes = {"query": count * heads.key, "key_value": count * (heads.nope + heads.value), "key_rope": heads.rope,
              "grad_output": count * heads.value}
    bits = {name: to_bfloat16(random.normal(0, 1, (tokens, width))) for name, width in shapes.items()}
    expected = reference(heads, count, starts, scale, **{name: from_bfloat16(one) for name, one in bits.items()})
    buffers = {name: driver.upload(one) for name, one in bits.items()}
    statistics = np.zeros((tokens, count, 4), np.float32)
    statistics[..., 0], statistics[..., 1] = expected["log_sum_exp"].T / np.log(2), expected["delta"].T
    written = ["output", "log_sum_exp", "grad_query", "grad_key_value", "head_key_rope"]
    results = []
    for _ in range(2):
        blank = {name: np.full(expected[name].size + GUARD, np.nan, np.float32) for name in written}
        buffers.update({name: driver.upload(one) for name, one in blank.items()}, statistics=driver.upload(statistics))
        launches = Launches(driver, heads, functions, count, starts, scale, buffers)
        for kernel in KERNELS:
            launches(kernel)
        for name, one in blank.items():
            driver.download(buffers[name], one)
        results.append(blank)
    errors = {}
    for name in written:
        got, want = results[0][name], expected[name]
        if not np.array_equal(got.view(np.uint32), results[1][name].view(np.uint32)):
            raise AssertionError(f"{heads.name} {starts} {name}: two runs differ")
        if not np.isnan(got[want.size:]).all():
            raise AssertionError(f"{heads.name} {starts} {name}: wrote past the end")
        difference = got[:want.size].reshape(want.shape) - want
        errors[name] = np.linalg.norm(difference) / max(np.linalg.norm(want), 1e-3 * want.size ** 0.5)
        if not errors[name] < BOUND:
            place = np.unravel_index(np.argmax(np.where(np.isnan(difference), np.inf, abs(difference))), want.shape)
            raise AssertionError(f"{heads.name} count {count} {starts} {name}: error {errors[name]:.3g}, worst at "
                                 f"{place}: expected {want[place]:.6g}, got {want[place] + difference[place]:.6g}")
    return errors


def check(driver, heads, functions, seed=1):
    """Largest error of each result over all cases."""
    random = np.random.default_rng(seed)
    worst = {}
    for count, starts in CASES:
        for name, error in run_case(driver, heads, functions, count, starts, random).items():
            worst[name] = max(worst.get(name, 0), error)
    return worst
