#!/usr/bin/env python3
"""Ratios of images per second between settings of one job, through the real service.

  service_bench.py OUTPUT.json

overlap    rollout 1, trainer 1: sample.max_staleness 1 against lock-step, one thread each
colocated  two ranks against one, one thread each

Settings take turns, ROUNDS times, so that a machine that is slow for a while is slow for both. A run's
speed is its samples over the sum of its epochs' seconds, the first two left out.
"""
import json
import pathlib
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
sys.dont_write_bytecode = True
import harness  # noqa: E402  (found by the line above)

ROUNDS = 1
SKIPPED_EPOCHS = 2
STAGES = ("sample_seconds", "reward_seconds", "rollout_wait_seconds", "wait_seconds", "train_seconds", "publish_seconds")
CASES = {
    "overlap": ("overlap.yaml", "sample.max_staleness=0", "sample.max_staleness=1"),
    "colocated": ("colocated.yaml", "topology={colocated: 1}", "topology={colocated: 2}"),
}


def run(service, job_file, setting):
    """Speed and mean stage seconds of one run."""
    before = {job["id"] for job in json.loads(service.client("list", "-o", "json").stdout).get("jobs", [])}
    overrides = [f"model.path={harness.ROOT}/deploy/demo/tiny-sd", f"data.path={service.directory}/data/blurred",
                 f"rewards.0.model={harness.ROOT}/deploy/demo/classifier.pt", setting]
    service.client("submit", job_file, *[word for override in overrides for word in ("--set", override)])
    job_id, = {job["id"] for job in json.loads(service.client("list", "-o", "json").stdout)["jobs"]} - before
    ended = service.wait_end(job_id, 600)
    assert ended["state"] == "SUCCEEDED", f"{ended['state']}: {ended['state_reason']}"
    rows = [json.loads(line) for line in (pathlib.Path(ended["output_dir"]) / "timings.jsonl").read_text().splitlines()]
    rows = rows[SKIPPED_EPOCHS:]
    samples = sum(row["images_per_second"] * row["epoch_seconds"] for row in rows)
    speed = samples / sum(row["epoch_seconds"] for row in rows)
    return speed, {stage: statistics.mean(row[stage] for row in rows) for stage in STAGES}


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": len(values)}


def main():
    report = {}
    with harness.workspace() as directory, harness.Service(directory, 3) as service:
        for name, (job_file, base, other) in CASES.items():
            speeds = {base: [], other: []}
            stages = {}
            for _ in range(ROUNDS):
                for setting in (base, other):
                    speed, stages[setting] = run(service, HERE / "jobs" / job_file, setting)
                    speeds[setting].append(speed)
            ratios = [b / a for a, b in zip(speeds[base], speeds[other])]
            report[name] = {"job": job_file, "base": base, "other": other,
                            "base_images_per_s": spread(speeds[base]), "other_images_per_s": spread(speeds[other]),
                            "ratio": spread(ratios), "epoch_stages_s": stages}
            print(f"{name}: {report[name]['ratio']['median']:.2f}", flush=True)
    output = pathlib.Path(sys.argv[1])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
