#!/usr/bin/env python3
"""How far is bf16 from fp32? precision.py LORA.safetensors

One rollout and one update of the demo's model under a LoRA of it, by imageddpo-trace, in both precisions from the same
noise; prints the differences. Needs a Python with torch, numpy and safetensors; the reference environment has them.
"""
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "deploy/demo/tiny-sd"
SAMPLES, STEPS, PIXELS, LATENT = 32, 10, 32, 8
POLICY = ("--model", MODEL, "--num-steps", STEPS, "--guidance-scale", 1, "--eta", 1)


def trace(command, *arguments):
    subprocess.run([ROOT / "build/bin/imageddpo-trace", command, *map(str, arguments)], check=True)


def run(precision, lora, work):
    """(rollout, update) of this precision; the update replays its own rollout, as a job does."""
    sampled, updated = work / f"{precision}.safetensors", work / f"{precision}-update.safetensors"
    common = (*POLICY, "--precision", precision, "--lora", lora, "--inputs", work / "inputs.safetensors")
    trace("rollout", *common, "--noise-strength", 0.5, "--output", sampled)
    trace("update", *common, "--trajectory", sampled, "--train-batch-size", SAMPLES, "--gradient-accumulation-steps", 1,
          "--output", updated, "--output-lora", work / "lora.safetensors")
    return load_file(sampled), load_file(updated)


def relative(half, full):
    return ((half - full).norm() / full.norm()).item()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    generator = torch.Generator().manual_seed(1)
    noise = lambda *lead: torch.randn(*lead, 4, LATENT, LATENT, generator=generator)
    images = torch.nn.functional.interpolate(torch.rand(SAMPLES, 3, 6, 6, generator=generator), size=(PIXELS, PIXELS), mode="bicubic").clamp(0, 1)
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        save_file({"image": images.contiguous(), "encode_noise": noise(SAMPLES), "init_noise": noise(SAMPLES), "step_noise": noise(SAMPLES, STEPS),
                   "advantages": torch.randn(SAMPLES, generator=generator)}, work / "inputs.safetensors")
        (full, full_update), (half, half_update) = (run(precision, sys.argv[1], work) for precision in ("fp32", "bf16"))
    steps = [(half["next_latents"][:, k] - full["next_latents"][:, k]).square().mean().sqrt().item() for k in (0, -1)]
    gradients = [torch.cat([update[key].flatten() for key in sorted(update) if key.startswith("grad.0.")]) for update in (full_update, half_update)]
    levels = 255 * (half["images"] - full["images"]).abs()
    print("| bf16 against fp32 | |\n|---|---|")
    for what, value in (("latents after the first step, root mean square", steps[0]), ("after the last", steps[1]),
                        ("log-probabilities, largest", (half["log_probs"] - full["log_probs"]).abs().max().item()),
                        ("images, mean, of 255 levels", levels.mean().item()), ("images, largest", levels.max().item()),
                        ("gradient, of its norm", relative(gradients[1], gradients[0])),
                        ("1 − cosine of the gradients", 1 - torch.nn.functional.cosine_similarity(*gradients, dim=0).item()),
                        ("approx_kl of bf16's update against its own rollout", half_update["losses"][:, 1].abs().max().item())):
        print(f"| {what} | {value:.2g} |")


if __name__ == "__main__":
    main()
