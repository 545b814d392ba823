#!/usr/bin/env python3
"""make bench: ours beside the original on this machine, in turn, and against the goals.

  bench.py [--keys tiny,first_step_seconds] [--rounds N] [--keep] [--runs RUN,...]

Writes out/bench/summary.json, out/bench/report.md and the rounds of each run, out/bench/runs/RUN.json. Runs take turns, so
that a machine that is slow for a while is slow for all. Keys that need the original are left out without
REFERENCE_PYTHON. Ends with 1 where a goal is missed.
"""
import argparse
import json
import os
import sys

sys.dont_write_bytecode = True
import keys as bench_keys  # noqa: E402
import report  # noqa: E402
import runs as bench_runs  # noqa: E402

DEFAULT_ROUNDS = 3


def names(text, known, what):
    chosen = [name for name in text.split(",") if name]
    for name in chosen:
        if name not in known:
            sys.exit(f"bench: there is no {what} {name}; known: {', '.join(known)}")
    return chosen or list(known)


def path_of(run):
    return bench_runs.OUT / "runs" / f"{run}.json"


def rounds_of(run):
    return json.loads(path_of(run).read_text()) if path_of(run).exists() else []


def measure(chosen, rounds, keep):
    """Adds rounds to each run up to their number; returns {run: why it was left out}."""
    left_out = {}
    if not keep:
        for run in chosen:
            path_of(run).unlink(missing_ok=True)
    for number in range(1, rounds + 1):
        for run in chosen:
            done = rounds_of(run)
            if run in left_out or len(done) >= number:
                continue
            print(f"round {number} of {rounds}: {run}", end=" ", flush=True)
            try:
                result = bench_runs.measure(run)
            except bench_runs.Unavailable as reason:
                left_out[run] = str(reason)
                print(f"left out: {reason}", flush=True)
                continue
            print(f"{result['wall_seconds']:.0f} s, others used {result['others_cores']:.2f} cores", flush=True)
            path_of(run).parent.mkdir(parents=True, exist_ok=True)
            path_of(run).write_text(json.dumps([*done, result], indent=1) + "\n")
    return left_out


def summarise(chosen):
    """{key: its numbers} of those whose runs are there."""
    result = {}
    for name in chosen:
        key = bench_keys.KEYS[name]
        measured = {run: rounds for run in key.runs if (rounds := rounds_of(run))}
        try:
            numbers = key.compute(measured)
        except (KeyError, ValueError):  # A run that it cannot do without is missing.
            continue
        result[name] = dict(numbers, what=key.what, goal=key.goal_text(), reached=key.reached(numbers["median"]), runs=list(measured))
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", default=os.environ.get("KEYS", ""), help="default: all; also KEYS")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("BENCH_ROUNDS") or DEFAULT_ROUNDS), help="also BENCH_ROUNDS")
    parser.add_argument("--keep", action="store_true", default=os.environ.get("BENCH_KEEP", "") not in ("", "0"),
                        help="keep the rounds that are there and add what is missing; also BENCH_KEEP=1")
    parser.add_argument("--runs", default="", help="measure just these runs of the keys")
    args = parser.parse_args()
    chosen = names(args.keys, bench_keys.KEYS, "key")
    # Where the original is missing, our side of a comparison is not measured either.
    possible = [key for key in chosen
                if os.environ.get("REFERENCE_PYTHON") or not any(run.startswith("original_") for run in bench_keys.KEYS[key].runs)]
    needed = list(dict.fromkeys(run for key in possible for run in bench_keys.KEYS[key].runs))
    if args.runs:
        needed = names(args.runs, bench_runs.RUNS, "run")
    left_out = measure(needed, args.rounds, args.keep)
    chosen_summary = summarise(possible)
    path = bench_runs.OUT / "summary.json"
    # Keys that were not asked for stay as they were measured.
    whole = {**(json.loads(path.read_text()) if path.exists() else {}), **chosen_summary}
    whole = {name: whole[name] for name in bench_keys.KEYS if name in whole}
    path.write_text(json.dumps(whole, indent=1) + "\n")
    used = {run: rounds_of(run) for key in whole.values() for run in key["runs"]}
    (bench_runs.OUT / "report.md").write_text(report.markdown(whole, used))
    print(report.table(chosen_summary))
    for name in chosen:
        if name not in possible:
            print(f"{name}: left out; needs the original: REFERENCE_PYTHON=<python with it> make bench")
        elif name not in chosen_summary:
            reasons = sorted({left_out.get(run, "not measured") for run in bench_keys.KEYS[name].runs if not rounds_of(run)})
            print(f"{name}: left out; {'; '.join(reasons)}")
    sys.exit(0 if all(key["reached"] for key in chosen_summary.values()) else 1)


if __name__ == "__main__":
    main()
