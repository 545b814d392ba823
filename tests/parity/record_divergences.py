"""Computes the divergence of Gaussian steps, the loss with a divergence mask and the term of the base model in plain
Python, by the formulas of docs/algorithm.md and in double precision, for the parity tests. Needs nothing but Python;
the file in tests/data/parity/algorithms is its output.

    python3 tests/parity/record_divergences.py tests/data/parity/algorithms/divergences.json
"""
import json
import math
import random
import struct
import sys


def single(x):
    """The float32 next to x: both sides start from the same numbers."""
    return struct.unpack("f", struct.pack("f", x))[0]


def steps(rng):
    """Means [B, C·H·W] of two policies, deviations [B]; their divergences and the gradients by the first mean."""
    case = dict(shape=[4, 2, 3, 3], mean=[], other=[], sigma=[0.0, 0.01, 0.4, 1.5], kl=[], gradient=[])
    case["sigma"] = [single(s) for s in case["sigma"]]
    for sigma in case["sigma"]:
        mean = [single(rng.gauss(0, 1)) for _ in range(18)]
        other = [single(m + rng.gauss(0, 0.05)) for m in mean]
        differences = [m - o for m, o in zip(mean, other)]
        case["mean"] += mean
        case["other"] += other
        case["kl"].append(sum(d * d for d in differences) / (2 * sigma * sigma) if sigma > 0 else 0.0)
        case["gradient"] += [d / (sigma * sigma) if sigma > 0 else 0.0 for d in differences]
    return case


def loss(rng, age):
    """The masked loss, its gradients by log-probability and by the divergence from the base, and what is masked."""
    n, limit, coef, cap, adv_clip = 48, 0.1, 0.3, 2.0, 1.5
    draw = lambda scale: [single(rng.gauss(0, scale)) for _ in range(n)]
    recorded = draw(1)
    proximal = [single(r + d) for r, d in zip(recorded, draw(0.3))] if age else recorded
    now = [single(p + d) for p, d in zip(proximal, draw(0.1))]
    advantages = draw(1.5)
    kl = [single(limit * (1 + age) ** 2 * rng.choice([0.2, 0.7, 1.3, 4.0])) for _ in range(n)]
    to_base = [single(rng.expovariate(1)) for _ in range(n)]
    kept = [rng.random() > 0.2 for _ in range(n)]
    total, gradient, base_gradient, masked = 0.0, [], [], 0
    for i in range(n):
        a = max(-adv_clip, min(adv_clip, advantages[i]))
        away = now[i] > recorded[i] if a > 0 else a < 0 and now[i] < recorded[i]
        blocked = away and kl[i] > limit * (1 + age) ** 2
        weight = min(math.exp(proximal[i] - recorded[i]), cap)
        value = 0.0 if blocked else -a * weight * math.exp(now[i] - proximal[i])
        masked += blocked
        total += (value + (coef * to_base[i] if kept[i] else 0.0)) / n
        gradient.append(value / n)  # The loss is -A·w·exp(log p - …), its own derivative by log p.
        base_gradient.append(coef / n if kept[i] else 0.0)
    return dict(age=age, kl_limit=limit, kl_coef=coef, staleness_weight_cap=cap, adv_clip_max=adv_clip, log_prob=now,
                recorded=recorded, proximal=proximal, advantages=advantages, kl_to_recorded=kl, kl_to_base=to_base,
                is_kept=kept, loss=total, gradient=gradient, base_gradient=base_gradient, masked=masked / n)


def main():
    rng = random.Random(17)
    cases = dict(steps=steps(rng), losses=[loss(rng, age) for age in (0, 2)])
    with open(sys.argv[1], "w") as file:
        json.dump(cases, file, separators=(",", ":"))


if __name__ == "__main__":
    main()
