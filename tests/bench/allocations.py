#!/usr/bin/env python3
"""Allocations of each epoch, rank by rank: allocations.py [REPORT.md]

Jobs of the demo's model through the service, with a library preloaded that publishes the allocator's statistics. Prints
for every epoch the allocations, the least and the most that was live at a time, and the pages held; ends with 1 where
they grow from epoch to epoch. The images are few, so that the first epoch, which is left out, fills all caches.
"""
import collections
import contextlib
import json
import os
import pathlib
import statistics
import struct
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import machine  # noqa: E402
import runs  # noqa: E402
from runs import harness  # noqa: E402

WARM_UP = 1
MEASURED = 10
EPOCHS = WARM_UP + MEASURED + 1  # The last one ends with the job.
READ_EVERY_S = 0.002
LONGEST_EPOCH_S = 120
LIBRARY = harness.BIN.parent / "tests/libcount_allocations.so"
MOST_GROWTH = 0.01  # Of each number, over all epochs.
JOBS = {
    "single pass, colocated": ("tiny.yaml", "topology={colocated: 2}"),
    "replay, colocated": ("tiny_replay.yaml", "topology={colocated: 2}"),
    "replay, streamed": ("tiny_replay.yaml", "topology={rollout: 1, trainer: 1}"),
}
MIB = 2.0**20
FEW_ALLOCATIONS = 10_000
Statistics = collections.namedtuple("Statistics", "calls live resident")  # As count_allocations.cc writes them.


class Epoch:
    """What one rank did between two lines of timings.jsonl."""

    def __init__(self, now):
        self.first = self.last = now.calls
        self.least, self.most, self.resident = now.live, now.live, now.resident

    def see(self, now):
        self.last = now.calls
        self.least, self.most = min(self.least, now.live), max(self.most, now.live)
        self.resident = max(self.resident, now.resident)

    def row(self):
        return {"allocations": self.last - self.first, "least live, MiB": self.least / MIB, "most live, MiB": self.most / MIB,
                "most resident, MiB": self.resident / MIB}


@contextlib.contextmanager
def counted_service(directory):
    """A service of 3 ranks with the library: a file for each process in `directory`."""
    service = runs.service_of_tree(directory, 3)
    counting = {"LD_PRELOAD": str(LIBRARY), "COUNT_ALLOCATIONS": str(directory)}
    os.environ.update(counting)
    try:
        service.start()
    finally:
        for name in counting:
            del os.environ[name]
    try:
        yield service
    finally:
        service.stop()


def profile(job_file, *settings):
    """{rank: [Epoch, …]} of a job's measured epochs."""
    settings = (*settings, "data.path=out/bench/data/four/blurred", f"num_epochs={EPOCHS}")
    runs.prepare(job_file, *settings)
    with tempfile.TemporaryDirectory(prefix="imageddpo-bench-") as name, counted_service(pathlib.Path(name)) as service:
        counters = {rank: pathlib.Path(name) / str(pid) for rank, pid in service.pids().items()}
        words = [word for setting in settings for word in ("--set", setting)]
        service.client("submit", runs.JOBS / job_file, *words)
        job, = json.loads(service.client("list", "-o", "json").stdout)["jobs"]
        epochs = follow(pathlib.Path(job["output_dir"]) / "timings.jsonl", counters)
    return {rank: of_rank[WARM_UP:-1] for rank, of_rank in epochs.items()}


def read(path):
    return Statistics(*struct.unpack("<3Q", path.read_bytes()))


def follow(timings, counters):
    """Reads the counters again and again until the job's last epoch is done."""
    epochs = {rank: [Epoch(read(path))] for rank, path in counters.items()}
    done, last_epoch = 0, time.monotonic()
    while True:
        lines = timings.read_bytes().count(b"\n") if timings.exists() else 0
        for rank, path in counters.items():
            now = read(path)
            epochs[rank][-1].see(now)
            if done < lines < EPOCHS:
                epochs[rank].append(Epoch(now))
        if lines >= EPOCHS:
            return epochs
        if lines > done:
            done, last_epoch = lines, time.monotonic()
        if time.monotonic() - last_epoch > LONGEST_EPOCH_S:
            raise AssertionError(f"epoch {done + 1} of {EPOCHS} is not done after {LONGEST_EPOCH_S} s")
        time.sleep(READ_EVERY_S)


def growth(values):
    """Growth of a line through the values (Theil and Sen), first to last, as a share of their median."""
    slopes = [(later - earlier) / (j - i) for i, earlier in enumerate(values) for j, later in enumerate(values) if j > i]
    return statistics.median(slopes) * (len(values) - 1) / max(1, statistics.median(values))


def main():
    lines, flat = [machine.describe(), ""], True
    for name, (job_file, *settings) in JOBS.items():
        ranks = profile(job_file, *settings)
        for rank, epochs in sorted(ranks.items()):
            rows = [epoch.row() for epoch in epochs]
            if rows[-1]["allocations"] < FEW_ALLOCATIONS:
                continue  # Idle, or controls alone.
            columns = {column: [row[column] for row in rows] for column in rows[0]}
            lines += [f"{name}, rank {rank}", "", "| epoch | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
            lines += [f"| {WARM_UP + i + 1} | " + " | ".join(f"{column[i]:.0f}" if column[i] >= 1000 else f"{column[i]:.1f}"
                                                           for column in columns.values()) + " |" for i in range(len(epochs))]
            grows = {column: growth(values) for column, values in columns.items()}
            lines += ["| growth | " + " | ".join(f"{grow:+.2%}" for grow in grows.values()) + " |", ""]
            flat = flat and max(grows.values()) <= MOST_GROWTH
        print(f"{name}: measured", file=sys.stderr, flush=True)
    text = "\n".join(lines)
    print(text)
    if len(sys.argv) > 1:
        pathlib.Path(sys.argv[1]).write_text(text + "\n")
    sys.exit(0 if flat else 1)


if __name__ == "__main__":
    main()
