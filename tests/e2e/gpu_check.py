"""deploy/gpu-check on a machine without a GPU: the dry run checks what it can and says that it is a dry run.

    python3 tests/e2e/gpu_check.py [PYTHON]     PYTHON: one with torch, for the original's loop, too
"""
import array
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ["IMAGEDDPO_BIN_DIR"])


def check(holds, what):
    if not holds:
        sys.exit(f"gpu_check: {what}")


def dry_run(python, folder, *options):
    result = subprocess.run([ROOT / "deploy/gpu-check/run.sh", "--dry-run", "--bin", BIN, "--out", folder, *options], cwd="/",
                            env=dict(os.environ, PYTHON=python), capture_output=True, text=True, timeout=280, check=False)
    return result.returncode, result.stdout + result.stderr, json.loads((folder / "gpu-check.json").read_text())


def damage(path, name):
    """Makes a recorded float32 tensor 1% larger."""
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[:8], "little")
    first, last = json.loads(data[8:8 + size])[name]["data_offsets"]
    values = array.array("f", data[8 + size + first:8 + size + last])
    values = array.array("f", [value * 1.01 for value in values])
    data[8 + size + first:8 + size + last] = values.tobytes()
    path.write_bytes(data)


def check_that_it_can_fail(folder):
    parity = folder / "tests/data/parity"
    shutil.copytree(ROOT / "tests/data/parity", parity)
    damage(parity / "models/sd1/reference.safetensors", "unet.lora_out")
    damage(parity / "algorithms/reference.safetensors", "cosine.1.0.log_prob")
    result = subprocess.run([BIN / "gpu_check", "parity", "--root", folder], capture_output=True, text=True, check=False)
    wrong = [(row["precision"], row["part"]) for row in json.loads(result.stdout)["rows"] if not row["passed"]]
    check(result.returncode == 1 and wrong == [("fp32", "scheduler"), ("fp32", "unet")], f"of two damaged recordings it found {wrong}")
    result = subprocess.run([BIN / "gpu_check", "parity", "--root", "/nowhere"], capture_output=True, text=True, check=False)
    check(result.returncode != 0, "parity without recordings passed")


def check_that_a_kill_leaves_what_is_finished(python, folder):
    process = subprocess.Popen([ROOT / "deploy/gpu-check/run.sh", "--dry-run", "--bin", BIN, "--out", folder, "--only",
                                "determinism,jobs,nccl,speed"], cwd="/", env=dict(os.environ, PYTHON=python), stdout=subprocess.DEVNULL,
                               start_new_session=True)
    file, until = folder / "gpu-check.json", time.monotonic() + 200
    while not (file.exists() and "determinism" in json.loads(file.read_text())["finished"]):
        check(process.poll() is None and time.monotonic() < until, "the first part did not finish")
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    results = json.loads(file.read_text())
    check(results["finished"][0] == "determinism" and not results["complete"] and "passed" not in results,
          f"after a kill: {results['finished']}, complete: {results['complete']}")
    check(results["determinism"][0]["samples_equal_in_another"], "what was finished is not there")


def main():
    python = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    with_torch = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode == 0
    check(with_torch or len(sys.argv) == 1, f"{python} has no torch")
    with tempfile.TemporaryDirectory() as folder:
        code, output, results = dry_run(python, pathlib.Path(folder))
        print(output)
        check(code == 0, f"the dry run ended with {code}")
        check(results["finished"] == ["parity", "determinism", "jobs", "nccl", "speed", "trace", "original"] and results["complete"],
              f"finished: {results['finished']}")
        check(sum(results["limits"].values()) < 9 * 60, "the parts may take more than nine minutes")
        check("nothing was measured on a GPU" in output and results["dry_run"], "it does not say that it was a dry run")
        rows = results["parity"]["rows"]
        for precision in ("fp32", "bf16"):
            parts = {row["part"] for row in rows if row["precision"] == precision}
            check(parts >= {"text_encoder", "vae", "unet", "lora", "rollout", "update"}, f"{precision} has only {parts}")
        check(any(row["part"] == "scheduler" for row in rows) and results["parity"]["failed"] == 0, "parity")
        check((results["parity"]["live"] == "run") == with_torch, f"plain PyTorch: {results['parity']['live']}")
        jobs = results["jobs"]
        check(jobs["complete"] and len(jobs["cases"]) == 5 and jobs["failed"] == 0, f"whole jobs: {jobs}")
        check(results["nccl"]["over_threads"]["passed"] > 0, "no transport was checked")
        check(len(results["speed"]) == 4 and results["goals"] == [], "other speed cases")
        for row in results["speed"]:
            sides = ("ours", "seed") if with_torch and row["case"] in ("bf16-g1", "bf16-g7.5") else ("ours",)
            check(all(row[side].get("images_per_second", 0) > 0 for side in sides), f"no speed in {row}")
            check(row["ours"]["gradient_norm"] > 0, f"no gradient in {row}")
            check(row["ours"]["predicted_bytes"] > 0, f"no memory was predicted in {row}")

        for row in results["determinism"]:  # Kernels of a CPU repeat themselves with either setting.
            equal = [row[name] for name in row if "_equal_" in name]
            check(len(equal) == 4 and all(equal) and row["ratio_max_error"] <= 1e-5, f"other bits: {row}")
        check(results["trace"]["longest"] and 0 < results["trace"]["busy_share"] <= 1, f"trace: {results['trace']}")

        check_that_it_can_fail(pathlib.Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        check_that_a_kill_leaves_what_is_finished(python, pathlib.Path(folder))
    print("gpu_check: passed")


if __name__ == "__main__":
    main()
