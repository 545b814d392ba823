"""Measures the exported assets on held-out images, as the demo's table does before any reinforcement."""

import argparse
import json
import pathlib

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

import corruptions


def evenly_over_classes(images, labels, count):
    """The first images of each class in file order, count / 10 each; the demo's data tool picks the same ones."""
    classes = len(corruptions.CLASS_NAMES)
    rows = [(labels == label).nonzero()[: count // classes, 0] for label in range(classes)]
    rows = torch.cat(rows).sort().values
    return images[rows].float() / 255, labels[rows]


class Pipeline:
    """Image-to-image with the empty prompt and no guidance."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
        self.unet = UNet2DConditionModel.from_pretrained(folder / "unet").eval()
        self.scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
        text = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
        clip = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        tokens = clip([""], padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.no_grad():
            self.embedding = text(tokens)[0]

    @torch.no_grad()
    def encode(self, images_N3HW, generator):
        posterior = self.vae.encode(2 * images_N3HW - 1).latent_dist
        return posterior.sample(generator) * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents):
        return (self.vae.decode(latents / self.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def __call__(self, images_N3HW, generator, steps=10, strength=0.5, eta=1.0):
        self.scheduler.set_timesteps(steps)
        timesteps = self.scheduler.timesteps[max(int(steps * (1 - strength)), 0) :]
        latents = self.encode(images_N3HW, generator)
        latents = self.scheduler.add_noise(latents, torch.randn(latents.shape, generator=generator), timesteps[:1])
        embedding = self.embedding.expand(len(latents), -1, -1)
        for timestep in timesteps:
            predicted = self.unet(latents, timestep, embedding).sample
            latents = self.scheduler.step(predicted, timestep, latents, eta=eta, generator=generator).prev_sample
        return self.decode(latents)


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--assets", type=pathlib.Path, default=here.parent)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--sigma", type=float, default=1.6)
    parser.add_argument("--noise-seeds", type=int, default=3)
    options = parser.parse_args()

    images, labels = evenly_over_classes(*corruptions.load_fashion_mnist(options.dataset, "test"), options.count)
    blurred = corruptions.to_8_bits(corruptions.blur(images, options.sigma)).expand(-1, 3, -1, -1)
    clean = images.expand(-1, 3, -1, -1)
    classifier = torch.jit.load(options.assets / "classifier.pt").eval()
    pipeline = Pipeline(options.assets / "tiny-sd")
    row = torch.arange(len(labels))

    def judge(batch):
        with torch.no_grad():
            logits = classifier(batch)
        return (logits.argmax(1) == labels).float().mean().item(), logits[row, labels]

    def in_parts(function, batch):
        return torch.cat([function(part) for part in batch.split(250)])

    def rebuilt(batch):
        return in_parts(lambda part: pipeline.decode(pipeline.encode(part, generator)), batch)

    generator = torch.Generator().manual_seed(0)
    accuracy_blurred, logit_blurred = judge(blurred)
    clean_rebuilt, blurred_rebuilt = rebuilt(clean), rebuilt(blurred)
    result = {
        "clean": judge(clean)[0],
        "blurred": accuracy_blurred,
        "clean_through_vae": judge(clean_rebuilt)[0],
        "blurred_through_vae": judge(blurred_rebuilt)[0],
        "vae_psnr_clean": (-10 * (clean_rebuilt - clean).square().mean((1, 2, 3)).log10()).mean().item(),
        "vae_psnr_blurred": (-10 * (blurred_rebuilt - blurred).square().mean((1, 2, 3)).log10()).mean().item(),
        "base": [],
        "base_reward": [],
    }
    for seed in range(options.noise_seeds):
        generator = torch.Generator().manual_seed(seed)
        accuracy, logit = judge(in_parts(lambda part: pipeline(part, generator), blurred))
        result["base"].append(round(accuracy, 4))
        result["base_reward"].append(round((logit - logit_blurred).clamp(-10, 10).mean().item(), 4))
    print(json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in result.items()}, indent=2))


if __name__ == "__main__":
    main()
