"""The original implementation's loop (imageddpo on TRL's DDPO trainer) in plain eager PyTorch.

  seed_loop.py describe                      this machine, as PyTorch sees it
  seed_loop.py epochs MODEL [options]        seconds and memory of whole epochs
  seed_loop.py reference MODEL CASE          a parity case: UNet and VAE outputs, LoRA gradients, in float32

An epoch is what the original does: images are encoded, sampled without gradients (two branches where guidance is
above 1) and decoded; then each micro-batch takes each timestep forward and backward in two branches, whatever the
guidance, and the optimizer steps once. Latents are rounded to the model's type after each step. Left out, in its
favour: the text encoder, the reward, logging, and diffusers' and PEFT's module trees.
"""
import argparse
import json
import math
import pathlib
import time

import torch

import plain_sd
import tensor_files

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TRAIN_STEPS = 1000
CLIP_RANGE, MAX_GRAD_NORM, ETA, RANK = 1e-4, 1.0, 1.0, 4


class Scheduler:
    """DDIM over SD 1.5's noise schedule: scaled_linear betas, leading spacing with offset 1."""

    def __init__(self, num_steps):
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, TRAIN_STEPS) ** 2
        self.alphas = torch.cumprod(1 - betas, dim=0)
        self.stride = TRAIN_STEPS // num_steps
        self.timesteps = torch.arange(num_steps).flip(0) * self.stride + 1

    def add_noise(self, x, noise, timesteps):
        alpha = self.alphas.to(x.device, x.dtype)[timesteps][:, None, None, None]
        return alpha.sqrt() * x + (1 - alpha).sqrt() * noise

    def step(self, output, timesteps, sample, previous=None):
        """The step and its log-probability. The table is on the CPU and moved for each step, as in the original."""
        alphas = self.alphas.to(sample.device)
        before = timesteps - self.stride
        alpha = alphas[timesteps][:, None, None, None]
        alpha_before = torch.where(before >= 0, alphas[before.clamp_min(0)], alphas[0])[:, None, None, None]
        clean = (sample - (1 - alpha) ** 0.5 * output) / alpha**0.5
        variance = (1 - alpha_before) / (1 - alpha) * (1 - alpha / alpha_before)
        if torch.all(variance.abs() < 1e-20):
            raise ValueError("a deterministic step")
        deviation = ETA * variance.clamp(min=1e-20) ** 0.5
        mean = alpha_before**0.5 * clean + (1 - alpha_before - deviation**2) ** 0.5 * output
        if previous is None:
            previous = mean + deviation * torch.randn(output.shape, device=output.device, dtype=output.dtype)
        distance = (previous.detach() - mean) ** 2 / (2 * deviation**2)
        log_prob = -distance - torch.log(deviation) - math.log(math.sqrt(2 * math.pi))
        return previous.type(sample.dtype), log_prob.mean(dim=(1, 2, 3))


class Loop:
    def __init__(self, options):
        self.options = options
        self.device, self.dtype = torch.device(options.device), DTYPES[options.precision]
        self.unet = plain_sd.Unet(options.model / "unet", self.dtype, self.device)
        self.vae = plain_sd.Vae(options.model / "vae", self.dtype, self.device)
        self.parameters = self.unet.add_lora(RANK)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=3e-4, betas=(0.9, 0.999), weight_decay=1e-4, eps=1e-8)
        self.scheduler = Scheduler(options.num_steps)
        start = int(options.num_steps * (1 - options.noise_strength))
        self.timesteps = self.scheduler.timesteps[max(0, min(start, options.num_steps - 1)):].to(self.device)
        width = self.unet.config["cross_attention_dim"]
        shape = options.batch_size, options.tokens, width
        self.prompt, self.negative = (torch.randn(shape, device=self.device).to(self.dtype) for _ in range(2))
        self.images = torch.rand(options.samples, 3, options.resolution, options.resolution)

    @torch.no_grad()
    def sample(self, images):
        size, guidance = len(images), self.options.guidance_scale
        mean, deviation = self.vae.encode(2.0 * images.to(self.device, self.dtype) - 1.0)
        latents = (mean + deviation * torch.randn_like(mean)) * self.vae.scaling_factor
        latents = self.scheduler.add_noise(latents, torch.randn_like(latents), self.timesteps[:1].repeat(size))
        context = torch.cat([self.negative, self.prompt]) if guidance > 1 else self.negative.clone()
        all_latents, log_probs = [latents], []
        for timestep in self.timesteps:
            rows = torch.cat([latents] * 2) if guidance > 1 else latents
            output = self.unet(rows, timestep.repeat(len(rows)), context)
            if guidance > 1:
                negative, prompt = output.chunk(2)
                output = negative + guidance * (prompt - negative)
            latents, log_prob = self.scheduler.step(output, timestep.repeat(size), latents)
            all_latents.append(latents)
            log_probs.append(log_prob)
        pictures = (self.vae.decode(latents / self.vae.scaling_factor) / 2 + 0.5).clamp(0, 1)
        stacked = torch.stack(all_latents, dim=1)
        return {"latents": stacked[:, :-1], "next": stacked[:, 1:], "log_probs": torch.stack(log_probs, dim=1),
                "timesteps": self.timesteps.repeat(size, 1), "pictures": pictures.cpu()}

    def train(self, samples, steps_of_update):
        """Forward and backward for one micro-batch, each sample's timesteps in an order of its own."""
        size, count = samples["timesteps"].shape
        order = torch.stack([torch.randperm(count, device=self.device) for _ in range(size)])
        rows = torch.arange(size, device=self.device)[:, None]
        latents, after, log_probs, timesteps = (samples[key][rows, order] for key in ("latents", "next", "log_probs", "timesteps"))
        advantages = torch.tensor([1.0, -1.0], device=self.device).repeat(size)[:size].clamp(-5, 5)
        context = torch.cat([self.negative, self.prompt])
        for step in range(count):
            output = self.unet(torch.cat([latents[:, step]] * 2), torch.cat([timesteps[:, step]] * 2), context)
            negative, prompt = output.chunk(2)
            output = negative + self.options.guidance_scale * (prompt - negative)
            _, log_prob = self.scheduler.step(output, timesteps[:, step], latents[:, step], after[:, step])
            ratio = torch.exp(log_prob - log_probs[:, step])
            clipped = torch.clamp(ratio, 1 - CLIP_RANGE, 1 + CLIP_RANGE)
            loss = torch.mean(torch.maximum(-advantages * ratio, -advantages * clipped))
            (loss / steps_of_update).backward()

    def epoch(self):
        """Seconds of it, and of its sampling."""
        start = self.now()
        batches = [self.sample(images) for images in self.images.split(self.options.batch_size)]
        sampled = self.now()
        for samples in batches:
            self.train(samples, len(batches) * len(self.timesteps))
        torch.nn.utils.clip_grad_norm_(self.parameters, MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return self.now() - start, sampled - start

    def now(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def pass_seconds(self):
        """One micro-batch through the UNet, without gradients and with: medians of five."""
        size = self.options.resolution // self.vae.downscale
        latents = torch.randn(self.options.batch_size, 4, size, size, device=self.device).to(self.dtype)
        timesteps = self.timesteps[:1].repeat(len(latents))

        def forward():
            with torch.no_grad():
                self.unet(latents, timesteps, self.negative)

        def forward_backward():
            self.unet(latents, timesteps, self.negative).float().sum().backward()
            self.optimizer.zero_grad()

        medians = []
        for call in (forward, forward_backward):
            call()
            seconds = []
            for _ in range(5):
                start = self.now()
                call()
                seconds.append(self.now() - start)
            medians.append(sorted(seconds)[2])
        return medians


def product_flops(device, dtype):
    """Per second, of a product of matrices of random numbers: the mean of ten behind three."""
    size, calls = (8192, 10) if device.type == "cuda" else (512, 3)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def seconds(count):
        start = time.perf_counter()
        for _ in range(count):
            torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds(3)
    return 2 * size**3 * calls / seconds(calls)


def epochs(options):
    result = {key: getattr(options, key) for key in ("precision", "guidance_scale", "resolution", "num_steps", "batch_size", "tf32", "device")}
    device = torch.device(options.device)
    try:
        result["product_flops_random"] = product_flops(device, DTYPES[options.precision])
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        loop = Loop(options)
        result["forward_seconds"], result["forward_backward_seconds"] = loop.pass_seconds()
        result["first_epoch_seconds"], _ = loop.epoch()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        rounds, start = [], time.perf_counter()
        while len(rounds) < options.min_epochs or time.perf_counter() - start < options.seconds:
            rounds.append(loop.epoch())
    except torch.OutOfMemoryError as error:
        return dict(result, out_of_memory=str(error).split("\n", 1)[0])
    cuda = device.type == "cuda"
    return dict(result, samples_per_epoch=options.samples, executed_steps=len(loop.timesteps),
                epoch_seconds=[whole for whole, _ in rounds], sample_seconds=[part for _, part in rounds],
                memory={"peak_allocated_bytes": torch.cuda.max_memory_allocated() if cuda else 0,
                        "peak_reserved_bytes": torch.cuda.max_memory_reserved() if cuda else 0})


def reference(options):
    """A case as tests/parity/record_models.py makes them, around an existing model folder."""
    device, case = torch.device(options.device), options.case
    (case / "lora").mkdir(parents=True)
    for part in ("unet", "vae"):
        (case / part).symlink_to((options.model / part).resolve())
    generator = torch.Generator().manual_seed(5)
    unet, vae = plain_sd.Unet(case / "unet", device=device), plain_sd.Vae(case / "vae", device=device)
    size = options.resolution // vae.downscale

    def draw(*shape):
        return torch.randn(*shape, generator=generator).to(device)

    inputs = {"unet.latents": draw(2, 4, size, size), "unet.timesteps": torch.tensor([261, 761], device=device),
              "unet.context": draw(2, options.tokens, unet.config["cross_attention_dim"]), "unet.probe": draw(2, 4, size, size),
              "vae.images": draw(1, 3, options.resolution, options.resolution).clamp(-1, 1), "vae.latents": draw(1, 4, size, size)}
    latents, timesteps, context = (inputs[f"unet.{name}"] for name in ("latents", "timesteps", "context"))
    outputs = {}
    with torch.no_grad():
        outputs["vae.mean"], outputs["vae.std"] = vae.encode(inputs["vae.images"])
        outputs["vae.decoded"] = vae.decode(inputs["vae.latents"])
        outputs["unet.out"] = unet(latents, timesteps, context)
    unet.add_lora(RANK, seed=1, up_scale=0.05)
    out = unet(latents, timesteps, context)
    (out * inputs["unet.probe"]).sum().backward()
    outputs["unet.lora_out"] = out
    lora = {}
    for path, (down, up, _) in unet.lora.items():
        for name, parameter in (("down", down), ("up", up)):
            lora[f"unet.{path}.lora.{name}.weight"] = parameter
            outputs[f"unet.grad.unet.{path}.lora.{name}.weight"] = parameter.grad
    tensor_files.save(case / "reference.safetensors", inputs | outputs)
    tensor_files.save(case / "lora/pytorch_lora_weights.safetensors", lora)
    return {"case": str(case)}


def describe(_):
    cuda = torch.cuda.is_available()
    result = {"torch": torch.__version__, "cuda": torch.version.cuda, "gpu": torch.cuda.get_device_name(0) if cuda else None}
    if cuda:
        result |= {"gpu_bytes": torch.cuda.get_device_properties(0).total_memory, "capability": torch.cuda.get_device_capability(0),
                   "cudnn": torch.backends.cudnn.version(), "nccl": ".".join(map(str, torch.cuda.nccl.version()))}
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    commands.add_parser("describe").set_defaults(run=describe)
    for name, run in (("epochs", epochs), ("reference", reference)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("model", type=pathlib.Path)
        if run is reference:
            command.add_argument("case", type=pathlib.Path)
        command.add_argument("--device", default="cpu")
        command.add_argument("--resolution", type=int, default=512)
        command.add_argument("--tokens", type=int, default=77)
        command.add_argument("--threads", type=int, default=0)
        command.add_argument("--tf32", action="store_true")
        if run is epochs:
            command.add_argument("--precision", choices=DTYPES, default="fp32")
            command.add_argument("--guidance-scale", type=float, default=1.0)
            command.add_argument("--num-steps", type=int, default=50)
            command.add_argument("--noise-strength", type=float, default=0.4)
            command.add_argument("--batch-size", type=int, default=4)
            command.add_argument("--samples", type=int, default=8)
            command.add_argument("--seconds", type=float, default=10)
            command.add_argument("--min-epochs", type=int, default=2)
    options = parser.parse_args()
    if getattr(options, "threads", 0):
        torch.set_num_threads(options.threads)
    tf32 = getattr(options, "tf32", False)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    print(json.dumps(options.run(options)))


if __name__ == "__main__":
    main()
