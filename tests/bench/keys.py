"""The keys of summary.json: which runs each needs, how it comes from them, and its goal."""
import dataclasses
import math
import statistics
import typing

from runs import epoch_seconds


def summary(values, **more):
    """Median and spread (greatest less least) of a ratio over the rounds."""
    return {"median": statistics.median(values), "spread": max(values) - min(values), "min": min(values), "max": max(values),
            "rounds": len(values), "values": values, **more}


def steps_of(job):
    """Samples of an epoch × executed steps."""
    sample = job["sample"]
    steps = int(sample["num_steps"])
    executed = steps - min(max(int(steps * (1 - sample["noise_strength"])), 0), steps - 1)
    return int(sample["batch_size"]) * int(sample["num_batches_per_epoch"]) * executed


def best_threads(runs, names):
    """The original's run with the thread setting that has the shorter median epoch."""
    present = [name for name in names if name in runs]
    return min(present, key=lambda name: statistics.median(map(epoch_seconds, runs[name])))


def faster(ours, *originals):
    """Epochs of the original over ours."""
    def compute(runs):
        original = best_threads(runs, originals)
        pairs = list(zip(runs[original], runs[ours]))
        return summary([epoch_seconds(theirs) / epoch_seconds(own) for theirs, own in pairs], original=original,
                       original_epoch_seconds=[epoch_seconds(theirs) for theirs, _ in pairs],
                       our_epoch_seconds=[epoch_seconds(own) for _, own in pairs])
    return compute


def images_per_second(base, other):
    """Ratio of two runs of ours: `other` over `base`."""
    def speed(result):
        samples = sum(row["images_per_second"] * row["epoch_seconds"] for row in result["epochs"])
        return samples / sum(row["epoch_seconds"] for row in result["epochs"])

    def compute(runs):
        pairs = [(speed(one), speed(two)) for one, two in zip(runs[base], runs[other])]
        return summary([two / one for one, two in pairs], base_images_per_second=[one for one, _ in pairs],
                       other_images_per_second=[two for _, two in pairs])
    return compute


UNET_GOALS = {"sd15": 0.95, "tiny": 1.0}


def unet_vs_eager(runs):
    """Eager's seconds over ours. The key's own number is the smallest of the four, each over its goal."""
    cases, worst = {}, []
    for model, goal in UNET_GOALS.items():
        for part in ("forward", "forward_backward"):
            pairs = [(theirs[part + "_seconds"], own[part + "_seconds"])
                     for theirs, own in zip(runs["original_unet_" + model], runs["unet_" + model])]
            cases[f"{part}_{model}"] = summary([theirs / own for theirs, own in pairs], goal=goal,
                                               eager_seconds=[theirs for theirs, _ in pairs], our_seconds=[own for _, own in pairs])
    rounds = min(case["rounds"] for case in cases.values())
    worst = [min(case["values"][i] / case["goal"] for case in cases.values()) for i in range(rounds)]
    least = min(case["median"] / case["goal"] for case in cases.values())
    return dict(summary(worst), median=least, cases=cases)


def stream_share(runs):
    shares = [result["epoch_share"] for result in runs["stream"]]
    return summary([share["stream_and_publish_share"] for share in shares],
                   publish_share=[share["publish_share"] for share in shares],
                   epoch={name: shares[0][name] for name in ("samples", "steps", "pixels")})


def stream_bandwidth(runs):
    """Streaming over MPI_Send, for records of one sample; the others are raw numbers."""
    rows = [result["bandwidth"] for result in runs["stream"]]
    return summary([row[0]["ratio"]["median"] for row in rows], by_batch_size=rows)


def peak_memory(runs):
    """Ours over the original's, both precisions where both were measured; the key's number is the larger one."""
    cases = {}
    for precision in ("fp32", "bf16"):
        name = f"sd15_g1_{precision}"
        if name in runs and "original_" + name in runs:
            pairs = [(own["peak_memory_bytes"], theirs["peak_memory_bytes"])
                     for own, theirs in zip(runs[name], runs["original_" + name])]
            cases[precision] = summary([own / theirs for own, theirs in pairs], our_bytes=[own for own, _ in pairs],
                                       original_bytes=[theirs for _, theirs in pairs])
    worst = max(cases.values(), key=lambda case: case["median"])
    return dict({name: worst[name] for name in ("median", "spread", "min", "max", "rounds", "values")}, cases=cases)


def step_share(runs):
    """Of an epoch, all that is neither UNet nor VAE: each step's own work, rewards, the update and its publication."""
    shares, steps_seconds = [], []
    for step, result in zip(runs["step_sd15"], runs["sd15_g1_fp32"]):
        steps = steps_of(result["job"]) / result["job"]["device"]["device_batch_size"]
        epoch = {name: statistics.median(row[name + "_seconds"] for row in result["epochs"]) for name in ("epoch", "sample")}
        steps_seconds.append(steps * step["step_seconds"])
        shares.append((steps_seconds[-1] + epoch["epoch"] - epoch["sample"]) / epoch["epoch"])
    return summary(shares, steps_seconds=steps_seconds)


def first_step_seconds(runs):
    """From the moment a submit was accepted, by the client's clock."""
    return summary([result["first_update_seconds"] for result in runs["first_step"]],
                   loading_seconds=[result["start_seconds"] for result in runs["first_step"]])


def open_seconds(runs):
    """The second time."""
    return summary([result["open_seconds"] for result in runs["open_100k"]])


def open_memory(runs):
    """Of the whole process, which has no model, in the end."""
    return summary([result["resident_bytes"] / 1e6 for result in runs["open_100k"]],
                   before_opening=[result["resident_bytes_before"] / 1e6 for result in runs["open_100k"]])


def scrape_ms(runs):
    rounds = runs["scrape"]
    return summary([result["scrape_milliseconds"] for result in rounds], lines=[result["lines"] for result in rounds])


SCRAPE_INTERVAL_MS = 5000  # Of deploy/prometheus/prometheus.yml.


def observe_overhead(runs):
    """Of rank 0's time: a scrape in each interval, with 64 ranks and 50 jobs, and the recording of an epoch in each of the
    demo's epochs."""
    return summary([scrape["scrape_milliseconds"] / SCRAPE_INTERVAL_MS
                    + scrape["record_milliseconds"] / 1000 / epoch_seconds(tiny)
                    for scrape, tiny in zip(runs["scrape"], runs["tiny_replay"])],
                   record_milliseconds=[scrape["record_milliseconds"] for scrape in runs["scrape"]])


def reward_overlap(runs):
    rounds = runs["reward_overlap"]
    return summary([result["slow_epoch_seconds"] / result["free_epoch_seconds"] for result in rounds],
                   reward_seconds=[result["reward_seconds"] for result in rounds])


def reward_rpc(runs):
    """With the conversion of the pixels, which is ours, and what gRPC, the system and the service do with ready bytes."""
    rounds = runs["reward_call"]
    return summary([result["call_milliseconds"] for result in rounds],
                   convert_milliseconds=[result["convert_milliseconds"] for result in rounds],
                   transport_milliseconds=[result["transport_milliseconds"] for result in rounds])


def device_counters(runs):
    """Of both updates the one that waits more often; what else was counted, for a micro-batch."""
    updates = ("replay", "single_pass")
    rounds = runs["device_counters"]
    counted = {update: [{name: count / result["micro_batches"] for name, count in result[update].items()} for result in rounds]
               for update in updates}
    return summary([max(counted[update][i]["synchronisations"] for update in updates) for i in range(len(rounds))],
                   of_a_micro_batch=counted)


@dataclasses.dataclass
class Key:
    what: str
    runs: tuple
    compute: typing.Callable
    goal: float
    at_most: bool = False

    def reached(self, value):
        return value <= self.goal if self.at_most else value >= self.goal

    def goal_text(self):
        return f"{'≤' if self.at_most else '≥'} {self.goal:g}"


KEYS = {
    "sd15_g1_fp32": Key("epoch of the original / ours, fp32, no guidance", ("original_sd15_g1_fp32", "sd15_g1_fp32"),
                        faster("sd15_g1_fp32", "original_sd15_g1_fp32"), 2.2),
    "sd15_g1_bf16": Key("the same in bf16", ("original_sd15_g1_bf16", "sd15_g1_bf16"),
                        faster("sd15_g1_bf16", "original_sd15_g1_bf16"), 2.2),
    "sd15_g1_bf16_vs_fp32": Key("epoch of the original in fp32 / ours in bf16", ("original_sd15_g1_fp32", "sd15_g1_bf16"),
                                faster("sd15_g1_bf16", "original_sd15_g1_fp32"), 3.8),
    "sd15_g7_fp32": Key("epoch of the original / ours, fp32, guidance 7.5", ("original_sd15_g7_fp32", "sd15_g7_fp32"),
                        faster("sd15_g7_fp32", "original_sd15_g7_fp32"), 1.4),
    "tiny": Key("epoch of the original / ours, the demo's model, one update", ("original_tiny", "original_tiny_1_thread", "tiny"),
                faster("tiny", "original_tiny", "original_tiny_1_thread"), 3),
    "tiny_replay": Key("the same with the demo's 4 updates", ("original_tiny_replay", "original_tiny_replay_1_thread", "tiny_replay"),
                       faster("tiny_replay", "original_tiny_replay", "original_tiny_replay_1_thread"), 2),
    "unet_vs_eager": Key("UNet passes, eager / ours, least over its goal (0.95 SD 1.5, 1 tiny)",
                         ("original_unet_sd15", "unet_sd15", "original_unet_tiny", "unet_tiny"), unet_vs_eager, 1),
    "step_share": Key("all but UNet and VAE / epoch, sd15_g1_fp32", ("step_sd15", "sd15_g1_fp32"), step_share, 0.02, at_most=True),
    "ranks_2_vs_1": Key("images/s, colocated 2 / 1, one thread each", ("ranks_1", "ranks_2"), images_per_second("ranks_1", "ranks_2"), 1.8),
    "run_ahead": Key("images/s, max_staleness 1 / lock-step", ("lock_step", "run_ahead"), images_per_second("lock_step", "run_ahead"), 1.3),
    "stream_share": Key("streaming and publication / epoch", ("stream",), stream_share, 0.02, at_most=True),
    "stream_bandwidth": Key("records of one sample / MPI_Send", ("stream",), stream_bandwidth, 0.6),
    "peak_memory": Key("peak memory, ours / original, sd15_g1",
                       ("original_sd15_g1_fp32", "sd15_g1_fp32", "original_sd15_g1_bf16", "sd15_g1_bf16"), peak_memory, 0.7, at_most=True),
    "first_step_seconds": Key("seconds from an accepted submit to the first update of 32 samples", ("first_step",),
                              first_step_seconds, 1.5, at_most=True),
    "reward_overlap": Key("epoch with a reward that takes 30% of sampling / with one that takes no time", ("reward_overlap",),
                          reward_overlap, 1.05, at_most=True),
    "reward_rpc": Key("milliseconds that a reward service of this host adds to a batch of 8 images of 512 pixels", ("reward_call",),
                      reward_rpc, 3, at_most=True),
    "device_counters": Key("waits of the host for the device in a micro-batch, on a device that stands in for a GPU",
                           ("device_counters",), device_counters, 1, at_most=True),
    "scrape_ms": Key("milliseconds of a scrape of /metrics with 64 ranks and 50 jobs", ("scrape",), scrape_ms, 50, at_most=True),
    "observe_overhead": Key("scrapes and the recording of epochs / rank 0's time", ("scrape", "tiny_replay"), observe_overhead, 0.005,
                            at_most=True),
    "open_100k": Key("seconds to open a folder of 100,000 images, after the first time", ("open_100k",), open_seconds, 10, at_most=True),
    "open_100k_memory": Key("resident MB of a process without a model that has opened it", ("open_100k",), open_memory, 300, at_most=True),
}


def significant(value):
    """A number with three digits, for people to read."""
    return f"{value:.3g}" if value and math.isfinite(value) else f"{value:g}"
