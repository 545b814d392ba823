#!/usr/bin/env python3
"""Cost of an epoch against images, steps, resolution, ranks and LoRA rank: growth.py [REPORT.md]

On the demo's model through the service, one setting varied at a time; prints a table with a bar for each
point. "growth" is the exponent of the cost between a point and the one before: 1 is linear.
"""
import math
import pathlib
import statistics
import sys

sys.dont_write_bytecode = True
import machine  # noqa: E402
import runs  # noqa: E402

EPOCHS = 6
BAR = 30
SIZELESS_REWARD = "rewards=[{type: jpeg, measure: incompressibility}]"  # The demo's classifier takes 32 px alone.
SERIES = {
    "images an epoch": ((32, 64, 128, 256), lambda n: (f"sample.batch_size={n}", f"train.gradient_accumulation_steps={n // 32}"), lambda n: n),
    "executed steps": ((3, 5, 10, 20), lambda n: (f"sample.num_steps={2 * n}",), lambda n: n),
    "pixels a side": ((32, 48, 64, 96), lambda n: (f"data.resolution={n}", "device.device_batch_size=8", SIZELESS_REWARD), lambda n: n * n),
    "LoRA rank": ((1, 4, 16, 64), lambda n: (f"lora.rank={n}", f"lora.alpha={n}", "train.update=single_pass"), lambda n: n),
    "ranks": ((1, 2), lambda n: (f"topology={{colocated: {n}}}",), lambda n: n),
}


def main():
    lines = []
    for name, (points, settings, amount) in SERIES.items():
        measured = []
        for point in points:
            ranks = 3 if name == "ranks" else 1
            run = runs.Ours("tiny.yaml", ranks, (f"num_epochs={EPOCHS}", "topology={colocated: 1}", *settings(point)))
            measured.append(statistics.median(row["epoch_seconds"] for row in run.measure()["epochs"]))
            print(f"{name} {point}: {measured[-1]:.3f} s", file=sys.stderr, flush=True)
        lines += [f"| {name} | epoch, s | growth | |", "|---|---|---|---|"]
        for i, (point, seconds) in enumerate(zip(points, measured)):
            growth = math.log(seconds / measured[i - 1]) / math.log(amount(point) / amount(points[i - 1])) if i else None
            bar = "█" * max(1, round(BAR * seconds / max(measured)))
            lines.append(f"| {point} | {seconds:.3f} | {'' if growth is None else f'{growth:.2f}'} | `{bar}` |")
        lines.append("")
    text = f"{machine.describe()}, one thread a rank\n\n" + "\n".join(lines)
    print(text)
    if len(sys.argv) > 1:
        pathlib.Path(sys.argv[1]).write_text(text + "\n")


if __name__ == "__main__":
    main()
