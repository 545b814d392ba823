#!/usr/bin/env python3
"""Fails when parts of a step have become slower: slide.py BENCH_MODEL

What the parts of a step cost on the demo's model, each as a ratio to another part in the same run, against the
ratio that was measured when the limit was set. One thread. A busy machine slows both sides of a ratio; the
least of a few tries counts.
"""
import json
import os
import subprocess
import sys
import tempfile

TRIES = 4
SLACK = 1.4
# (part, over, ratio measured): docs/benchmarks has the numbers in seconds.
RATIOS = (
    ("BM_UnetForward/32", "BM_MatrixProduct/fp32", 0.23),
    ("BM_UnetForwardBackward/32", "BM_UnetForward/32", 2.6),
    ("BM_UnetForwardBackwardRows/32", "BM_UnetForwardBackward/32", 1.0),
    ("BM_DdimStep/32", "BM_UnetForward/32", 0.004),
)


def seconds(program):
    """{benchmark: seconds} of one run."""
    names = sorted({name for part, over, _ in RATIOS for name in (part, over)})
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        subprocess.run([program, f"--benchmark_filter=^({'|'.join(names)})/", "--benchmark_min_time=0.3", f"--benchmark_out={file.name}",
                        "--benchmark_out_format=json"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       env=dict(os.environ, OMP_NUM_THREADS="1"))
        rows = json.load(open(file.name))["benchmarks"]
    found = {row["name"].removesuffix("/real_time"): row["real_time"] for row in rows}
    if sorted(found) != names:
        sys.exit(f"slide: {program} has measured {sorted(found)}, expected {names}")
    return found


def main():
    best = {}
    for _ in range(TRIES):
        found = seconds(sys.argv[1])
        for part, over, _ in RATIOS:
            best[part] = min(best.get(part, float("inf")), found[part] / found[over])
        if all(best[part] <= SLACK * usual for part, _, usual in RATIOS):
            break
    slid = False
    for part, over, usual in RATIOS:
        is_slower = best[part] > SLACK * usual
        slid = slid or is_slower
        print(f"{part} / {over}: {best[part]:.3f}, usually {usual:.3f}{'  SLOWER' if is_slower else ''}")
    if slid:
        sys.exit(f"slide: more than {SLACK} times what it was")


if __name__ == "__main__":
    main()
