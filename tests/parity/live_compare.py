"""Holds imageddpo-trace against the original Python implementation, tensor by tensor, over models, guidance scales, etas
and noise strengths. Prints the largest errors and exits 1 where one exceeds its bound.

    python tests/parity/live_compare.py --trace build/bin/imageddpo-trace [--models sd1,sd2,sd15] [--quick] [--seed N]
"""
import argparse
import itertools
import pathlib
import subprocess
import sys
import tempfile

from reference_pipeline import MODELS, Reference, make_inputs, make_model, reference_advantages  # First: sets up.

import torch
from safetensors.torch import load_file, save_file

NUM_STEPS, BATCH = 10, 4
PROMPT = "a photo of a cat, it's 100% détaillé!"
BOUNDS = dict(tokens=0, timesteps=0, embeddings=2e-5, latents=2e-5, images=2e-5, log_probs=1e-4, loss=1e-5, approx_kl=5e-2,
              clipfrac=1e-6, gradients=1e-3, grad_norm=1e-2, lora=1e-4, advantages=1e-5)


class Report:
    def __init__(self):
        self.worst, self.failures = {}, 0

    def add(self, case, errors):
        for name, error in errors.items():
            self.worst[name] = max(self.worst.get(name, 0.0), error)
            if not error <= BOUNDS[name]:
                self.failures += 1
                print(f"FAILED {case}: {name} is off by {error:.2e}, allowed {BOUNDS[name]:.0e}")
        print(f"{case:58s}" + "  ".join(f"{name} {error:.1e}" for name, error in errors.items()), flush=True)


def distance(ours, theirs):
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return float("inf")
    error = (ours.double() - theirs.double()).abs().max().item()
    return error if error == error else float("inf")


def trace(program, *args):
    result = subprocess.run([program, *map(str, args)], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"imageddpo-trace {' '.join(map(str, args))}\nended with {result.returncode}: {result.stderr}")


def compare_rollout(ours, theirs):
    return dict(tokens=distance(ours["prompt_ids"], theirs["prompt_ids"]),
                timesteps=distance(ours["timesteps"], theirs["timesteps"]),
                embeddings=max(distance(ours[k], theirs[k]) for k in ("prompt_embeds", "negative_prompt_embeds")),
                latents=max(distance(ours[k], theirs[k]) for k in ("latents", "next_latents")),
                images=distance(ours["images"], theirs["images"]), log_probs=distance(ours["log_probs"], theirs["log_probs"]))


def compare_update(ours, theirs, lora, lora_after):
    if ours.keys() != theirs.keys():
        sys.exit(f"tensors differ: {sorted(ours.keys() ^ theirs.keys())}")
    losses, expected = ours["losses"].double(), theirs["losses"].double()
    scale = expected.abs().clamp_min(1e-3)
    gradients = max(((ours[k] - theirs[k]).norm() / theirs[k].norm().clamp_min(1e-12)).item() for k in theirs if k.startswith("grad."))
    relative = (losses - expected).abs()
    return dict(loss=(relative / scale)[:, 0].max().item(), approx_kl=(relative[:, 1] / expected[:, 1].clamp_min(1e-7)).max().item(),
                clipfrac=relative[:, 2].max().item(), gradients=gradients,
                grad_norm=((ours["grad_norm"] - theirs["grad_norm"]).abs() / theirs["grad_norm"].clamp_min(1e-12)).max().item(),
                lora=max(distance(lora[k], lora_after[k]) for k in lora_after))


def compare_model(name, args, work, report):
    folder = work / name
    make_model(name, folder, args.seed)
    reference = Reference(folder, NUM_STEPS, work)
    strengths = (0.05, 0.5) if args.quick else (0.05, 0.3, 0.5, 0.7, 1.0)
    cases = list(itertools.product(((1.0, "", 0.0), (7.5, PROMPT, 0.0)), (1.0, 0.5), strengths)) + [((7.5, PROMPT, 0.7), 1.0, 0.5)]
    files = {key: work / f"{name}-{key}.safetensors" for key in ("lora", "lora_after", "inputs", "theirs", "ours", "update", "lora_ours")}
    for index, ((guidance, prompt, rescale), eta, strength) in enumerate(cases):
        inputs = make_inputs(folder, BATCH, NUM_STEPS, args.seed + index)
        save_file(inputs, files["inputs"])
        reference.randomise_lora(args.seed + index)
        reference.save_lora(files["lora"])
        theirs = reference.rollout(inputs, prompt, guidance, eta, strength, rescale)
        save_file(theirs, files["theirs"])
        common = ["--model", folder, "--lora", files["lora"], "--inputs", files["inputs"], "--num-steps", NUM_STEPS,
                  "--guidance-scale", guidance, "--guidance-rescale", rescale, "--eta", eta]
        trace(args.trace, "rollout", *common, "--noise-strength", strength, "--prompt", prompt, "--output", files["ours"])
        case = f"{name} guidance {guidance} rescale {rescale} eta {eta} strength {strength}"
        report.add(case, compare_rollout(load_file(files["ours"]), theirs))
        if rescale:
            continue  # The original's update forgets the rescale.
        max_norm = (1.0, 0.02)[index % 2]
        accumulation, inner = ((1, 2), (2, 3))[index // 2 % 2]  # 4 or 3 updates.
        updated = reference.update(inputs, theirs, guidance, eta, 2, accumulation, inner, max_norm)
        reference.save_lora(files["lora_after"])
        trace(args.trace, "update", *common, "--trajectory", files["theirs"], "--train-batch-size", 2,
              "--gradient-accumulation-steps", accumulation, "--num-inner-epochs", inner, "--max-grad-norm", max_norm,
              "--learning-rate", 3e-4, "--output-lora", files["lora_ours"], "--output", files["update"])
        report.add(f"{case} max norm {max_norm}", compare_update(load_file(files["update"]), updated, load_file(files["lora_ours"]),
                                                                 load_file(files["lora_after"])))


def compare_advantages(args, work, report):
    generator = torch.Generator().manual_seed(args.seed)
    rewards = 3 * torch.randn(6, 32, generator=generator) + 5
    ids = torch.randint(0, 5, (6, 32), generator=generator)
    ids[:, 0] = 99  # Stays below the minimum count.
    save_file(dict(rewards=rewards, ids=ids), work / "rewards.safetensors")
    for mode in ("global", "per_key"):
        trace(args.trace, "advantages", "--mode", mode, "--inputs", work / "rewards.safetensors", "--output", work / "advantages.safetensors")
        ours = load_file(work / "advantages.safetensors")["advantages"]
        report.add(f"advantages {mode}", dict(advantages=distance(ours, reference_advantages(rewards, ids, mode == "per_key"))))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", required=True, type=lambda p: str(pathlib.Path(p).resolve()))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--quick", action="store_true", help="two noise strengths instead of five")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(2)  # As imageddpo-trace by default: the last bits depend on it.
    report = Report()
    with tempfile.TemporaryDirectory() as work:
        compare_advantages(args, pathlib.Path(work), report)
        for name in args.models.split(","):
            compare_model(name, args, pathlib.Path(work), report)
    print("\nLargest errors")
    for name, error in report.worst.items():
        print(f"  {name:12s} {error:.1e}  (allowed {BOUNDS[name]:.0e})")
    sys.exit(1 if report.failures else 0)


if __name__ == "__main__":
    main()
