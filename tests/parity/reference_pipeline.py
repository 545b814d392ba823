"""The original Python implementation (imageddpo 0.1.2 on TRL and diffusers) with every random number supplied, for
live_compare.py. Needs: torch, diffusers, transformers, peft, trl 0.21, imageddpo 0.1.2, safetensors.
"""
import contextlib
import os
import pathlib
import shutil
import warnings

warnings.filterwarnings("ignore")
os.environ.update(WANDB_MODE="disabled", WANDB_SILENT="true", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false",
                  ACCELERATE_USE_CPU="1", TQDM_DISABLE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")

import torch

TOKENIZER = pathlib.Path(__file__).parent.parent / "data/parity/algorithms/tokenizers/sd1"
TEXT_TOKENS = 3514  # Of that tokenizer.
NOISE_SCHEDULE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                      clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def unet(levels, **extra):
    """`levels` channel counts; all but the last level have attention, as in Stable Diffusion."""
    n = len(levels) - 1
    return dict(sample_size=16, in_channels=4, out_channels=4, block_out_channels=levels, norm_num_groups=8,
                cross_attention_dim=24, down_block_types=("CrossAttnDownBlock2D",) * n + ("DownBlock2D",),
                up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * n, **extra)


def vae(levels, **extra):
    n = len(levels)
    return dict(in_channels=3, out_channels=3, latent_channels=4, norm_num_groups=8, block_out_channels=levels,
                sample_size=16 * 2 ** (n - 1), down_block_types=("DownEncoderBlock2D",) * n,
                up_block_types=("UpDecoderBlock2D",) * n, **extra)


def text(**extra):
    return dict(vocab_size=TEXT_TOKENS, bos_token_id=TEXT_TOKENS - 2, eos_token_id=TEXT_TOKENS - 1, pad_token_id=1,
                max_position_embeddings=77, hidden_size=24, intermediate_size=48, num_hidden_layers=2,
                num_attention_heads=4, **extra)


MODELS = {
    "sd1": dict(unet=unet((32, 64), layers_per_block=1, attention_head_dim=4), vae=vae((32, 64)),
                text=text(hidden_act="quick_gelu"), scheduler=NOISE_SCHEDULE),
    "sd2": dict(unet=unet((32, 64), layers_per_block=1, attention_head_dim=(2, 4), use_linear_projection=True,
                          upcast_attention=True),
                vae=vae((32, 64)), text=text(hidden_act="gelu"),
                scheduler=dict(NOISE_SCHEDULE, prediction_type="v_prediction")),
    # Stable Diffusion 1.5's own layout, narrow.
    "sd15": dict(unet=unet((16, 32, 48, 48), layers_per_block=2, attention_head_dim=4),
                 vae=vae((16, 32, 32, 32), layers_per_block=2), text=text(hidden_act="quick_gelu"),
                 scheduler=NOISE_SCHEDULE),
}


def make_model(name, folder, seed):
    """A pipeline with random weights in diffusers' layout."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    parts = MODELS[name]
    torch.manual_seed(seed)
    models = UNet2DConditionModel(**parts["unet"]), AutoencoderKL(**parts["vae"])
    for model in models:
        for key, parameter in model.named_parameters():
            if "norm" in key:  # A forgotten scale or shift must show.
                parameter.data += 0.2 * torch.randn_like(parameter)
    StableDiffusionPipeline(
        unet=models[0], vae=models[1], text_encoder=CLIPTextModel(CLIPTextConfig(**parts["text"])),
        tokenizer=CLIPTokenizer.from_pretrained(str(TOKENIZER)), scheduler=DDIMScheduler(**parts["scheduler"]),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False).save_pretrained(folder)
    # The older spelling of the tokenizer's files, as the published folders have it.
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(TOKENIZER, folder / "tokenizer")


def make_inputs(folder, batch, num_steps, seed):
    import json
    size = json.loads((folder / "unet/config.json").read_text())["sample_size"]
    levels = len(json.loads((folder / "vae/config.json").read_text())["block_out_channels"])
    generator = torch.Generator().manual_seed(seed)
    pixels = size * 2 ** (levels - 1)
    image = torch.rand(batch, 3, 6, 6, generator=generator)
    image = torch.nn.functional.interpolate(image, size=(pixels, pixels), mode="bicubic").clamp(0, 1).contiguous()
    noise = lambda *lead: torch.randn(*lead, 4, size, size, generator=generator)
    advantages = 3 * torch.randn(batch, generator=generator)
    # No micro-batch of two whose loss is a difference of nearly equal numbers: a relative bound would measure rounding.
    for i in range(0, batch - 1, 2):
        if (advantages[i] + advantages[i + 1]).abs() < 0.5 * advantages[i:i + 2].abs().max():
            advantages[i + 1] *= -1
    return dict(image=image, encode_noise=noise(batch), init_noise=noise(batch), step_noise=noise(batch, num_steps),
                advantages=advantages)


@contextlib.contextmanager
def noise_from(tensors):
    """The VAE's sample, the initial noise and the steps' noise, in the order in which they are drawn."""
    from diffusers.models.autoencoders import vae as vae_module
    draws = iter(tensors)
    places = [(torch, "randn"), (torch, "randn_like"), (vae_module, "randn_tensor")]
    saved = [getattr(owner, name) for owner, name in places]
    for owner, name in places:
        setattr(owner, name, lambda *args, **kwargs: next(draws))
    try:
        yield
    finally:
        for (owner, name), function in zip(places, saved):
            setattr(owner, name, function)


class Reference:
    """One model; settings may change from call to call."""

    def __init__(self, folder, num_steps, scratch):
        import wandb
        from imageddpo import I2IDDPOStableDiffusionPipeline, ImageDDPOTrainer
        from trl import DDPOConfig

        wandb.init(mode="disabled")
        self.pipeline = I2IDDPOStableDiffusionPipeline(str(folder), use_lora=True)
        config = DDPOConfig(num_epochs=1, mixed_precision="no", allow_tf32=False, sample_num_steps=num_steps,
                            sample_batch_size=2, train_batch_size=2, train_cfg=True, train_learning_rate=3e-4,
                            negative_prompts="", save_freq=10**9, project_kwargs=dict(project_dir=str(scratch)))
        self.trainer = ImageDDPOTrainer(config, lambda *a: None, lambda: None, self.pipeline)
        self.pipeline.set_progress_bar_config(disable=True)
        self.trainer.accelerator.log = lambda *args, **kwargs: None
        self.config, self.scratch = self.trainer.config, scratch
        self.parameters = {name.replace(".default", ""): parameter
                           for name, parameter in self.pipeline.unet.named_parameters() if "lora_" in name}
        self.images = []

    def randomise_lora(self, seed):
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in sorted(self.parameters.items()):
            scale = 0.25 if "lora_A" in name else 0.05
            parameter.data = scale * torch.randn(parameter.shape, generator=generator)

    def save_lora(self, path):
        from diffusers.utils import convert_state_dict_to_diffusers
        from peft.utils import get_peft_model_state_dict
        layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(self.pipeline.unet))
        self.pipeline.sd_pipeline.save_lora_weights(save_directory=str(self.scratch), unet_lora_layers=layers)
        (self.scratch / "pytorch_lora_weights.safetensors").rename(path)

    def rollout(self, inputs, prompt, guidance, eta, strength, rescale=0.0):
        import imageddpo.pipeline as original
        images = iter(inputs["image"])
        trainer = self.trainer
        trainer.prompt_fn = lambda: (prompt, next(images), {})
        trainer.noise_strength = strength
        self.config.sample_guidance_scale, self.config.sample_eta = guidance, eta
        call = original.I2IDDPOStableDiffusionPipeline.__call__
        if rescale:
            original.I2IDDPOStableDiffusionPipeline.__call__ = lambda pipeline, *args, **kwargs: original.i2i_pipeline_step(
                pipeline.sd_pipeline, *args, guidance_rescale=rescale, **kwargs)
        draws = [inputs["encode_noise"], inputs["init_noise"], *inputs["step_noise"].unbind(1)]
        try:
            with noise_from(draws), torch.no_grad():
                samples, pairs = trainer._generate_samples(1, len(inputs["image"]))
        finally:
            original.I2IDDPOStableDiffusionPipeline.__call__ = call
        return dict({key: value.contiguous() for key, value in samples[0].items()}, images=pairs[0][0].contiguous())

    def update(self, inputs, trajectory, guidance, eta, batch, accumulation, inner_epochs, max_norm):
        """Losses of each micro-batch and timestep, gradients and norms before clipping, LoRA after."""
        trainer, accelerator = self.trainer, self.trainer.accelerator
        steps = trajectory["timesteps"].shape[1]
        self.config.sample_guidance_scale, self.config.sample_eta = guidance, eta
        self.config.train_max_grad_norm = max_norm
        trainer.num_train_timesteps = steps
        trainer.sd_pipeline.scheduler.set_timesteps(self.config.sample_num_steps)
        accelerator.gradient_accumulation_steps = accumulation * steps
        accelerator.step = 0
        trainer.optimizer.optimizer.state.clear()
        trainer.optimizer.zero_grad()
        out, losses, norms = {}, [], []
        calculate_loss, clip = type(trainer).calculate_loss, type(accelerator).clip_grad_norm_

        def recorded_loss(*args):
            result = calculate_loss(trainer, *args)
            losses.append(torch.stack([value.detach() for value in result]))
            return result

        def recorded_clip(parameters, max_norm):
            for name, parameter in self.parameters.items():
                name = name.replace(".lora_A.", ".lora.down.").replace(".lora_B.", ".lora.up.")
                out[f"grad.{len(norms)}.unet.{name}"] = parameter.grad.detach().clone()
            norms.append(torch.stack([parameter.grad.norm() for parameter in self.parameters.values()]).norm())
            return clip(accelerator, parameters, max_norm)

        trainer.calculate_loss, accelerator.clip_grad_norm_ = recorded_loss, recorded_clip
        keys = ("latents", "next_latents", "timesteps", "log_probs", "prompt_embeds", "negative_prompt_embeds")
        samples = dict({key: trajectory[key] for key in keys}, advantages=inputs["advantages"])
        batches = [{key: value[i:i + batch] for key, value in samples.items()}
                   for i in range(0, len(samples["advantages"]), batch)]
        try:
            for inner in range(inner_epochs):
                trainer._train_batched_samples(inner, 0, 0, batches)
        finally:
            del trainer.calculate_loss, accelerator.clip_grad_norm_
        return dict(out, losses=torch.stack(losses), grad_norm=torch.stack(norms))


def reference_advantages(rewards, ids, per_key):
    import numpy as np
    from trl.trainer.utils import PerPromptStatTracker
    tracker = PerPromptStatTracker(16, 16)
    rows = [tracker.update([str(i) for i in row_ids], row) if per_key else (row - row.mean()) / (row.std() + 1e-8)
            for row, row_ids in zip(rewards.numpy(), ids.numpy())]
    return torch.tensor(np.stack(rows)).float()
