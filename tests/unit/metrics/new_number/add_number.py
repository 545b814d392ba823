#!/usr/bin/env python3
"""Adds the number `entropy` to copies of the sources, in the steps of CONTRIBUTING.md.

add_number.py SOURCE_DIR COPIES_DIR
"""
import pathlib
import re
import sys

# For each file of the table: what is looked for, and what is inserted behind it.
STEPS = {
    "proto/imageddpo/v1/metrics.proto": (
        r"\nmessage EpochMetrics \{\n", "  optional double entropy = 1000;  // Of the policy, in nats.\n"),
    "common/metrics/epoch_metrics.cc": (
        r"\nconst EpochMetric kTable\[\] = \{\n",
        '    {"entropy", Aggregate::kMean, {"imageddpo_job_entropy", Kind::kGauge, "job_id,job_name", "Entropy."}},\n'),
    "trainer/loop/trainer.cc": (
        r"\n  metrics\.set_grad_norm\([^\n]*\);\n", "  metrics.set_entropy(1);\n"),
    "docs/metrics.md": (
        r"\n\| `imageddpo_job_loss`[^\n]*\n", "| `imageddpo_job_entropy` | gauge | `job_id`, `job_name` | Entropy. |\n"),
}


def table(text):
    """The files of CONTRIBUTING.md's table."""
    section = re.search(r"\n## A new number of an epoch\n(.*?)\n## ", text, re.S)
    return re.findall(r"^\| `([^`]+)` \|", section[1], re.M) if section else []


source, copies = map(pathlib.Path, sys.argv[1:3])
named = table((source / "CONTRIBUTING.md").read_text())
if named != list(STEPS):
    sys.exit(f"CONTRIBUTING.md, A new number of an epoch, names {named}; this test changes {list(STEPS)}")
if len(named) > 4:
    sys.exit(f"a new number takes changes in {len(named)} files; at most four are wanted")
for name, (pattern, addition) in STEPS.items():
    text = (source / name).read_text()
    found = re.findall(pattern, text)
    if len(found) != 1:
        sys.exit(f"{name} has {pattern!r} {len(found)} times: change the step in {__file__}")
    copy = copies / name.removeprefix("proto/")
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(text.replace(found[0], found[0] + addition))
