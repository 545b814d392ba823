#!/usr/bin/env python3
"""Adds the number `entropy` to copies of the sources, in the steps of CONTRIBUTING.md.

add_number.py SOURCE_DIR COPIES_DIR
"""
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "testing"))
import steps  # noqa: E402

steps.take("A new number of an epoch", {
    "proto/imageddpo/v1/metrics.proto": {
        "message EpochMetrics {\n": "  optional double entropy = 1000;  // Of the policy, in nats.\n"},
    "common/metrics/epoch_metrics.cc": {
        "const EpochMetric kTable[] = {\n":
            '    {"entropy", Aggregate::kMean, {"imageddpo_job_entropy", Kind::kGauge, "job_id,job_name", "Entropy."}},\n'},
    "trainer/loop/trainer.cc": {
        "  metrics.set_epoch(epoch);\n": "  metrics.set_entropy(1);\n"},
    "docs/metrics.md": {
        "Says little by itself. |\n": "| `imageddpo_job_entropy` | gauge | | Entropy. |\n"},
})
