#!/usr/bin/env python3
"""Writes the curves of tests/unit/learning and tests/unit/guards: an epoch a line, as v1.EpochMetrics in JSON, with the size of noise that jobs
like the demo's have (128 samples an epoch, rewards of standard deviation 0.9: 0.08 an epoch).

make_curves.py; writes beside itself. The same bytes at every run.
"""
import json
import math
import pathlib
import random

HERE = pathlib.Path(__file__).parent
SAMPLES, SPREAD = 128, 0.9


def rows(name, rewards, **numbers):
    noise = random.Random(name)
    lines = []
    for epoch, reward in enumerate(rewards):
        spread = numbers.get("spread", SPREAD)
        mean = reward + noise.gauss(0, spread / math.sqrt(SAMPLES))
        row = {"epoch": epoch, "samples_seen": SAMPLES * (epoch + 1), "reward_mean": round(mean, 6),
               "reward_std": round(spread * noise.uniform(0.93, 1.07), 6), "loss": round(noise.gauss(0, 0.02), 6),
               "approx_kl": round(numbers.get("kl", 2e-6) * noise.uniform(0.7, 1.4), 12),
               "clipfrac": round(numbers.get("clipfrac", 0.2) * noise.uniform(0.8, 1.2), 6),
               "grad_norm": round(noise.uniform(0.5, 1.5), 6), "learning_rate": numbers.get("learning_rate", 4e-3)}
        if "part" in numbers:
            row["parts_mean"] = {numbers["part"][0]: round(numbers["part"][1](epoch) + noise.gauss(0, 0.004), 6)}
        if "zero_std_ratio" in numbers:
            row["zero_std_ratio"] = round(numbers["zero_std_ratio"] + noise.uniform(-0.02, 0.02), 6)
        lines.append(json.dumps(row))
    (HERE / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def supervised(name, losses):
    """Of `objective: sft`: nothing is rewarded, and the noise of an epoch's loss is a twentieth of it."""
    noise = random.Random(name)
    lines = []
    for epoch, loss in enumerate(losses):
        value = round(loss * (1 + noise.gauss(0, 0.05)), 6)
        lines.append(json.dumps({"epoch": epoch, "samples_seen": SAMPLES * (epoch + 1), "loss": value, "sft_loss": value,
                                 "grad_norm": round(noise.uniform(0.5, 1.5), 6), "learning_rate": 1e-3}))
    (HERE / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def saturating(epoch, gain=1.2, rate=25):
    return 0.1 + gain * (1 - math.exp(-epoch / rate))


rows("learning", [saturating(e) for e in range(80)])
rows("short", [saturating(e, rate=4) for e in range(9)])
rows("early", [saturating(e) for e in range(6)])
rows("noise", [0.1] * 80)
rows("small_steps", [0.1] * 60, learning_rate=1e-7, clipfrac=0, kl=1e-15)
rows("all_clipped", [0.1] * 60, clipfrac=0.7)
rows("equal_rewards", [0.25] * 40, spread=0)
rows("equal_groups", [0.1] * 40, zero_std_ratio=0.95)
rows("collapsed", [saturating(e) if e < 45 else 1.1 - 0.25 * (e - 44) if e < 52 else -0.9 for e in range(70)],
     clipfrac=0.6, kl=1e-3)
rows("fell", [0.1 - 0.03 * e for e in range(40)])
rows("hacking", [saturating(e, gain=3) for e in range(60)], part=("likeness.value", lambda e: 0.8 - 0.004 * e))
supervised("sft_learning", [0.12 + 0.25 * math.exp(-e / 12) for e in range(70)])
supervised("sft_collapsed", [0.12 + 0.25 * math.exp(-e / 12) + (0.04 * (e - 39) if e >= 40 else 0) for e in range(60)])
