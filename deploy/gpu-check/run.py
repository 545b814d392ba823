"""Parity, equal bits, whole jobs, NCCL, speed and a trace on this machine, within a time limit: see README.md.

Runs gpu_check, jobs_check and nccl_check with this Python's torch libraries, and the original's loop (seed_loop.py) with this
Python. Prints tables, and writes gpu-check.json anew after each part, so that what is finished is there whenever it is
ended. Ends with 0 where everything that could run passed; a goal that is missed does not change that, it is printed.
"""
import argparse
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import report
import speed_cases

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DRY_RUN_SECONDS = 0.2  # Of each measurement.

# In their order, with the most seconds that each may take. What a card has to show first comes first.
MODEL_SECONDS = 40  # Random weights, before the parts.
PARTS = {"parity": 95, "determinism": 75, "jobs": 40, "nccl": 65, "speed": 105, "trace": 25, "original": 90}


class Runner:
    """Starts programs with the right libraries, and never beyond the time limit."""

    def __init__(self, options):
        self.bin = options.bin
        self.started = time.monotonic()
        self.last_deadline = self.started + options.seconds
        self.deadline = self.last_deadline
        self.log = open(options.out / "gpu-check.log", "w")
        folders = options.libs.split(":") if options.libs else torch_libraries()
        self.environment = dict(os.environ)
        self.library_path(folders + [os.environ.get("LD_LIBRARY_PATH", "")])

    def library_path(self, folders):
        self.environment["LD_LIBRARY_PATH"] = ":".join(filter(None, folders))

    def limit(self, seconds):
        """What is started from now on ends within this time, and that of the whole command."""
        self.deadline = min(self.last_deadline, time.monotonic() + seconds)

    def seconds_left(self):
        return self.deadline - time.monotonic()

    def __call__(self, command, most_seconds=None):
        """(exit code, output); code None: there was no time, or it ran out. Our programs get torch's libraries."""
        environment = None if command[0] == sys.executable else self.environment
        limit = min(most_seconds or 600, self.seconds_left())
        if limit < 5:
            return None, "no time was left"
        self.log.write(f"$ {' '.join(map(str, command))}\n")
        try:
            result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            return None, f"was not done after {limit:.0f} s"
        except OSError as error:
            return 127, str(error)
        self.log.write(f"{result.stdout}{result.stderr}[ended with {result.returncode}]\n")
        self.log.flush()
        return result.returncode, result.stdout if result.returncode == 0 else f"{result.stderr.strip()}\n{result.stdout}".strip()

    def json(self, command, most_seconds=None):
        """What a command prints as JSON, or {"failed": why}."""
        code, output = self(command, most_seconds)
        if code is None:
            return {"failed": output}
        try:
            return dict(json.loads(output[output.index("{"):]), exit_code=code)
        except ValueError:
            return {"failed": f"ended with {code}: {output[-800:]}"}

    def program(self, name, *arguments, **limits):
        return self.json([self.bin / name, *arguments], **limits)

    def seed(self, *arguments, **limits):
        return self.json([sys.executable, "-B", HERE / "seed_loop.py", *arguments], **limits)


def torch_libraries():
    """The folders of this Python's torch and of the wheels that come with it."""
    spec = importlib.util.find_spec("torch")
    if spec is None:
        return []
    torch = pathlib.Path(spec.origin).parent
    return [str(torch / "lib"), *sorted(map(str, torch.parent.glob("nvidia/*/lib")))]


def use_cxx_runtime_if_needed(run):
    """A machine with an older C++ runtime than the programs were built with takes the bundle's."""
    code, output = run([run.bin / "gpu_check", "--help"])
    if code == 0:
        return "the machine's"
    if (ROOT / "lib-c++").is_dir() and "GLIBCXX" in output:
        run.library_path([str(ROOT / "lib-c++"), run.environment["LD_LIBRARY_PATH"]])
        if run([run.bin / "gpu_check", "--help"])[0] == 0:
            return "the bundle's"
    sys.exit(f"gpu-check: {run.bin}/gpu_check does not start here: {output}")


def find_bin():
    for folder in ("bin", "build-cuda/bin", "build/bin"):
        if (ROOT / folder / "gpu_check").exists():
            return ROOT / folder
    return ROOT / "bin"


def tiny_model(folder):
    """The recorded SD 1 shape with a scheduler, for a dry run."""
    folder.mkdir()
    for part in ("unet", "vae", "text_encoder"):
        (folder / part).symlink_to(ROOT / "tests/data/parity/models/sd1" / part)
    (folder / "scheduler").symlink_to(ROOT / "deploy/demo/tiny-sd/scheduler")
    return folder


def make_model(run, work, dry):
    """The folder whose speed is measured, or why there is none."""
    if dry:
        return tiny_model(work / "model"), None
    started = time.monotonic()
    code, output = run([sys.executable, "-B", HERE / "random_model.py", work / "model"], most_seconds=120)
    print(f"random weights at SD 1.5's size: {time.monotonic() - started:.0f} s", flush=True)
    return (work / "model", None) if code == 0 else (None, f"random_model.py: {output[-400:]}")


def check_parity(run, device, model, work, size, with_torch):
    """Against the recordings; and, with the model whose speed is measured, against plain PyTorch on this device."""
    cases = []
    live = None
    if with_torch and model:
        live = run.seed("reference", model, work / "live", "--device", device, *size, most_seconds=120)
        if "failed" not in live:
            cases = ["--case", work / "live"]
    file = work / "parity.json"
    code, output = run([run.bin / "gpu_check", "--device", device, "--json", file, "parity", "--root", ROOT, *cases], most_seconds=180)
    parity = json.loads(file.read_text()) if file.exists() else {"failed": f"ended with {code}: {output[-800:]}"}
    parity["live"] = "not run: this Python has no torch" if live is None else live.get("failed", "run")
    return parity


def check_determinism(run, device, case, model):
    """The same epoch twice in a process and once in another one, with device.deterministic and without."""
    rows = []
    for flag in ("--deterministic", "--nondeterministic"):
        command = ["--device", device, flag, "repeat", "--model", model, "--update", case.update, *case.arguments()]
        first, second = run.program("gpu_check", *command), run.program("gpu_check", *command, "--times", "1")
        row = {"deterministic": flag == "--deterministic"}
        failed = [result["failed"] for result in (first, second) if "failed" in result]
        if failed:
            rows.append(dict(row, failed=failed[0]))
            continue
        rows.append(dict(
            row, ratio_max_error=first["ratio_max_error"],
            **{f"{what}_equal_in_a_process": len(set(first[what])) == 1 for what in ("samples", "gradients")},
            **{f"{what}_equal_in_another": first[what][0] == second[what][0] for what in ("samples", "gradients")}))
    return rows


def check_jobs(run, device, work):
    """Whole jobs of the demo's model. What it had finished when its time ran out is there."""
    file = work / "jobs.json"
    code, output = run([run.bin / "jobs_check", "--device", device, "--root", ROOT, "--json", file])
    jobs = json.loads(file.read_text()) if file.exists() else {"cases": [], "complete": False}
    jobs["exit_code"] = code
    if not jobs["complete"]:
        jobs["why"] = output[-800:] if code is None else f"ended with {code}: {output[-800:]}"
    return jobs


def check_nccl(run, device):
    """One rank for each GPU; on GPUs also two and four processes that share them, as if each had
    a host of its own, and two of which one is killed."""
    if (run.bin / "nccl_check").exists():
        result = run.program("nccl_check", most_seconds=30)
        if device != "cpu":
            result["sharing"] = {ranks: run.program("nccl_check", "--processes", "--share-gpus", "--ranks", str(ranks), "--timeout-seconds",
                                                    "20", most_seconds=25) for ranks in (2, 4)}
            result["kill"] = run.program("nccl_check", "--kill", "--timeout-seconds", "40", most_seconds=45)
    else:
        result = {"note": "this is the CPU configuration, which has no NCCL", "exit_code": 2}
    if device == "cpu":
        result["over_threads"] = run.program("gpu_check", "transport")
    return result


def trace(run, device, case, model, out):
    """One micro-batch under PyTorch's profiler; the trace itself stays in the folder of the results."""
    file = out / "trace.json"
    file.unlink(missing_ok=True)
    result = run.program("gpu_check", "--device", device, "repeat", "--model", model, "--update", case.update, *case.arguments(),
                         "--times", "1", "--trace", file)
    if "failed" in result or not file.exists():
        return {"failed": result.get("failed", "no trace was written")}
    return report.sum_up_trace(json.loads(file.read_text()), kernels=device == "cuda")


def common_arguments(case, device, dry):
    seconds = DRY_RUN_SECONDS if dry else case.seconds
    return ["--seconds", str(seconds), "--min-epochs", "2" if device == "cuda" else "1", *case.arguments()]


def measure(run, case, model, device, dry):
    """Ours."""
    return {"case": case.name,
            "ours": run.program("gpu_check", "--device", device, *(["--tf32"] if case.tf32 else []), "speed", "--model", model, "--update",
                                case.update, *(["--fused-kernels"] if case.fused else []), *common_arguments(case, device, dry))}


def measure_original(run, case, model, device, dry, with_torch):
    """The original's loop, with the settings of ours."""
    if not with_torch:
        return {"failed": "this Python has no torch"}
    return run.seed("epochs", model, "--device", device, *(["--tf32"] if case.tf32 else []), "--tokens", str(case.tokens),
                    *common_arguments(case, device, dry))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/gpu-check"), help="folder for the results")
    parser.add_argument("--bin", type=pathlib.Path, default=find_bin(), help="folder of gpu_check, jobs_check and nccl_check")
    parser.add_argument("--libs", default="", help="library folders instead of this Python's torch, separated by colons")
    parser.add_argument("--seconds", type=float, default=540, help="the whole command takes no longer")
    parser.add_argument("--dry-run", action="store_true", help="as on a machine without a GPU")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--cases", default="", help="some of the speed cases, by name")
    return parser.parse_args()


class Results:
    """gpu-check.json, written anew after each part."""

    def __init__(self, file, values):
        self.file = file
        self.values = dict(values, finished=[], complete=False)

    def save(self):
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(self.values, indent=1) + "\n")
        partial.replace(self.file)

    def finish(self, part):
        self.values["finished"].append(part)
        self.save()


def run_parts(run, options, results, cases, model, why_not, with_torch):
    """Each part within its time, in the order of PARTS."""
    values = results.values
    dry = values["dry_run"]
    device = "cpu" if dry else "cuda"
    rows = {}

    def parity():
        values["parity"] = check_parity(run, device, model, options.work, cases[0].size() if cases else [], with_torch)
        report.print_parity(values["parity"])

    def determinism():
        values["determinism"] = (check_determinism(run, device, speed_cases.repeated(dry), model) if model else
                                 [{"deterministic": True, "failed": why_not}])
        report.print_determinism(values["determinism"])

    def jobs():
        values["jobs"] = check_jobs(run, device, options.work)
        report.print_jobs(values["jobs"])

    def nccl():
        values["nccl"] = check_nccl(run, device)
        report.print_nccl(values["nccl"], dry)

    def speed():
        values["speed"] = []
        for case in cases:
            row = measure(run, case, model, device, dry) if model else {"case": case.name, "ours": {"failed": why_not}}
            rows[case.name] = row
            values["speed"].append(report.add_numbers(row))
            report.print_speed_row(row)
            results.save()

    def trace_step():
        values["trace"] = trace(run, device, speed_cases.traced(dry), model, options.out) if model else {"failed": why_not}
        report.print_trace(values["trace"])

    def original():
        for case in cases:
            if case.with_seed and case.name in rows:
                rows[case.name]["seed"] = measure_original(run, case, model, device, dry, with_torch) if model else {"failed": why_not}
                report.add_numbers(rows[case.name])
                report.print_original_row(rows[case.name])
                results.save()
        values["goals"] = [] if dry else report.goals(values.get("speed", []))

    functions = dict(zip(PARTS, (parity, determinism, jobs, nccl, speed, trace_step, original)))
    for part, seconds in PARTS.items():
        if part in options.only.split(","):
            run.limit(seconds)
            functions[part]()
            results.finish(part)


def main():
    # As any other end: what was started ends too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    options = parse()
    unknown = set(options.only.split(",")) - set(PARTS)
    if unknown:
        sys.exit(f"gpu-check: --only {options.only}: there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    run = Runner(options)
    with_torch = importlib.util.find_spec("torch") is not None
    machine = run.seed("describe", most_seconds=120) if with_torch else {"torch": None, "gpu": None}
    if "failed" in machine:
        sys.exit(f"gpu-check: PyTorch does not work here: {machine['failed']}")
    machine["cxx_runtime"] = use_cxx_runtime_if_needed(run)
    dry = options.dry_run or not machine.get("gpu")
    results = Results(options.out / "gpu-check.json", {"dry_run": dry, "machine": machine, "limits": dict(model=MODEL_SECONDS, **PARTS),
                                                       "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
    report.print_head(results.values)
    results.save()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        options.work = pathlib.Path(folder)
        cases = speed_cases.dry_run() if dry else speed_cases.on_gpu()
        if options.cases:
            cases = [case for case in cases if case.name in options.cases.split(",")]
        run.limit(MODEL_SECONDS)
        model, why_not = make_model(run, options.work, dry)
        run_parts(run, options, results, cases, model, why_not, with_torch)
    values = results.values
    values["seconds"] = round(time.monotonic() - run.started, 1)
    values["passed"] = report.passed(values)
    values["complete"] = True
    report.print_end(values)
    results.save()
    return 0 if values["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
