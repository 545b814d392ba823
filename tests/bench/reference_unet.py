"""Seconds of a UNet pass in PyTorch eager, by diffusers and PEFT: python reference_unet.py MODEL_DIR BATCH SECONDS

Prints JSON: forward without gradients on the frozen model; forward and backward to a LoRA of rank 4; and the
operations that PyTorch counts in each. Passes are repeated for at least SECONDS after one to warm up.
"""
import json
import pathlib
import sys
import time
import warnings

warnings.filterwarnings("ignore")
import torch  # noqa: E402
from diffusers import UNet2DConditionModel  # noqa: E402
from peft import LoraConfig  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402


def seconds_of(call, least_seconds):
    call()
    calls, start = 0, time.monotonic()
    while calls == 0 or time.monotonic() - start < least_seconds:
        call()
        calls += 1
    return (time.monotonic() - start) / calls


def operations(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def main():
    batch, least_seconds = int(sys.argv[2]), float(sys.argv[3])
    unet = UNet2DConditionModel.from_pretrained(pathlib.Path(sys.argv[1]) / "unet")
    unet.requires_grad_(False)
    size = unet.config.sample_size
    latents = torch.randn(batch, unet.config.in_channels, size, size)
    timesteps = torch.full((batch,), 501)
    context = torch.randn(batch, 77, unet.config.cross_attention_dim)

    def forward():
        with torch.no_grad():
            unet(latents, timesteps, context)

    def forward_backward():
        unet(latents, timesteps, context).sample.sum().backward()

    result = {"forward_seconds": seconds_of(forward, least_seconds), "forward_flops": operations(forward)}
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, init_lora_weights="gaussian", target_modules=["to_k", "to_q", "to_v", "to_out.0"]))
    result |= {"forward_backward_seconds": seconds_of(forward_backward, least_seconds), "forward_backward_flops": operations(forward_backward)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
