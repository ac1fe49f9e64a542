"""Sums up what kernel_trace.c wrote of a generation: the last decode steps, from one arg_max to the next.

    python3 decode_trace.py TRACE [STEP_TSV]

Prints the time of each kernel and the time the GPU stood idle by what ran next; writes one step's launches in order.
"""

import collections
import sys

MARK = "arg_max"
STEPS = 20


def main():
    with open(sys.argv[1], errors="replace") as lines:
        fields = (line.rstrip("\n").split("\t") for line in lines)
        rows = sorted((int(f[0]), int(f[1]), f[3], f[4]) for f in fields if len(f) == 5)
    marks = [index for index, row in enumerate(rows) if MARK in row[2]]
    if len(marks) <= STEPS:
        sys.exit(f"{sys.argv[1]}: {len(rows)} records, {len(marks)} steps; more than {STEPS} are needed")
    ends = marks[-STEPS - 1 :]
    before = rows[ends[0]]
    reached = start = before[0] + before[1]
    kernels = collections.defaultdict(lambda: [0, 0])
    idle = collections.defaultdict(lambda: [0, 0])
    for begin, length, name, _ in rows[ends[0] + 1 : ends[-1] + 1]:
        gap = max(0, begin - reached)
        reached = max(reached, begin + length)
        kernels[name.split("(")[0]][0] += 1
        kernels[name.split("(")[0]][1] += length
        if gap:
            idle[name.split("(")[0]][0] += 1
            idle[name.split("(")[0]][1] += gap
    total = (reached - start) / STEPS / 1e3
    still = sum(gap for _, gap in idle.values()) / STEPS / 1e3
    launches = (ends[-1] - ends[0]) / STEPS
    print(f"a step {total:.0f} us, without a kernel {still:.0f} us, {launches:.0f} launches and copies")
    for title, table in (("name", kernels), ("idle before", idle)):
        print(f"{title:60} {'count':>7} {'us':>9}")
        for name, (count, length) in sorted(table.items(), key=lambda item: -item[1][1])[:40]:
            print(f"{name[:60]:60} {count / STEPS:7.1f} {length / STEPS / 1e3:9.1f}")
    if len(sys.argv) > 2:
        base = rows[ends[-2]][0] + rows[ends[-2]][1]
        with open(sys.argv[2], "w") as out:
            for begin, length, name, grid in rows[ends[-2] + 1 : ends[-1] + 1]:
                out.write(f"{(begin - base) / 1e3:.1f}\t{length / 1e3:.1f}\t{name}\t{grid}\n")


if __name__ == "__main__":
    main()
