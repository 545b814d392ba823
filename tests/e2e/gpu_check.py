"""deploy/gpu-check on a machine without a GPU: the dry run does what it can and says what it is.

    python3 tests/e2e/gpu_check.py [PYTHON]     PYTHON: one with torch, for the original's loop, too
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ["IMAGEDDPO_BIN_DIR"])


def check(holds, what):
    if not holds:
        sys.exit(f"gpu_check: {what}")


def dry_run(python, folder, *options):
    result = subprocess.run([ROOT / "deploy/gpu-check/run.sh", "--dry-run", "--bin", BIN, "--out", folder, *options], cwd="/",
                            env=dict(os.environ, PYTHON=python), capture_output=True, text=True, timeout=280, check=False)
    return result.returncode, result.stdout + result.stderr, json.loads((folder / "gpu-check.json").read_text())


def main():
    python = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    with_torch = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode == 0
    check(with_torch or len(sys.argv) == 1, f"{python} has no torch")
    with tempfile.TemporaryDirectory() as folder:
        code, output, results = dry_run(python, pathlib.Path(folder))
        print(output)
        check(code == 0, f"the dry run ended with {code}")
        check("nothing was measured on a GPU" in output and results["dry_run"], "it does not say that it was a dry run")
        rows = results["parity"]["rows"]
        for precision in ("fp32", "bf16"):
            parts = {row["part"] for row in rows if row["precision"] == precision}
            check(parts >= {"text_encoder", "vae", "unet", "lora", "rollout", "update"}, f"{precision} has only {parts}")
        check(any(row["part"] == "scheduler" for row in rows) and results["parity"]["failed"] == 0, "parity")
        check((results["parity"]["live"] == "run") == with_torch, f"plain PyTorch: {results['parity']['live']}")
        check(results["nccl"]["over_threads"]["passed"] > 0, "no transport was checked")
        check(len(results["speed"]) == 4 and results["goals"] == [], "other speed cases")
        for row in results["speed"]:
            sides = ("ours", "seed") if with_torch else ("ours",)
            check(all(row[side].get("images_per_second", 0) > 0 for side in sides), f"no speed in {row}")
            check(row["ours"]["gradient_norm"] > 0, f"no gradient in {row}")

        # It can fail.
        broken = subprocess.run([BIN / "gpu_check", "parity", "--root", folder], capture_output=True, text=True, check=False)
        check(broken.returncode != 0, "parity without recordings passed")
    print("gpu_check: passed")


if __name__ == "__main__":
    main()
