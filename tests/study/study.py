#!/usr/bin/env python3
"""The study: make study, or study.py [corruptions] [settings] [photographs] [demo]; without a name the first two, and the
third where STUDY_PYTHON names a Python with the packages of requirements.txt, which pretrains a model on photographs.

Runs every job of plan.py through the service, writes a row for each to out/study/rows.jsonl, and makes the page from
them. A second call goes on where the first one ended: jobs that have a row are not run again, and jobs that were under
way are continued by the service. STUDY_QUICK=1: the least of each, in minutes, in out/study-quick.
"""
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent / "bench"))
import page  # noqa: E402
import plan  # noqa: E402
import runs  # noqa: E402
from runs import ROOT, harness  # noqa: E402

JOB = ROOT / "deploy/demo/job.yaml"
LONGEST_S = 7 * 24 * 3600
RANKS = 3
CURVE_POINTS = 100


def make_data(folder, *options):
    if not folder.exists():
        subprocess.run([harness.BIN / "imageddpo-demo", "data", "--output", folder, *options], check=True, stdout=subprocess.DEVNULL)


def make_photographs(folder, quick):
    """Patches, model and scorer; each stage is kept."""
    python = os.environ.get("STUDY_PYTHON")
    if not python:
        sys.exit("study.py: the part photographs needs STUDY_PYTHON, a Python with the packages of tests/study/requirements.txt")
    subprocess.run([python, HERE / "photographs.py", folder, *(["--quick"] if quick else [])], check=True)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def mean_of(rows, part):
    values = [row[part] for row in rows if part in row]
    return sum(values) / len(values) if values else None


def evaluation(output_dir, epoch):
    """Means over the held-out images, of the corrupted input and of the result."""
    rows = lines_of(output_dir / f"eval/epoch-{epoch:06d}.jsonl")
    return {name: mean_of(rows, part) for name, part in (("input", "classifier.correct_input"), ("accuracy", "classifier.correct"),
                                                         ("ssim", "ssim.value"), ("psnr", "psnr.value"),
                                                         ("distance", "likeness.value"), ("input_distance", "likeness.input_distance"),
                                                         ("input_ssim", "likeness.input_ssim"))}


def curve(output_dir):
    """[seconds of training so far, mean reward] of some of the epochs."""
    rewards = {row["epoch"]: row["reward_mean"] for row in lines_of(output_dir / "metrics.jsonl")}
    points, seconds = [], 0.0
    for row in lines_of(output_dir / "timings.jsonl"):
        seconds += row["epoch_seconds"]
        points.append([round(seconds, 2), rewards[row["epoch"]]])
    step = max(1, len(points) // CURVE_POINTS)
    return points[::-1][::step][::-1]


def row_of(cell, job):
    output_dir = pathlib.Path(job["output_dir"])
    last = max(row["epoch"] for row in lines_of(output_dir / "metrics.jsonl")) + 1
    points = curve(output_dir)
    return {"key": cell.key, "part": cell.part, "case": cell.case, "severity": cell.severity, "treatment": cell.treatment,
            "seed": cell.seed, "settings": cell.settings, "before": evaluation(output_dir, 0), "after": evaluation(output_dir, last),
            "train_seconds": points[-1][0], "curve": points, "lora": job["lora_path"]}


class Study:
    def __init__(self, out, service):
        self.rows_file = out / "rows.jsonl"
        self.rows = {row["key"]: row for row in lines_of(self.rows_file)}
        self.service = service
        self.jobs = {}
        self.failed = []

    def submit(self, cell):
        settings = list(cell.settings)
        if cell.starts_from:
            settings.append(f"lora.init_from={self.rows[cell.starts_from.key]['lora']}")
        words = [word for setting in settings for word in ("--set", setting)]
        # The same request is the same job, also after a restart.
        submitted = self.service.client("submit", JOB, *words, "--request-id", f"study-{plan.digest(cell.key)}", "-o", "id")
        self.jobs[cell.key] = submitted.stdout.strip()

    def finish(self, cell):
        job = self.service.wait_end(self.jobs[cell.key], LONGEST_S)
        if job["state"] != "SUCCEEDED":
            self.failed.append(cell.key)
            print(f"{cell.key}: {job['state']}: {job['state_reason']}", file=sys.stderr, flush=True)
            return
        row = row_of(cell, job)
        self.rows[cell.key] = row
        with open(self.rows_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        number, given = ("ssim", "input_ssim") if cell.part == "photographs" else ("accuracy", "input")
        print(f"{cell.key}: {number} {row['before'][given]:.3f} given, {row['after'][number]:.3f} after", flush=True)

    def run(self, cells):
        waiting = [cell for cell in cells if cell.key not in self.rows]
        print(f"{len(cells)} jobs, {len(cells) - len(waiting)} of them have a row", flush=True)
        for cell in waiting:
            if not cell.starts_from or cell.starts_from.key in self.rows:
                self.submit(cell)
        for cell in waiting:
            if cell.starts_from and cell.starts_from.key in self.failed:
                self.failed.append(cell.key)
                continue
            if cell.key not in self.jobs:
                self.submit(cell)
            self.finish(cell)


def main():
    parts = sys.argv[1:] or ["corruptions", "settings", *(["photographs"] if os.environ.get("STUDY_PYTHON") else [])]
    unknown = [part for part in parts if part not in plan.PARTS]
    if unknown:
        sys.exit(f"study.py: no part {unknown[0]}; known: {', '.join(plan.PARTS)}")
    quick = os.environ.get("STUDY_QUICK") == "1"
    out = ROOT / ("out/study-quick" if quick else "out/study")
    out.mkdir(parents=True, exist_ok=True)
    # A blur that small changes no pixel: data.corrupt corrupts clean images.
    make_data(out / "data", "--sigma", "0.1")
    if "demo" in parts:
        make_data(ROOT / "out/demo/data")
    if "photographs" in parts:
        make_photographs(out / "photographs", quick)
    cells = plan.cells(parts, (out / "data").relative_to(ROOT), (out / "photographs").relative_to(ROOT), quick)
    with runs.service_of_tree(out, RANKS) as service:
        study = Study(out, service)
        study.run(cells)
    rows = [study.rows[cell.key] for cell in cells if cell.key in study.rows]
    # The page of a whole study belongs to the docs; anything less stays in out/.
    folder = ROOT / "docs/studies" if not quick and not study.failed and "corruptions" in parts else out
    page.write(rows, folder, quick)
    print(f"written: {folder / page.NAME}", flush=True)
    sys.exit(1 if study.failed else 0)


if __name__ == "__main__":
    main()
