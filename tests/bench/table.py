#!/usr/bin/env python3
"""Prints the results of make bench against the goals: table.py OUT_FOLDER. Ends with 1 where one is missed."""
import json
import pathlib
import sys

folder = pathlib.Path(sys.argv[1])
stream = json.loads((folder / "stream.json").read_text())
service = json.loads((folder / "service.json").read_text())
rows = []
for row in stream["bandwidth"]:
    rows.append((f"records of {row['batch_size']} samples ({row['record_bytes'] / 1e6:.1f} MB) / MPI_Send",
                 row["ratio"], lambda value: value >= 0.6, "at least 0.60"))
share = stream["epoch_share"]
for key, what, goal in (("publish_share", "publication / epoch", 0.01),
                        ("stream_and_publish_share", "streaming + publication / epoch", 0.02)):
    rows.append((f"{what} ({share['samples']} samples, {share['pixels']} px)",
                 {"median": share[key], "min": share[key], "max": share[key]},
                 lambda value, goal=goal: value <= goal, f"at most {goal:.2f}"))
rows.append(("max_staleness 1 / lock-step, images/s", service["overlap"]["ratio"], lambda value: value >= 1.3, "at least 1.30"))
rows.append(("colocated 2 / 1 rank, images/s", service["colocated"]["ratio"], lambda value: value >= 1.8, "at least 1.80"))

missed = 0
print(f"{'':55} {'median':>9} {'least':>9} {'greatest':>9}   goal")
for name, values, reached, goal in rows:
    missed += not reached(values["median"])
    verdict = "" if reached(values["median"]) else "   MISSED"
    print(f"{name:55} {values['median']:9.4f} {values['min']:9.4f} {values['max']:9.4f}   {goal}{verdict}")
sys.exit(1 if missed else 0)
