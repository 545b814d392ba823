"""Computes the formulas of docs/algorithm.md and docs/learning.md that no other package has, for small inputs, in plain
Python and double precision, for the parity tests. Needs nothing but Python; the file in tests/data/parity/algorithms is
its output.

    python3 tests/parity/record_formulas.py tests/data/parity/algorithms/formulas.json
"""
import json
import math
import random
import statistics
import struct
import sys


def single(x):
    """The float32 next to x: both sides start from the same numbers."""
    return struct.unpack("f", struct.pack("f", x))[0]


def normalised(values, epsilon):
    mean, std = statistics.fmean(values), statistics.pstdev(values)
    return [(v - mean) / (std + epsilon) for v in values]


def group_advantage(rewards, groups, i, std_of, leave_one_out):
    mates = [r for r, g in zip(rewards, groups) if g == groups[i]]
    if len(set(mates)) == 1:
        return 0.0
    others = [r for j, (r, g) in enumerate(zip(rewards, groups)) if g == groups[i] and j != i]
    distance = rewards[i] - statistics.fmean(others if leave_one_out else mates)
    if std_of == "none":
        return distance
    return distance / (statistics.pstdev(mates if std_of == "group" else rewards) + 1e-6)


def group(rng):
    """Groups of 4, 3 (one was left out), 4 equal ones, 1 and 4."""
    groups = [0] * 4 + [1] * 3 + [2] * 4 + [5] + [7] * 4
    rewards = [0.1 if g == 2 else single(rng.gauss(10, 3)) for g in groups]
    cases = [dict(std_of=std_of, leave_one_out=leave,
                  advantages=[group_advantage(rewards, groups, i, std_of, leave) for i in range(len(groups))])
             for std_of in ("group", "global", "none") for leave in (False, True)]
    return dict(rewards=rewards, groups=groups, cases=cases)


def per_reward(rng):
    """GDPO: s = Σ w·A, A = (s - mean)/(std + 1e-8); A of each reward by the mode."""
    groups = [i // 3 for i in range(12)]
    terms = [dict(name=name, weight=weight, values=[single(rng.gauss(0, scale)) for _ in groups])
             for name, weight, scale in (("a", 1.0, 1), ("b", -0.25, 50), ("c", 3.0, 0.01))]
    recorded = dict(groups=groups, terms=terms)
    modes = {"global": lambda values: normalised(values, 1e-8),
             "group": lambda values: [group_advantage(values, groups, i, "group", False) for i in range(12)]}
    for mode, advantages in modes.items():
        by_term = [advantages(term["values"]) for term in terms]
        sums = [sum(term["weight"] * a[i] for term, a in zip(terms, by_term)) for i in range(12)]
        recorded[mode] = normalised(sums, 1e-8)
    return recorded


def combination(rng):
    """Three rewards over four epochs: normalised, with a warm-up of 3 epochs, and both."""
    settings = [dict(weight=1.5, normalize=True, warmup=0), dict(weight=-2.0, normalize=False, warmup=3),
                dict(weight=4.0, normalize=True, warmup=2)]
    squares, counts, epochs = [0.0] * 3, [0] * 3, []
    for epoch in range(4):
        values = [[single(rng.gauss(epoch, scale)) for _ in range(8)] for scale in (5, 1, 0.1)]
        rewards = [0.0] * 8
        for t, setting in enumerate(settings):
            squares[t] += sum((v - statistics.fmean(values[t])) ** 2 for v in values[t])
            counts[t] += 8
            spread = math.sqrt(squares[t] / counts[t]) if setting["normalize"] else 1.0
            weight = setting["weight"] * (min(1, epoch / setting["warmup"]) if setting["warmup"] else 1)
            rewards = [r + weight * v / spread for r, v in zip(rewards, values[t])]
        epochs.append(dict(values=values, rewards=rewards))
    return epochs


def learning_rates():
    cases = []
    for kind, peak, warmup, total, least in (("constant", 3e-4, 0, 9, 0), ("constant", 1.0, 5, 12, 0),
                                             ("cosine", 1.0, 0, 12, 0), ("cosine", 0.5, 4, 12, 0.2)):
        rates = []
        for u in range(total):
            if u < warmup:
                rates.append(peak * (u + 1) / warmup)
            elif kind == "constant":
                rates.append(peak)
            else:
                height = (1 + math.cos(math.pi * (u - warmup) / (total - warmup))) / 2
                rates.append(peak * (least + (1 - least) * height))
        cases.append(dict(kind=kind, peak=peak, warmup=warmup, total=total, min_ratio=least, rates=rates))
    return cases


def average(rng):
    """The LoRA after each update, the first being the one that the job starts from, and the averages."""
    decay, warmup = 0.9, 2
    values = [[single(rng.gauss(0, 1)) for _ in range(4)] for _ in range(9)]
    averages = [values[0]]
    for update, lora in enumerate(values[1:], 1):
        old = averages[-1]
        averages.append(lora if update <= warmup else [decay * a + (1 - decay) * v for a, v in zip(old, lora)])
    return dict(decay=decay, warmup=warmup, values=values, averages=averages)


def adamw(rng):
    """Five steps of AdamW whose decay pulls to where it started, in one tensor."""
    rate, beta1, beta2, epsilon, decay, n = 0.02, 0.9, 0.99, 1e-8, 0.3, 6
    start = [single(rng.gauss(0, 1)) for _ in range(n)]
    weights, m, v, gradients, after = list(start), [0.0] * n, [0.0] * n, [], []
    for step in range(1, 6):
        gradient = [single(rng.gauss(0, 1)) for _ in range(n)]
        for i, g in enumerate(gradient):
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g * g
            pull = rate * decay * (weights[i] - start[i])
            weights[i] -= pull + rate * (m[i] / (1 - beta1 ** step)) / (math.sqrt(v[i] / (1 - beta2 ** step)) + epsilon)
        gradients.append(gradient)
        after.append(list(weights))
    return dict(learning_rate=rate, beta1=beta1, beta2=beta2, weight_decay=decay, start=start, gradients=gradients, after=after)


def spikes(rng):
    """Norms with single spikes and a lasting rise; whether each is accepted."""
    zscore = 4.0
    norms = [rng.uniform(1, 2) for _ in range(60)]
    for i in (20, 30, 31):
        norms[i] *= 20
    norms += [rng.uniform(10, 11) for _ in range(20)]
    accepted, taken, in_a_row = [], [], 0
    for norm in norms:
        is_spike = len(taken) >= 16 and norm > statistics.fmean(taken) + zscore * statistics.pstdev(taken)
        if is_spike and in_a_row == 16:
            taken, is_spike = [], False
        in_a_row = in_a_row + 1 if is_spike else 0
        if not is_spike:
            taken.append(norm)
        accepted.append(not is_spike)
    return dict(zscore=zscore, norms=norms, accepted=accepted)


def loss(rng, age, low, high):
    """PPO's loss, of stale samples the decoupled one, with its gradient by log-probability."""
    n, cap, adv_clip = 48, 1.5, 2.0
    advantages = [single(rng.gauss(0, 2)) for _ in range(n)]
    recorded, proximal, now = [], [], []
    total, gradient, above, below = 0.0, [], 0, 0
    while len(now) < n:
        a = max(-adv_clip, min(adv_clip, advantages[len(now)]))
        old = single(rng.gauss(0, 1))
        start = single(old + rng.gauss(0, 0.3)) if age else old
        new = single(start + rng.gauss(0, 0.3))
        b, ratio = math.exp(start - old), math.exp(new - start)
        most = min(1 + high, (1 + (1 + age) * high) / b)
        least = max(1 - low, (1 - (1 + age) * low) / b)
        if min(abs(ratio - bound) for bound in (most, least, 1 + high, 1 - low)) < 1e-4:
            continue  # Rounding decides there.
        bound = min(ratio, most) if a > 0 else max(ratio, least)
        weight = min(b, cap)
        total += weight * max(-a * ratio, -a * bound) / n
        gradient.append(-a * weight * ratio / n if bound == ratio else 0.0)
        above += ratio > 1 + high
        below += ratio < 1 - low
        recorded.append(old), proximal.append(start), now.append(new)
    return dict(age=age, low=low, high=high, staleness_weight_cap=cap, adv_clip_max=adv_clip, log_prob=now,
                recorded=recorded, proximal=proximal, advantages=advantages, loss=total, gradient=gradient,
                clipped_high=above / n, clipped_low=below / n,
                approx_kl=sum((p - q) ** 2 for p, q in zip(now, proximal)) / (2 * n),
                at_sampling=[-max(-adv_clip, min(adv_clip, a)) for a in advantages])


def windows():
    """The first trained step of each epoch, and how many steps a share is."""
    cases = []
    for executed, size, start, stride, every in ((10, 4, 0, 0, 1), (10, 4, 3, 0, 1), (10, 4, 0, 2, 1), (7, 3, 2, 3, 2),
                                                 (5, 5, 0, 1, 1)):
        begins = [(start + stride * (epoch // every)) % (executed - size + 1) for epoch in range(12)]
        cases.append(dict(executed=executed, size=size, start=start, stride=stride, every_epochs=every, begins=begins))
    shares = [dict(executed=k, fraction=f, trained=max(1, math.floor(f * k + 0.5)))
              for k in (1, 5, 8, 20) for f in (0.01, 0.3, 0.5, 0.77, 1.0) if f * k % 1 != 0.5]
    return dict(windows=cases, shares=shares)


def targets(rng):
    """Noisy latents and what the network should predict of them, for Stable Diffusion's noise schedule."""
    timesteps, size = [401, 601, 981], 5
    begin, end = math.sqrt(0.00085), math.sqrt(0.012)
    latents = [[single(rng.gauss(0, 1)) for _ in range(size)] for _ in timesteps]
    noise = [[single(rng.gauss(0, 1)) for _ in range(size)] for _ in timesteps]
    noisy, velocity = [], []
    for t, z, e in zip(timesteps, latents, noise):
        alpha = math.prod(1 - (begin + (end - begin) * s / 999) ** 2 for s in range(t + 1))
        signal, sigma = math.sqrt(alpha), math.sqrt(1 - alpha)
        noisy += [signal * a + sigma * b for a, b in zip(z, e)]
        velocity += [signal * b - sigma * a for a, b in zip(z, e)]
    return dict(timesteps=timesteps, size=size, latents=sum(latents, []), noise=sum(noise, []), noisy=noisy,
                velocity=velocity)


def standard_error(rewards, window):
    steps = [abs(b - a) for a, b in zip(rewards, rewards[1:])]  # An odd number of them: one is in the middle.
    return statistics.median(steps) / (0.6745 * math.sqrt(2)) * math.sqrt(2 / window)


def falls(rng):
    """Rewards that rise and, in most of the cases, fall again; by how much, and where by docs/learning.md's rule."""
    cases = []
    for n, top, depth in ((40, 20, 1.0), (40, 25, 0.7), (64, 30, 0.2), (64, 64, 0.0), (24, 12, 1.5)):
        rewards = [i / top if i <= top else 1 - depth * (i - top) / (n - top) for i in range(n)]
        rewards = [r + rng.gauss(0, 0.02) for r in rewards]
        window = max(2, min(10, n // 4))
        means = [statistics.fmean(rewards[i:i + window]) for i in range(n - window + 1)]
        best, last, first = max(means), means[-1], means[0]
        errors = (best - last) / standard_error(rewards, window)
        case = dict(rewards=rewards, has_fallen=errors > 4 and best - last > (best - first) / 2)
        if case["has_fallen"]:
            halfway = (best + last) / 2
            at = next(i for i in range(means.index(best), len(means)) if means[i] < halfway)
            case.update(first=first, best=best, last=last, errors=errors, epoch=at + window // 2 + 1)
        cases.append(case)
    return cases


def changes(rng):
    """What docs/learning.md calls W, the means of the first and the last W epochs, and the standard error."""
    cases = []
    for n in (8, 22, 38, 100):
        rewards = [0.05 * i + rng.gauss(0, 1) for i in range(n)]
        window = max(2, min(10, n // 4))
        cases.append(dict(rewards=rewards, window=window, first=statistics.fmean(rewards[:window]),
                          last=statistics.fmean(rewards[-window:]), error=standard_error(rewards, window)))
    return cases


def values(rng):
    measured = [rng.gauss(0, 5) for _ in range(20)]
    cases = []
    for offset, scale, clamp in ((0, 1, 0), (1.5, -2, 0), (-1, 0.5, 1.25)):
        limit = clamp or math.inf
        cases.append(dict(offset=offset, scale=scale, clamp=clamp,
                          values=[max(-limit, min(limit, (m - offset) * scale)) for m in measured]))
    return dict(measured=measured, cases=cases)


def main():
    rng = random.Random(29)
    recorded = dict(group=group(rng), per_reward=per_reward(rng), combination=combination(rng),
                    learning_rates=learning_rates(), average=average(rng), spikes=spikes(rng),
                    losses=[loss(rng, age, *clip) for age in (0, 1, 3) for clip in ((0.2, 0.2), (0.1, 0.3))],
                    steps=windows(), targets=targets(rng), changes=changes(rng), values=values(rng), falls=falls(rng), adamw=adamw(rng))
    with open(sys.argv[1], "w") as file:
        json.dump(recorded, file, separators=(",", ":"))


if __name__ == "__main__":
    main()
