"""Pretrains the demo's tiny Stable Diffusion and its classifier on Fashion-MNIST.

Stages, each kept in the cache folder and skipped when its file is there:
  classifier  judges images; it becomes the demo's reward
  vae         learns to rebuild clean and damaged images alike
  unet        learns, with the text encoder, to denoise the latents of clean and damaged images, told by captions which is which
  export      writes tiny-sd/ (diffusers layout) and classifier.pt
"""

import argparse
import copy
import json
import pathlib
import time

import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

import corruptions
import models
import tokenizer

BATCH_VAE = 32
BATCH_UNET = 64
EMPTY_CAPTION = ""
CAPTION_DROPOUT = 0.25
CLEAN_SHARE = 0.6


def captions():
    """Row kind * 10 + label; kind 0 is clean, kind k is CORRUPTION_NAMES[k - 1]; the last row is the empty caption."""
    adjectives = [""] + [name + " " for name in corruptions.CORRUPTION_NAMES]
    named = [f"a {kind}photo of a {name}" for kind in adjectives for name in corruptions.CLASS_NAMES]
    return named + [EMPTY_CAPTION]


class Average:
    """Exponential moving average of a network's parameters, with a warm-up of its horizon."""

    def __init__(self, network, decay):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay
        self._steps = 0

    @torch.no_grad()
    def update(self, network):
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for mean, value in zip(self.network.parameters(), network.parameters()):
            mean.lerp_(value, 1 - decay)


class Run:
    """AdamW under a warmed-up cosine schedule, with progress lines."""

    def __init__(self, name, parameters, learning_rate, iterations, weight_decay=1e-2):
        self._name, self._iterations, self._started = name, iterations, time.time()
        self._parameters = list(parameters)
        self._optimizer = torch.optim.AdamW(self._parameters, lr=learning_rate, weight_decay=weight_decay)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, learning_rate, total_steps=iterations + 1, pct_start=0.05, cycle_momentum=False)
        self._mean_loss = None

    def step(self, iteration, loss):
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._schedule.step()
        value = loss.item()
        self._mean_loss = value if self._mean_loss is None else 0.98 * self._mean_loss + 0.02 * value
        if (iteration + 1) % 100 == 0 or iteration + 1 == self._iterations:
            seconds = time.time() - self._started
            print(f"{self._name} {iteration + 1}/{self._iterations} loss {self._mean_loss:.4f} {seconds:.0f} s", flush=True)


def as_rgb(images_N1HW):
    """Three equal channels, scaled to [-1, 1] as the VAE takes them."""
    return (2 * images_N1HW - 1).expand(-1, 3, -1, -1)


def train_classifier(options, path):
    images, labels = corruptions.load_fashion_mnist(options.dataset, "train")
    generator = torch.Generator().manual_seed(options.seed)
    torch.manual_seed(options.seed)
    network = models.Classifier().train()
    per_epoch = len(images) // 128
    run = Run("classifier", network.parameters(), 1e-3, options.classifier_epochs * per_epoch)
    for epoch in range(options.classifier_epochs):
        order = torch.randperm(len(images), generator=generator)
        for index in range(per_epoch):
            rows = order[index * 128 : (index + 1) * 128]
            batch = images[rows].float() / 255
            loss = F.cross_entropy(network(batch.expand(-1, 3, -1, -1)), labels[rows])
            run.step(epoch * per_epoch + index, loss)
    torch.save(network.eval().state_dict(), path)


def vae_loss(network, target):
    posterior = network.encode(target).latent_dist
    rebuilt = network.decode(posterior.sample()).sample
    absolute = (rebuilt - target).abs().mean()
    edges = sum((torch.diff(rebuilt, dim=axis) - torch.diff(target, dim=axis)).abs().mean() for axis in (2, 3))
    divergence = posterior.kl().mean() / posterior.mean[0].numel()
    return absolute + 0.5 * F.mse_loss(rebuilt, target) + 0.25 * edges + 1e-3 * divergence


def train_vae(options, path):
    images, _ = corruptions.load_fashion_mnist(options.dataset, "train")

    def draw(generator):
        rows = torch.randint(len(images), (BATCH_VAE,), generator=generator)
        kind = torch.randint(len(corruptions.CORRUPTION_NAMES), (BATCH_VAE,), generator=generator)
        kind[: BATCH_VAE // 2] = -1
        return as_rgb(corruptions.corrupt(images[rows].float() / 255, kind, generator))

    torch.save(fit_vae(options, draw), path)


def fit_vae(options, draw):
    """Trains a VAE on batches of `draw(generator)`, [N,3,32,32] in [-1,1]; returns its weights."""
    generator = torch.Generator().manual_seed(options.seed + 1)
    torch.manual_seed(options.seed + 1)
    network = models.make_vae()
    average = Average(network, 0.998)
    run = Run("vae", network.parameters(), 2e-3, options.vae_iterations)
    for iteration in range(options.vae_iterations):
        run.step(iteration, vae_loss(network, draw(generator)))
        average.update(network)
    return average.network.state_dict()


@torch.no_grad()
def encode(vae, images_N1HW):
    """The posterior's parameters, mean and log-variance: [N, 8, 8, 8]."""
    parts = [vae.encode(as_rgb(part)).latent_dist.parameters for part in images_N1HW.split(250)]
    return torch.cat(parts)


def make_latents(options, vae):
    """Posterior parameters and caption rows: every clean image, and damaged ones up to the wanted share."""
    images, labels = corruptions.load_fashion_mnist(options.dataset, "train")
    generator = torch.Generator().manual_seed(options.seed + 2)
    damaged_count = int(len(images) * (1 - CLEAN_SHARE) / CLEAN_SHARE)
    rows = torch.randperm(len(images), generator=generator)[:damaged_count]
    kind = torch.randint(len(corruptions.CORRUPTION_NAMES), (damaged_count,), generator=generator)
    damaged = corruptions.corrupt(images[rows].float() / 255, kind, generator)
    clean_posterior = encode(vae, images.float() / 255)
    posterior = torch.cat([clean_posterior, encode(vae, damaged)])
    caption_row = torch.cat([labels, (kind + 1) * len(corruptions.CLASS_NAMES) + labels[rows]])
    mean, log_variance = clean_posterior.chunk(2, dim=1)
    latents = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator)
    return posterior, caption_row, 1 / latents.std().item()


def tokenize(tokenizer_folder, texts):
    clip = CLIPTokenizer.from_pretrained(tokenizer_folder)
    return clip(texts, padding="max_length", max_length=models.MAX_TOKENS, truncation=True, return_tensors="pt").input_ids


def train_unet(options, path):
    vae = models.make_vae().eval()
    vae.load_state_dict(torch.load(options.cache / "vae.pt"))
    posterior, caption_row, scaling_factor = make_latents(options, vae)
    print(f"unet: {len(posterior)} latents, scaling_factor {scaling_factor:.4f}", flush=True)
    torch.save(fit_unet(options, posterior, caption_row, scaling_factor, captions()), path)


def fit_unet(options, posterior, caption_row, scaling_factor, texts):
    """Trains UNet and text encoder on posterior parameters [N,8,8,8] with the rows of their captions in `texts`, of
    which the last is the empty one. Returns what save_pipeline() takes."""
    mean, log_variance = posterior.chunk(2, dim=1)
    scale = (0.5 * log_variance).exp()
    vocabulary_size = tokenizer.write_tokenizer(options.cache / "tokenizer", texts, models.MAX_TOKENS)
    tokens = tokenize(options.cache / "tokenizer", texts)
    generator = torch.Generator().manual_seed(options.seed + 3)
    torch.manual_seed(options.seed + 3)
    network = torch.nn.ModuleDict({"unet": models.make_unet(), "text": models.make_text_encoder(vocabulary_size)}).train()
    average = Average(network, 0.998)
    scheduler = models.make_scheduler()
    run = Run("unet", network.parameters(), 2e-3, options.unet_iterations)
    for iteration in range(options.unet_iterations):
        rows = torch.randint(len(posterior), (BATCH_UNET,), generator=generator)
        shape = (BATCH_UNET, *mean.shape[1:])
        latents = (mean[rows] + scale[rows] * torch.randn(shape, generator=generator)) * scaling_factor
        noise = torch.randn(shape, generator=generator)
        timestep = torch.randint(scheduler.config.num_train_timesteps, (BATCH_UNET,), generator=generator)
        dropped = torch.rand(BATCH_UNET, generator=generator) < CAPTION_DROPOUT
        text_row = torch.where(dropped, len(texts) - 1, caption_row[rows])
        embedding = network["text"](tokens)[0][text_row]
        predicted = network["unet"](scheduler.add_noise(latents, noise, timestep), timestep, embedding).sample
        run.step(iteration, F.mse_loss(predicted, noise))
        average.update(network)
    return {
        "unet": average.network["unet"].state_dict(),
        "text": average.network["text"].state_dict(),
        "scaling_factor": scaling_factor,
    }


def save_pipeline(folder, texts, vae_weights, stage):
    """Writes a pipeline in diffusers' layout: a VAE's weights, what train_unet() has saved, a tokenizer of `texts`."""
    vae, unet = models.make_vae(), models.make_unet()
    vae.load_state_dict(vae_weights)
    vae.register_to_config(scaling_factor=round(stage["scaling_factor"], 4))
    unet.load_state_dict(stage["unet"])
    vocabulary_size = tokenizer.write_tokenizer(folder / "tokenizer", texts, models.MAX_TOKENS)
    text = models.make_text_encoder(vocabulary_size)
    text.load_state_dict(stage["text"])
    clip = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=clip, unet=unet, scheduler=models.make_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.save_pretrained(folder, safe_serialization=True)
    # Recent transformers write neither vocab.json nor the prefix that Stable Diffusion's own files carry.
    for leftover in (folder / "tokenizer").iterdir():
        leftover.unlink()
    tokenizer.write_tokenizer(folder / "tokenizer", texts, models.MAX_TOKENS)
    weights_path = folder / "text_encoder" / "model.safetensors"
    weights = {"text_model." + key.removeprefix("text_model."): value for key, value in load_file(weights_path).items()}
    save_file(weights, weights_path, metadata={"format": "pt"})
    for weights_path in folder.rglob("*.safetensors"):
        weights_path.chmod(0o644)


def export(options):
    folder = options.output / "tiny-sd"
    save_pipeline(folder, captions(), torch.load(options.cache / "vae.pt"), torch.load(options.cache / "unet.pt"))
    classifier = models.Classifier().eval()
    classifier.load_state_dict(torch.load(options.cache / "classifier.pt"))
    torch.jit.script(classifier).save(str(options.output / "classifier.pt"))
    files = [path for path in [*folder.rglob("*"), options.output / "classifier.pt"] if path.is_file()]
    print(json.dumps({"bytes": sum(path.stat().st_size for path in files), "files": len(files)}))


def parse_options():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--cache", type=pathlib.Path, required=True, help="folder for the stages' results")
    parser.add_argument("--output", type=pathlib.Path, default=here.parent)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--classifier-epochs", type=int, default=3)
    parser.add_argument("--vae-iterations", type=int, default=2000)
    parser.add_argument("--unet-iterations", type=int, default=3000)
    return parser.parse_args()


def main():
    options = parse_options()
    torch.set_num_threads(options.threads)
    options.cache.mkdir(parents=True, exist_ok=True)
    for name, train in (("classifier", train_classifier), ("vae", train_vae), ("unet", train_unet)):
        path = options.cache / f"{name}.pt"
        if path.exists():
            print(f"{name}: kept from {path}")
            continue
        started = time.time()
        train(options, path)
        print(f"{name}: {time.time() - started:.0f} s", flush=True)
    export(options)


if __name__ == "__main__":
    main()
