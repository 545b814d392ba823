"""Compares deploy/gpu-check's plain PyTorch models and scheduler with diffusers, PEFT and the original.

    python tests/parity/plain_sd_check.py        needs torch, diffusers, peft, transformers, safetensors, trl, imageddpo

They stand for the original where diffusers is not installed, so they have to compute the same.
"""
import pathlib
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
sys.dont_write_bytecode = True
import torch  # noqa: E402
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel  # noqa: E402
from imageddpo import pipeline as original  # noqa: E402
from peft import LoraConfig  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy/gpu-check"))
import plain_sd  # noqa: E402
import seed_loop  # noqa: E402

BOUND = {torch.float32: 1e-6, torch.bfloat16: 1e-3}  # Of the norm; the same kernels in the same order.

# SD 1.5's structure with few channels: four levels, two layers, a level without attention.
UNET = dict(sample_size=16, block_out_channels=(32, 64, 64, 64), layers_per_block=2, cross_attention_dim=24, attention_head_dim=4,
            norm_num_groups=8, down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)
VAE = dict(block_out_channels=(16, 32, 32, 32), layers_per_block=2, norm_num_groups=8, latent_channels=4, sample_size=64,
           down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)


def close(what, found, expected, bound):
    error = ((found.double() - expected.double()).norm() / expected.double().norm()).item()
    print(f"    {what:40} {error:.1e}")
    if not error <= bound:
        sys.exit(f"plain_sd_check: {what} differs by {error:.1e} of its norm, the bound is {bound:.1e}")


def random_norms(model):
    for name, parameter in model.named_parameters():
        if "norm" in name:  # So that a forgotten scale or shift shows.
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model.requires_grad_(False).eval()


def check_models(folder, dtype):
    bound = BOUND[dtype]
    unet, vae = random_norms(UNet2DConditionModel(**UNET)), random_norms(AutoencoderKL(**VAE))
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    unet.to(dtype)
    vae.to(dtype)
    plain_unet, plain_vae = plain_sd.Unet(folder / "unet", dtype), plain_sd.Vae(folder / "vae", dtype)
    latents, context = torch.randn(3, 4, 16, 16).to(dtype), torch.randn(3, 7, 24).to(dtype)
    timesteps = torch.tensor([1, 441, 981])
    with torch.no_grad():
        close(f"UNet, {dtype}", plain_unet(latents, timesteps, context), unet(latents, timesteps, context).sample, bound)
        images = torch.rand(2, 3, 64, 64).to(dtype) * 2 - 1
        posterior = vae.encode(images).latent_dist
        mean, deviation = plain_vae.encode(images)
        close(f"VAE's mean, {dtype}", mean, posterior.mean, bound)
        close(f"VAE's deviation, {dtype}", deviation, posterior.std, bound)
        close(f"VAE's decoder, {dtype}", plain_vae.decode(latents), vae.decode(latents).sample, bound)

    plain_unet.add_lora(4, up_scale=0.05)
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=list(plain_sd.LORA_TARGETS)))
    layers = {name: module for name, module in unet.named_modules() if hasattr(module, "lora_A")}
    assert set(layers) == set(plain_unet.lora), "other layers have a LoRA"
    for path, (down, up, _) in plain_unet.lora.items():
        for adapter, value in ((layers[path].lora_A["default"], down), (layers[path].lora_B["default"], up)):
            adapter.weight.data = value.detach().clone()
    probe = torch.randn(3, 4, 16, 16)
    ours, theirs = plain_unet(latents, timesteps, context), unet(latents, timesteps, context).sample
    close(f"UNet with LoRA, {dtype}", ours, theirs, bound)
    (ours.float() * probe).sum().backward()
    (theirs.float() * probe).sum().backward()
    pairs = [(value.grad, adapter.weight.grad) for path, (down, up, _) in plain_unet.lora.items()
             for value, adapter in ((down, layers[path].lora_A["default"]), (up, layers[path].lora_B["default"]))]
    close(f"LoRA's gradients, {dtype}", *(torch.cat([pair[side].flatten() for pair in pairs]) for side in (0, 1)), 10 * bound)


def check_scheduler():
    plain = seed_loop.Scheduler(num_steps=50)
    theirs = DDIMScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                           set_alpha_to_one=False, steps_offset=1)
    theirs.set_timesteps(50)
    assert plain.timesteps.tolist() == theirs.timesteps.tolist(), "other timesteps"
    for dtype in (torch.float32, torch.bfloat16):
        output, sample, previous = (torch.randn(4, 4, 8, 8).to(dtype) for _ in range(3))
        timesteps = torch.tensor([1, 21, 381, 981])
        close(f"noised latents, {dtype}", plain.add_noise(sample, output, timesteps), theirs.add_noise(sample, output, timesteps), BOUND[dtype])
        _, ours = plain.step(output, timesteps, sample, previous)
        close(f"log-probabilities, {dtype}", ours,
              original.scheduler_step(theirs, output, timesteps, sample, eta=1.0, prev_sample=previous).log_probs, BOUND[dtype])
        torch.manual_seed(3)
        ours, _ = plain.step(output, timesteps, sample)
        torch.manual_seed(3)
        close(f"next latents, {dtype}", ours, original.scheduler_step(theirs, output, timesteps, sample, eta=1.0).latents, BOUND[dtype])


def main():
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16):
        with tempfile.TemporaryDirectory() as folder:
            check_models(pathlib.Path(folder), dtype)
    check_scheduler()
    print("plain_sd_check: passed")


if __name__ == "__main__":
    main()
