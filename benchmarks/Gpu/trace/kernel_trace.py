"""Sums up what kernel_trace.c wrote: the last full training step, from one optimizer update to the next.

    python3 kernel_trace.py TRACE [STEP_TSV]

Prints the time of each kernel, and the time the GPU stood idle by what ran next, for that is what was late.
"""

import collections
import sys

APART = 50  # launches between two updates of the same step, at most


def read(path):
    with open(path) as lines:
        fields = (line.rstrip("\n").split("\t") for line in lines)
        return sorted((int(f[0]), int(f[1]), f[3], f[4]) for f in fields if len(f) == 5)


def updates(rows):
    """Index of the last launch of each optimizer update."""
    ends = []
    for index, row in enumerate(rows):
        if row[2].startswith("adamw"):
            if ends and index - ends[-1] < APART:
                ends[-1] = index
            else:
                ends.append(index)
    return ends


def main():
    rows = read(sys.argv[1])
    ends = updates(rows)
    if len(ends) < 2:
        sys.exit(f"{sys.argv[1]}: {len(rows)} records, {len(ends)} optimizer updates; a step lies between two")
    before = rows[ends[-2]]
    step = rows[ends[-2] + 1 : ends[-1] + 1]
    start = before[0] + before[1]
    busy, reached = 0, start
    kernels = collections.defaultdict(lambda: [0, 0])
    idle = collections.defaultdict(lambda: [0, 0, 0])
    for begin, length, name, _ in step:
        gap = max(0, begin - reached)
        busy += max(0, begin + length - max(begin, reached))
        reached = max(reached, begin + length)
        kernels[name][0] += 1
        kernels[name][1] += length
        if gap:
            idle[name][0] += gap
            idle[name][1] += 1
            idle[name][2] += gap > 20_000
    print(f"step {(reached - start) / 1e6:.2f} ms, busy {busy / 1e6:.2f} ms, {len(step)} launches and copies")
    print(f"{'name':54} {'count':>6} {'ms':>9}")
    for name, (count, length) in sorted(kernels.items(), key=lambda item: -item[1][1])[:45]:
        print(f"{name[:54]:54} {count:6} {length / 1e6:9.3f}")
    print(f"{'idle before':54} {'count':>6} {'ms':>9} {'over 20 us':>10}")
    for name, (length, count, long) in sorted(idle.items(), key=lambda item: -item[1][0])[:20]:
        print(f"{name[:54]:54} {count:6} {length / 1e6:9.3f} {long:10}")
    if len(sys.argv) > 2:
        with open(sys.argv[2], "w") as out:
            for begin, length, name, grid in step:
                out.write(f"{(begin - start) / 1e3:.1f}\t{length / 1e3:.1f}\t{name}\t{grid}\n")


if __name__ == "__main__":
    main()
