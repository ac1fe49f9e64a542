"""Draws docs/images/precision.svg from a CSV of losses by step, a column for each run of docs-26m (krewe train --json):

    python3 docs/images/plot_precision.py --join losses.csv "bf16 1=bf16.json" "fp8 1=fp8.json" "bf16 again 1=again.json" ...
    python3 docs/images/plot_precision.py benchmarks/Gpu/results/precision-docs-26m-3e-4.csv docs/images/precision.svg

A column's name ends with its seed. Left the losses, right how far the mean of the last 50 steps is from that of the bf16 run
of the same seed.
"""
import csv
import json
import math
import sys

WINDOW = 50
BAR = 0.25
KINDS = [
    ("fp8", "#b4530a", "", "fp8 to bf16, each seed"),
    ("bf16 again", "#1f6fa8", ' stroke-dasharray="2 3"', "bf16 in two micro-batches to bf16 in one, each seed"),
]


def join(target, *runs):
    losses = {}
    for run in runs:
        name, path = run.split("=", 1)
        events = [json.loads(line) for line in open(path) if line.startswith("{")]
        losses[name] = {event["step"]: event["loss"] for event in events if event["event"] == "step"}
    with open(target, "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["step", *losses])
        steps = sorted(set.intersection(*(set(run) for run in losses.values())))
        rows.writerows([step, *(run[step] for run in losses.values())] for step in steps)


def smoothed(values):
    """Mean of the last WINDOW values, from the first step that has so many."""
    return [sum(values[end - WINDOW:end]) / WINDOW for end in range(WINDOW, len(values) + 1)]


def percent(losses, run, other):
    return [100 * (a / b - 1) for a, b in zip(smoothed(losses[run]), smoothed(losses[other]))]


def panel(out, left, title, steps, low, high, ticks, lines):
    top, width, height = 40, 380, 220
    x = lambda step: left + width * step / steps
    y = lambda value: top + height * (1 - (value - low) / (high - low))
    out.append(f'<text x="{left}" y="24" font-size="14" font-weight="bold" fill="#222">{title}</text>')
    for tick in ticks:
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#dddddd"/>')
        out.append(
            f'<text x="{left - 8}" y="{y(tick) + 4:.1f}" font-size="11" text-anchor="end" fill="#555">{tick:g}</text>')
    for step in range(0, steps + 1, 50):
        out.append(
            f'<text x="{x(step):.1f}" y="{top + height + 18}" font-size="11" text-anchor="middle" fill="#555">{step}</text>')
    out.append(
        f'<text x="{left + width / 2}" y="{top + height + 36}" font-size="12" text-anchor="middle" fill="#555">step</text>')
    for points, color, stroke, dash in lines:
        path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{stroke}"{dash}/>')


def draw(source, target):
    rows = list(csv.DictReader(open(source)))
    steps = len(rows)
    losses = {name: [float(row[name]) for row in rows] for name in rows[0] if name != "step"}
    seeds = [name.rsplit(" ", 1)[1] for name in losses if name.startswith("fp8 ")]
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 920 352" font-family="DejaVu Sans, sans-serif">',
           '<rect width="920" height="352" fill="#ffffff"/>']
    panel(out, 60, "loss, nats per token", steps, 1, 9, range(1, 10),
          [(list(enumerate(losses[f"{name} {seed}"], 1)), color, stroke, "")
           for seed in seeds for name, color, stroke in (("bf16", "#1f6fa8", 3), ("fp8", "#b4530a", 1))])
    differences = {name: [percent(losses, f"{name} {seed}", f"bf16 {seed}") for seed in seeds] for name, *_ in KINDS}
    bars = [([(0, bar), (steps, bar)], "#999", 1, ' stroke-dasharray="6 4"') for bar in (-BAR, BAR)]
    most = max(abs(value) for runs in differences.values() for run in runs for value in run)
    limit = 0.5 if most <= 0.5 else math.ceil(most)
    ticks = sorted({-limit, -limit / 2, -BAR, 0, BAR, limit / 2, limit})
    panel(out, 515, f"difference of the means of {WINDOW} steps, %", steps, -limit, limit, ticks,
          bars + [(list(enumerate(values, WINDOW)), color, 1.5, dash)
                  for name, color, dash, _ in KINDS for values in differences[name]])
    for index, (label, color) in enumerate([("bf16", "#1f6fa8"), ("fp8", "#b4530a")]):
        at = 160 + 110 * index
        out.append(f'<line x1="{at}" x2="{at + 28}" y1="316" y2="316" stroke="{color}" stroke-width="3"/>')
        out.append(f'<text x="{at + 36}" y="320" font-size="13" fill="#222">{label}</text>')
    for index, (_, color, dash, label) in enumerate(KINDS):
        at = 316 + 20 * index
        out.append(f'<line x1="515" x2="543" y1="{at}" y2="{at}" stroke="{color}" stroke-width="2"{dash}/>')
        out.append(f'<text x="551" y="{at + 4}" font-size="12" fill="#222">{label}</text>')
    out.append("</svg>")
    open(target, "w").write("\n".join(out) + "\n")
    for name, _, _, label in KINDS:
        for step in range(100, steps + 1, 100):
            found = [values[step - WINDOW] for values in differences[name]]
            mean = sum(found) / len(found)
            error = (sum((value - mean) ** 2 for value in found) / (len(found) - 1) / len(found)) ** 0.5
            print(f"{label}, step {step}: {', '.join(f'{value:+.2f}' for value in found)}; mean {mean:+.2f} +- {error:.2f} %")


if sys.argv[1] == "--join":
    join(*sys.argv[2:])
else:
    draw(*sys.argv[1:3])
