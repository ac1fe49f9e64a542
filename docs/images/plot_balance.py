"""Draws docs/images/balance.svg from the printed output of two runs:

    krewe train > balanced.txt
    krewe train --bias-update-speed 0 --run unbalanced > unbalanced.txt
    python3 docs/images/plot_balance.py balanced.txt unbalanced.txt docs/images/balance.svg
"""
import re
import sys

PANELS = [("loss, nats per byte token", 1, 3.2, (1, 1.5, 2, 2.5, 3)), ("MaxVio", 0, 2.5, (0, 0.5, 1, 1.5, 2, 2.5))]
COLORS = [("bias moves by 0.01 a step", "#1f6fa8"), ("bias frozen at 0", "#b4530a")]


def read(path):
    pattern = re.compile(r"step (\d+)/\d+\s+loss ([\d.]+).*MaxVio ([\d.]+)")
    return [tuple(map(float, match.groups())) for match in map(pattern.match, open(path)) if match]


def main():
    runs = [read(path) for path in sys.argv[1:3]]
    last = max(point[0] for run in runs for point in run)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 920 330" font-family="DejaVu Sans, sans-serif">',
           '<rect width="920" height="330" fill="#ffffff"/>']
    for panel, (title, low, high, ticks) in enumerate(PANELS):
        left, top, width, height = 60 + 455 * panel, 40, 380, 220
        x = lambda step: left + width * step / last
        y = lambda value: top + height * (1 - (min(value, high) - low) / (high - low))
        out.append(f'<text x="{left}" y="24" font-size="14" font-weight="bold" fill="#222">{title}</text>')
        for tick in ticks:
            out.append(f'<line x1="{left}" x2="{left + width}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#dddddd"/>')
            out.append(f'<text x="{left - 8}" y="{y(tick) + 4:.1f}" font-size="11" text-anchor="end" fill="#555">{tick:g}</text>')
        for step in range(0, int(last) + 1, 300):
            out.append(f'<text x="{x(step):.1f}" y="{top + height + 18}" font-size="11" text-anchor="middle" fill="#555">{step}</text>')
        out.append(f'<text x="{left + width / 2}" y="{top + height + 36}" font-size="12" text-anchor="middle" fill="#555">step</text>')
        for run, (_, color) in zip(runs, COLORS):
            points = " ".join(f"{x(point[0]):.1f},{y(point[1 + panel]):.1f}" for point in run)
            out.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
    for index, (label, color) in enumerate(COLORS):
        at = 250 + 240 * index
        out.append(f'<line x1="{at}" x2="{at + 28}" y1="316" y2="316" stroke="{color}" stroke-width="3"/>')
        out.append(f'<text x="{at + 36}" y="320" font-size="13" fill="#222">{label}</text>')
    out.append("</svg>")
    open(sys.argv[3], "w").write("\n".join(out) + "\n")


main()
