"""Parity, NCCL and speed on this machine, within a time limit: see README.md.

Runs gpu_check and nccl_check with this Python's torch libraries, and the original's loop (seed_loop.py) with this
Python. Prints tables and writes gpu-check.json. Ends with 0 where everything that could run passed; a goal that is
missed does not change that, it is printed.
"""
import argparse
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import report
import speed_cases

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DRY_RUN_SECONDS = 0.2  # Of each measurement.


class Runner:
    """Starts programs with the right libraries, and never beyond the time limit."""

    def __init__(self, options):
        self.bin = options.bin
        self.deadline = time.monotonic() + options.seconds
        self.log = open(options.out / "gpu-check.log", "w")
        folders = options.libs.split(":") if options.libs else torch_libraries()
        self.environment = dict(os.environ)
        self.library_path(folders + [os.environ.get("LD_LIBRARY_PATH", "")])

    def library_path(self, folders):
        self.environment["LD_LIBRARY_PATH"] = ":".join(filter(None, folders))

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


def check_nccl(run, device):
    if (run.bin / "nccl_check").exists():
        result = run.program("nccl_check", most_seconds=120)
    else:
        result = {"note": "this is the CPU configuration, which has no NCCL", "exit_code": 2}
    if device == "cpu":
        result["over_threads"] = run.program("gpu_check", "transport", most_seconds=60)
    return result


def measure(run, case, model, device, seconds, with_torch):
    """Ours, then the original's loop, with equal settings."""
    least = "2" if device == "cuda" else "1"
    common = ["--seconds", str(seconds), "--min-epochs", least, *case.arguments()]
    ours = run.program("gpu_check", "--device", device, *(["--tf32"] if case.tf32 else []),
                       "speed", "--model", model, "--update", case.update, *common, most_seconds=150)
    row = {"case": case.name, "ours": ours}
    if not case.with_seed:
        return row
    if with_torch:
        row["seed"] = run.seed("epochs", model, "--device", device, *(["--tf32"] if case.tf32 else []), "--tokens",
                               str(case.tokens), *common, most_seconds=150)
    else:
        row["seed"] = {"failed": "this Python has no torch"}
    return row


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/gpu-check"), help="folder for the results")
    parser.add_argument("--bin", type=pathlib.Path, default=find_bin(), help="folder of gpu_check and nccl_check")
    parser.add_argument("--libs", default="", help="library folders instead of this Python's torch, separated by colons")
    parser.add_argument("--seconds", type=float, default=540, help="the whole command takes no longer")
    parser.add_argument("--dry-run", action="store_true", help="as on a machine without a GPU")
    parser.add_argument("--only", default="parity,nccl,speed", help="some of parity,nccl,speed")
    parser.add_argument("--cases", default="", help="some of the speed cases, by name")
    return parser.parse_args()


def main():
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    run = Runner(options)
    with_torch = importlib.util.find_spec("torch") is not None
    machine = run.seed("describe", most_seconds=120) if with_torch else {"torch": None, "gpu": None}
    if "failed" in machine:
        sys.exit(f"gpu-check: PyTorch does not work here: {machine['failed']}")
    machine["cxx_runtime"] = use_cxx_runtime_if_needed(run)
    dry = options.dry_run or not machine.get("gpu")
    device = "cpu" if dry else "cuda"
    results = {"dry_run": dry, "machine": machine, "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    report.print_head(results)
    wanted = options.only.split(",")
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        work = pathlib.Path(folder)
        cases = speed_cases.dry_run() if dry else speed_cases.on_gpu()
        if options.cases:
            cases = [case for case in cases if case.name in options.cases.split(",")]
        model, why_not = make_model(run, work, dry)
        if "parity" in wanted:
            results["parity"] = check_parity(run, device, model, work, cases[0].size() if cases else [], with_torch)
            report.print_parity(results["parity"])
        if "nccl" in wanted:
            results["nccl"] = check_nccl(run, device)
            report.print_nccl(results["nccl"], dry)
        if "speed" in wanted:
            results["speed"] = []
            for case in cases:
                seconds = DRY_RUN_SECONDS if dry else case.seconds
                row = measure(run, case, model, device, seconds, with_torch) if model else {"case": case.name, "ours": {"failed": why_not}}
                results["speed"].append(report.add_numbers(row))
                report.print_speed_row(row)
            results["goals"] = [] if dry else report.goals(results["speed"])
    results["seconds"] = round(options.seconds - run.seconds_left(), 1)
    results["passed"] = report.passed(results)
    report.print_end(results)
    (options.out / "gpu-check.json").write_text(json.dumps(results, indent=1) + "\n")
    return 0 if results["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
