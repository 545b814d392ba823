"""Prints the results of make bench, and writes them as a report in one fixed form."""
import statistics
import time

import machine
from keys import significant, steps_of
from runs import epoch_seconds

GIGA = 1e9


def table(summary):
    lines = [f"{'':22} {'median':>9} {'spread':>9} {'goal':>8}"]
    for name, key in summary.items():
        verdict = "" if key["reached"] else "  MISSED"
        lines.append(f"{name:22} {significant(key['median']):>9} {significant(key['spread']):>9} {key['goal']:>8}{verdict}")
    return "\n".join(lines)


def rows_to_markdown(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def keys_section(summary):
    rows = [(f"`{name}`", key["what"], significant(key["median"]), significant(key["spread"]), key["rounds"], key["goal"],
             "reached" if key["reached"] else "**missed**") for name, key in summary.items()]
    return rows_to_markdown(("key", "what", "median", "spread", "rounds", "goal", ""), rows)


def units_of_step(job, original):
    """Passes of the UNet that a sample's step costs; a backward pass counts as one."""
    guided = job["sample"]["guidance_scale"] > 1
    if original:  # train_cfg: two branches in the update, whatever the guidance.
        return (2 if guided else 1) + 4
    return (2 if job["train"]["update"] == "single_pass" else 3) * (2 if guided else 1)


def epochs_section(runs):
    """Epochs of both sides, with the work in them."""
    rows = []
    for name, rounds in runs.items():
        if "epochs" not in rounds[0]:
            continue
        ours = name.removeprefix("original_").removesuffix("_1_thread")
        if ours not in runs or "job" not in runs[ours][0]:
            continue
        job, first = runs[ours][0]["job"], runs[ours][0]["epochs"][0]
        original = name.startswith("original_")
        units = units_of_step(job, original) * steps_of(job)
        seconds = statistics.median(map(epoch_seconds, rounds))
        product = statistics.median(result["matrix_product_gflops"] for result in rounds)
        # Of the passes alone, so that both sides are counted alike; VAE and rewards are in the seconds only.
        flops = units * first["unet_pass_flops"] / seconds / GIGA if "unet_pass_flops" in first else 0
        mfu = [row["mfu"] for result in rounds for row in result["epochs"] if "mfu" in row]
        rows.append((f"`{name}`", f"{seconds:.3g}", units, f"{flops:.1f}" if flops else "", f"{product:.1f}",
                     f"{statistics.median(mfu):.2f}" if mfu else "",
                     f"{max(result['peak_memory_bytes'] for result in rounds) / GIGA:.2f}",
                     f"{statistics.median(result['start_seconds'] for result in rounds):.2f}",
                     f"{statistics.median(result['others_cores'] for result in rounds):.2f}"))
    head = ("run", "epoch, s", "UNet passes", "GFLOP/s of passes", "matrix product, GFLOP/s", "MFU", "peak memory, GB", "start, s",
            "others, cores")
    return rows_to_markdown(head, rows) if rows else ""


def unet_section(summary):
    cases = summary.get("unet_vs_eager", {}).get("cases", {})
    rows = [(name.replace("_", " "), f"{statistics.median(case['eager_seconds']):.4g}", f"{statistics.median(case['our_seconds']):.4g}",
             significant(case["median"]), significant(case["spread"]), f"≥ {case['goal']:g}") for name, case in cases.items()]
    return rows_to_markdown(("UNet", "eager, s", "ours, s", "eager / ours", "spread", "goal"), rows) if rows else ""


def stages_section(runs):
    """Where our epochs spend their time."""
    rows = []
    for name, rounds in runs.items():
        if "job" not in rounds[0]:
            continue
        epochs = [row for result in rounds for row in result["epochs"]]
        mean = {stage: statistics.mean(row[stage + "_seconds"] for row in epochs) for stage in ("sample", "reward", "train", "publish", "epoch")}
        rows.append((f"`{name}`", *(f"{mean[stage]:.4g}" for stage in mean)))
    return rows_to_markdown(("ours", "sample, s", "reward, s", "train, s", "publish, s", "epoch, s"), rows) if rows else ""


def markdown(summary, runs):
    start = [result["measured_at"] for rounds in runs.values() for result in rounds]
    parts = ["# make bench", f"{machine.describe()}. Measured {min(start, default='')} to {max(start, default='')}; written "
             f"{time.strftime('%Y-%m-%d', time.gmtime())}. Ratios are medians over rounds in which both sides took turns; spread is greatest "
             "less least.", "## Keys", keys_section(summary)]
    for title, text, note in (
            ("Epochs", epochs_section(runs), "UNet passes of an epoch: forward 1, backward 1, for each sample, step and branch of the guidance. "
             "Start: of ours from the accepted submit until the model is loaded, of the original imports and loading. Others: "
             "cores that other programs kept busy."),
            ("UNet", unet_section(summary), ""), ("Stages of our epochs", stages_section(runs), "Of colocated ranks. In a single pass the backward is in `sample`.")):
        if text:
            parts += [f"## {title}", text] + ([note] if note else [])
    return "\n\n".join(parts) + "\n"
