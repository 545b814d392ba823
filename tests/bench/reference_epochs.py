"""Epochs of the original Python implementation (imageddpo 0.1.2 on TRL and diffusers) under one of our job files.

    python reference_epochs.py JOB.yaml OUTPUT.json [--epochs N] [--threads T] [--short-warm-up]

JOB.yaml has every default filled in (`imageddpo validate FILE -o yaml`). Settings without a twin are the original's own:
train_cfg is on, and its noise comes from torch's generator. A first epoch warms up and is not counted;
with --short-warm-up it runs a single step of each trajectory. Images are read beforehand, and what a
classifier says about the input is known beforehand: neither costs the original time.
"""
import argparse
import io
import itertools
import json
import os
import pathlib
import sys
import tempfile
import time

STARTED = time.monotonic()
sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "parity"))
import reference_pipeline  # noqa: E402,F401  (sets up the environment before torch)

import numpy as np  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402
from PIL import Image  # noqa: E402

PRECISIONS = {"fp32": "no", "bf16": "bf16"}


def load_images(folder, pixels):
    """(image [3,H,W] in [0,1], prompt, label) of each line of metadata.jsonl."""
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for row in rows:
        image = Image.open(folder / row["file_name"]).convert("RGB").resize((pixels, pixels), Image.BICUBIC)
        yield torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255, row.get("text", ""), row.get("label", 0)


def logit_of_label(classifier, images, labels):
    with torch.no_grad():
        return classifier(images).gather(1, torch.as_tensor(labels)[:, None])[:, 0]


def make_reward(spec):
    """A function from images [N,3,H,W] and the metadata of make_examples to rewards [N]."""
    if spec["type"] == "jpeg":
        sign = 1 if spec["measure"] == "incompressibility" else -1

        def jpeg(images, metadata):
            sizes = []
            for image in images:
                buffer = io.BytesIO()
                pixels = (image.detach().float().permute(1, 2, 0) * 255).round().byte().numpy()
                Image.fromarray(pixels).save(buffer, "JPEG", quality=spec.get("jpeg_quality", 95))
                sizes.append(sign * buffer.tell() / 1000)
            return torch.tensor(sizes)
        return jpeg
    if spec["measure"] != "logit_change":
        raise SystemExit(f"reference_epochs.py knows jpeg and logit_change, not {spec['measure']}")
    classifier = torch.jit.load(spec["model"])

    def logit_change(images, metadata):
        before = torch.stack([entry["logit"] for entry in metadata])
        after = logit_of_label(classifier, images.detach().float(), [entry["label"] for entry in metadata])
        return (after - before).clamp(-spec["clamp"], spec["clamp"])
    return logit_change


def make_examples(job, pixels):
    """What the original's prompt_fn returns, round and round."""
    default = job["data"].get("prompt", "")
    examples = [(text or default, image, {"label": label})
                for image, text, label in load_images(pathlib.Path(job["data"]["path"]), pixels)]
    if job["rewards"][0]["type"] == "classifier":
        classifier = torch.jit.load(job["rewards"][0]["model"])
        for _, image, metadata in examples:
            metadata["logit"] = logit_of_label(classifier, image[None], [metadata["label"]])[0]
    return itertools.cycle(examples)


def make_trainer(job, scratch):
    import wandb
    from imageddpo import I2IDDPOStableDiffusionPipeline, ImageDDPOTrainer
    from trl import DDPOConfig

    sample, train = job["sample"], job["train"]
    wandb.init(mode="disabled")
    pipeline = I2IDDPOStableDiffusionPipeline(job["model"]["path"], use_lora=True)
    config = DDPOConfig(
        num_epochs=1, seed=int(job["seed"]), mixed_precision=PRECISIONS[job["model"]["precision"]], allow_tf32=False,
        sample_num_steps=int(sample["num_steps"]), sample_eta=sample["eta"], sample_guidance_scale=sample["guidance_scale"],
        sample_batch_size=int(sample["batch_size"]), sample_num_batches_per_epoch=int(sample["num_batches_per_epoch"]),
        train_batch_size=int(train["batch_size"]), train_gradient_accumulation_steps=int(train["gradient_accumulation_steps"]),
        train_learning_rate=train["learning_rate"], train_clip_range=train["clip_range"],
        train_num_inner_epochs=int(train["num_inner_epochs"]), train_max_grad_norm=train["max_grad_norm"],
        train_adv_clip_max=train["adv_clip_max"], train_timestep_fraction=sample["noise_strength"],
        negative_prompts=job["data"].get("negative_prompt", ""), save_freq=10**9, project_kwargs=dict(project_dir=str(scratch)))
    unet = pipeline.unet.config
    pixels = int(job["data"].get("resolution") or 0) or unet.sample_size * pipeline.sd_pipeline.vae_scale_factor
    examples, reward = make_examples(job, pixels), make_reward(job["rewards"][0])
    trainer = ImageDDPOTrainer(config, lambda images, prompts, metadata: (reward(images, metadata), {}),
                               lambda: next(examples), pipeline, noise_strength=sample["noise_strength"])
    trainer.accelerator.log = lambda *args, **kwargs: None
    pipeline.set_progress_bar_config(disable=True)
    return trainer


def follow_trajectory(trainer, seconds):
    """Times sampling, and trains as many steps as were sampled: at some strengths the original would not."""
    generate = trainer._generate_samples
    accumulation = trainer.config.train_gradient_accumulation_steps

    def generate_samples(*args, **kwargs):
        start = time.monotonic()
        samples, pairs = generate(*args, **kwargs)
        seconds.append(time.monotonic() - start)
        trainer.num_train_timesteps = samples[0]["timesteps"].shape[1]
        trainer.accelerator.gradient_accumulation_steps = accumulation * trainer.num_train_timesteps
        trainer.accelerator.step = 0  # The epoch before may have had another length.
        return samples, pairs
    trainer._generate_samples = generate_samples


def peak_memory_bytes():
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job")
    parser.add_argument("output")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--short-warm-up", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    job = yaml.safe_load(pathlib.Path(args.job).read_text())
    epochs = []
    with tempfile.TemporaryDirectory() as scratch:
        trainer = make_trainer(job, scratch)
        start_seconds = time.monotonic() - STARTED
        sampling = []
        follow_trajectory(trainer, sampling)
        strength = trainer.noise_strength
        for epoch in range(1 + args.epochs):
            warm_up = epoch == 0
            trainer.noise_strength = 1 / job["sample"]["num_steps"] if warm_up and args.short_warm_up else strength
            start = time.monotonic()
            trainer.step(epoch, 0)
            seconds = time.monotonic() - start
            row = {"epoch": epoch, "steps": trainer.num_train_timesteps, "epoch_seconds": seconds,
                   "sample_seconds": sampling[-1], "train_seconds": seconds - sampling[-1]}
            print(json.dumps(row), flush=True)
            epochs += [] if warm_up else [row]
    pathlib.Path(args.output).write_text(json.dumps({
        "epochs": epochs, "threads": args.threads, "start_seconds": start_seconds, "peak_memory_bytes": peak_memory_bytes()}))


if __name__ == "__main__":
    main()
