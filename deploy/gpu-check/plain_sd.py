"""Stable Diffusion 1's UNet and VAE in plain eager PyTorch, operation for operation as diffusers runs them.

For a machine that has torch and not diffusers; tests/parity/plain_sd_check.py holds it against diffusers. The
weights are a dictionary by the names of diffusers' files, so that there is no module tree: what Python costs is
less than diffusers' own, which favours this side of a comparison.

Shapes: B batch, C channels, H W height and width, L positions, D features.
"""
import json
import math
import pathlib

import torch
import torch.nn.functional as F

import tensor_files

LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


class Part:
    """A model's weights, its config, and the layers that are made of them."""

    def __init__(self, folder, dtype, device):
        self.config = json.loads((pathlib.Path(folder) / "config.json").read_text())
        self.weights = {name: tensor.to(device=device, dtype=dtype) for name, tensor in tensor_files.load_folder(folder).items()}
        self.dtype = dtype
        self.lora = {}  # {path: (down, up, scale)}
        self.channels = self.config["block_out_channels"]
        self.groups = self.config.get("norm_num_groups", 32)

    def has(self, name):
        return f"{name}.weight" in self.weights

    def linear(self, name, x):
        y = F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))
        if name not in self.lora:
            return y
        down, up, scale = self.lora[name]  # As PEFT: in the adapter's type, then back.
        return (y + F.linear(F.linear(x.to(down.dtype), down), up) * scale).to(y.dtype)

    def conv(self, name, x, stride=1, padding=1):
        return F.conv2d(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], stride, padding)

    def group_norm(self, name, x, eps):
        return F.group_norm(x, self.groups, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], eps)

    def layer_norm(self, name, x):
        weight = self.weights[f"{name}.weight"]
        return F.layer_norm(x, weight.shape, weight, self.weights[f"{name}.bias"], 1e-5)

    def resnet(self, name, x, time=None, eps=1e-6):
        y = self.conv(f"{name}.conv1", F.silu(self.group_norm(f"{name}.norm1", x, eps)))
        if time is not None:
            y = y + self.linear(f"{name}.time_emb_proj", F.silu(time))[:, :, None, None]
        y = self.conv(f"{name}.conv2", F.silu(self.group_norm(f"{name}.norm2", y, eps)))
        if self.has(f"{name}.conv_shortcut"):
            x = self.conv(f"{name}.conv_shortcut", x, padding=0)
        return (x + y) / 1.0

    def attention(self, name, x, context, heads):
        q, k, v = (self.linear(f"{name}.{which}", of) for which, of in (("to_q", x), ("to_k", context), ("to_v", context)))
        size, width = q.shape[0], q.shape[-1]
        q, k, v = (part.view(size, -1, heads, width // heads).transpose(1, 2) for part in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(size, -1, width)
        return self.linear(f"{name}.to_out.0", y.to(q.dtype))


class Unet(Part):
    """UNet2DConditionModel with 1x1 convolutions around its transformers (SD 1.x)."""

    def __init__(self, folder, dtype=torch.float32, device="cpu"):
        super().__init__(folder, dtype, device)
        self.heads = self.config.get("attention_head_dim", 8)  # The number of heads, in configs of SD.
        self.layers = self.config.get("layers_per_block", 2)
        self.eps = self.config.get("norm_eps", 1e-5)

    def add_lora(self, rank, seed=0, up_scale=0.0):
        """Gaussian, as PEFT's init; `up_scale` other than 0 makes it one that has learned. Returns the parameters."""
        generator = torch.Generator().manual_seed(seed)
        for key in sorted(self.weights):
            path = key.removesuffix(".weight")
            if not path.endswith(LORA_TARGETS) or path == key:
                continue
            out, into = self.weights[key].shape
            down, up = torch.randn(rank, into, generator=generator) / rank, torch.randn(out, rank, generator=generator) * up_scale
            device = self.weights[key].device
            self.lora[path] = (down.to(device).requires_grad_(), up.to(device).requires_grad_(), 1.0)
        return [parameter for down, up, _ in self.lora.values() for parameter in (down, up)]

    def transformer(self, name, x, context):
        size, channels, height, width = x.shape
        y = self.conv(f"{name}.proj_in", self.group_norm(f"{name}.norm", x, 1e-6), padding=0)
        y = y.permute(0, 2, 3, 1).reshape(size, height * width, channels)
        block = f"{name}.transformer_blocks.0"
        normed = self.layer_norm(f"{block}.norm1", y)
        y = self.attention(f"{block}.attn1", normed, normed, self.heads) + y
        y = self.attention(f"{block}.attn2", self.layer_norm(f"{block}.norm2", y), context, self.heads) + y
        hidden, gate = self.linear(f"{block}.ff.net.0.proj", self.layer_norm(f"{block}.norm3", y)).chunk(2, dim=-1)
        y = self.linear(f"{block}.ff.net.2", hidden * F.gelu(gate)) + y
        y = y.reshape(size, height, width, channels).permute(0, 3, 1, 2).contiguous()
        return self.conv(f"{name}.proj_out", y, padding=0) + x

    def embed(self, timesteps):
        half = self.channels[0] // 2
        steps = torch.arange(half, dtype=torch.float32, device=timesteps.device)
        angles = timesteps[:, None].float() * torch.exp(-math.log(10000) * steps / half)[None, :]
        time = torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1).to(self.dtype)
        return self.linear("time_embedding.linear_2", F.silu(self.linear("time_embedding.linear_1", time)))

    def __call__(self, latents, timesteps, context):
        time = self.embed(timesteps)
        x = self.conv("conv_in", latents)
        skips = [x]
        for level in range(len(self.channels)):
            block = f"down_blocks.{level}"
            for layer in range(self.layers):
                x = self.resnet(f"{block}.resnets.{layer}", x, time, self.eps)
                if self.has(f"{block}.attentions.{layer}.norm"):
                    x = self.transformer(f"{block}.attentions.{layer}", x, context)
                skips.append(x)
            if self.has(f"{block}.downsamplers.0.conv"):
                x = self.conv(f"{block}.downsamplers.0.conv", x, stride=2)
                skips.append(x)
        x = self.resnet("mid_block.resnets.0", x, time, self.eps)
        x = self.resnet("mid_block.resnets.1", self.transformer("mid_block.attentions.0", x, context), time, self.eps)
        for level in range(len(self.channels)):
            block = f"up_blocks.{level}"
            for layer in range(self.layers + 1):
                x = self.resnet(f"{block}.resnets.{layer}", torch.cat([x, skips.pop()], dim=1), time, self.eps)
                if self.has(f"{block}.attentions.{layer}.norm"):
                    x = self.transformer(f"{block}.attentions.{layer}", x, context)
            if self.has(f"{block}.upsamplers.0.conv"):
                x = self.conv(f"{block}.upsamplers.0.conv", F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv("conv_out", F.silu(self.group_norm("conv_norm_out", x, self.eps)))


class Vae(Part):
    """AutoencoderKL."""

    def __init__(self, folder, dtype=torch.float32, device="cpu"):
        super().__init__(folder, dtype, device)
        self.layers = self.config.get("layers_per_block", 1)
        self.scaling_factor = self.config.get("scaling_factor", 0.18215)
        self.downscale = 2 ** (len(self.channels) - 1)

    def middle(self, name, x):
        x = self.resnet(f"{name}.resnets.0", x)
        positions = x.flatten(2).transpose(1, 2)
        normed = self.group_norm(f"{name}.attentions.0.group_norm", positions.transpose(1, 2), 1e-6).transpose(1, 2)
        y = self.attention(f"{name}.attentions.0", normed, normed, heads=1).transpose(-1, -2).reshape(x.shape)
        return self.resnet(f"{name}.resnets.1", (y + x) / 1.0)

    def encode(self, images):
        """Mean and standard deviation of the latents."""
        x = self.conv("encoder.conv_in", images)
        for level in range(len(self.channels)):
            block = f"encoder.down_blocks.{level}"
            for layer in range(self.layers):
                x = self.resnet(f"{block}.resnets.{layer}", x)
            if self.has(f"{block}.downsamplers.0.conv"):
                x = self.conv(f"{block}.downsamplers.0.conv", F.pad(x, (0, 1, 0, 1)), stride=2, padding=0)
        x = self.middle("encoder.mid_block", x)
        x = self.conv("encoder.conv_out", F.silu(self.group_norm("encoder.conv_norm_out", x, 1e-6)))
        mean, log_variance = self.conv("quant_conv", x, padding=0).chunk(2, dim=1)
        return mean, torch.exp(0.5 * log_variance.clamp(-30.0, 20.0))

    def decode(self, latents):
        x = self.conv("decoder.conv_in", self.conv("post_quant_conv", latents, padding=0))
        x = self.middle("decoder.mid_block", x)
        for level in range(len(self.channels)):
            block = f"decoder.up_blocks.{level}"
            for layer in range(self.layers + 1):
                x = self.resnet(f"{block}.resnets.{layer}", x)
            if self.has(f"{block}.upsamplers.0.conv"):
                x = self.conv(f"{block}.upsamplers.0.conv", F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv("decoder.conv_out", F.silu(self.group_norm("decoder.conv_norm_out", x, 1e-6)))
