#!/usr/bin/env python3
"""Does it learn the same? learning.py [--cases fp32,bf16] REPORT.md [PICTURE.svg]

The demo's job in float32 with a replay, and with one thing changed at a time, over the same seeds; all of it is one queue of
jobs for a service that runs two at a time. Prints the mean reward of the last epochs, and for each change the
paired differences with their standard error; ends with 1 where one is more than two of them away. The picture
needs matplotlib (Debian: python3-matplotlib).
"""
import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import machine  # noqa: E402
import runs  # noqa: E402
from runs import harness  # noqa: E402

JOB = runs.ROOT / "deploy/demo/job.yaml"
SEEDS = (1, 2, 3)
LAST = 10
MOST_ERRORS = 2
LONGEST_S = 3 * 3600
COMMON = ("topology={colocated: 1}", "device.num_threads=1", "eval={}", "train.update=replay")
ONE_UPDATE = ("train.gradient_accumulation_steps=4", "train.learning_rate=8e-3")
CASES = {  # Name: settings, and what it is compared with.
    "fp32": ((), None),
    "bf16": (("model.precision=bf16",), "fp32"),
    "8-bit AdamW": (("train.optimizer=adamw8bit", "train.min_8bit_size=0"), "fp32"),
    "one update an epoch": (ONE_UPDATE, None),
    "the same in a single pass": ((*ONE_UPDATE, "train.update=single_pass"), "one update an epoch"),
}


def make_data():
    folder = runs.ROOT / "out/demo/data"
    if not folder.exists():
        subprocess.run([harness.BIN / "imageddpo-demo", "data", "--output", folder], check=True, stdout=subprocess.DEVNULL)


def rewards(output_dir):
    """Mean reward of each epoch."""
    rows = map(json.loads, (pathlib.Path(output_dir) / "metrics.jsonl").read_text().splitlines())
    return list({row["epoch"]: row["reward_mean"] for row in rows}.values())


def measure(cases, progress):
    """{case: {seed: [mean reward of an epoch, …]}}"""
    with tempfile.TemporaryDirectory(prefix="imageddpo-bench-") as name:
        with runs.service_of_tree(pathlib.Path(name), 3) as service:
            jobs = {}
            for seed in SEEDS:
                for case, (settings, _) in cases.items():
                    words = [word for setting in (f"seed={seed}", *COMMON, *settings) for word in ("--set", setting)]
                    submitted = service.client("submit", JOB, *words, "-o", "id")
                    jobs[case, seed] = submitted.stdout.strip()
            curves = {case: {} for case in cases}
            for (case, seed), job in jobs.items():
                ended = service.wait_end(job, LONGEST_S)
                assert ended["state"] == "SUCCEEDED", f"{case}, seed {seed}: {ended['state_reason']}"
                curves[case][seed] = rewards(ended["output_dir"])
                print(f"{case}, seed {seed}: {statistics.fmean(curves[case][seed][-LAST:]):.3f}", file=progress, flush=True)
    return curves


def paired(final, base):
    """Mean difference over the seeds and its standard error."""
    differences = [final[seed] - base[seed] for seed in SEEDS]
    return statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(SEEDS))


def report(curves):
    final = {case: {seed: statistics.fmean(curve[-LAST:]) for seed, curve in of_case.items()} for case, of_case in curves.items()}
    lines = [f"Mean reward of the last {LAST} epochs; {machine.describe()}", "",
             "| | " + " | ".join(f"seed {seed}" for seed in SEEDS) + " | difference | standard errors |", "|---" * (len(SEEDS) + 3) + "|"]
    alike = True
    for case in curves:
        base = CASES[case][1]
        cells = [f"{final[case][seed]:.3f}" for seed in SEEDS]
        if base:
            difference, error = paired(final[case], final[base])
            distance = abs(difference) / error if error > 0 else math.inf if difference else 0.0
            alike = alike and distance <= MOST_ERRORS
            cells += [f"{difference:+.3f} ± {error:.3f} from {base}", f"{distance:.2f}"]
        else:
            cells += ["", ""]
        lines.append(f"| {case} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n", alike


def draw(curves, path):
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for case, of_case in curves.items():
        axes.plot([statistics.fmean(values) for values in zip(*of_case.values())], label=case, linewidth=1)
    axes.set(xlabel="epoch", ylabel=f"reward, mean of {len(SEEDS)} seeds")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report")
    parser.add_argument("picture", nargs="?")
    parser.add_argument("--cases", default=",".join(CASES), help="some of: %(default)s")
    args = parser.parse_args()
    names = args.cases.split(",")
    for case in names:
        if case not in CASES:
            parser.error(f"there is no case {case}; known: {', '.join(CASES)}")
        if CASES[case][1] not in (None, *names):
            parser.error(f"{case} is compared with {CASES[case][1]}: name both")
    chosen = {case: CASES[case] for case in names}
    make_data()
    curves = measure(chosen, sys.stderr)
    text, alike = report(curves)
    print(text)
    pathlib.Path(args.report).write_text(text)
    if args.picture:
        draw(curves, args.picture)
    sys.exit(0 if alike else 1)


if __name__ == "__main__":
    main()
