#!/usr/bin/env python3
"""A UNet of Stable Diffusion 1.5's shape without its weights: sd15_unet.py FOLDER

Writes config.json and a sparse safetensors file of zeros in fp16, which takes no space on disk. What a
step costs does not depend on the values.
"""
import dataclasses
import json
import math
import pathlib
import sys


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The true ones; smaller ones give the same structure with fewer channels."""
    unet: tuple = (320, 640, 1280, 1280)
    vae: tuple = (128, 256, 512, 512)
    context: int = 768  # of the text encoder and of cross attention
    text_layers: int = 12
    vocabulary: int = 49408
    norm_groups: int = 32
    image: int = 512  # pixels of a side

    @property
    def time(self):
        return 4 * self.unet[0]


SD15 = Sizes()


def linear(shapes, name, out, into, bias=True):
    shapes[f"{name}.weight"] = [out, into]
    if bias:
        shapes[f"{name}.bias"] = [out]


def conv(shapes, name, out, into, kernel):
    shapes[f"{name}.weight"] = [out, into, kernel, kernel]
    shapes[f"{name}.bias"] = [out]


def norm(shapes, name, channels):
    shapes[f"{name}.weight"] = [channels]
    shapes[f"{name}.bias"] = [channels]


def resnet(shapes, name, into, out, time):
    norm(shapes, f"{name}.norm1", into)
    conv(shapes, f"{name}.conv1", out, into, 3)
    linear(shapes, f"{name}.time_emb_proj", out, time)
    norm(shapes, f"{name}.norm2", out)
    conv(shapes, f"{name}.conv2", out, out, 3)
    if into != out:
        conv(shapes, f"{name}.conv_shortcut", out, into, 1)


def transformer(shapes, name, channels, context):
    norm(shapes, f"{name}.norm", channels)
    conv(shapes, f"{name}.proj_in", channels, channels, 1)
    block = f"{name}.transformer_blocks.0"
    for number, read in ((1, channels), (2, context)):
        linear(shapes, f"{block}.attn{number}.to_q", channels, channels, bias=False)
        linear(shapes, f"{block}.attn{number}.to_k", channels, read, bias=False)
        linear(shapes, f"{block}.attn{number}.to_v", channels, read, bias=False)
        linear(shapes, f"{block}.attn{number}.to_out.0", channels, channels)
    for number in (1, 2, 3):
        norm(shapes, f"{block}.norm{number}", channels)
    linear(shapes, f"{block}.ff.net.0.proj", 8 * channels, channels)
    linear(shapes, f"{block}.ff.net.2", channels, 4 * channels)
    conv(shapes, f"{name}.proj_out", channels, channels, 1)


def unet(sizes=SD15):
    shapes, channels = {}, sizes.unet
    conv(shapes, "conv_in", channels[0], 4, 3)
    linear(shapes, "time_embedding.linear_1", sizes.time, channels[0])
    linear(shapes, "time_embedding.linear_2", sizes.time, sizes.time)
    skips = [channels[0]]
    into = channels[0]
    for level, out in enumerate(channels):
        for layer in range(2):
            resnet(shapes, f"down_blocks.{level}.resnets.{layer}", into, out, sizes.time)
            if level < 3:
                transformer(shapes, f"down_blocks.{level}.attentions.{layer}", out, sizes.context)
            into = out
            skips.append(out)
        if level < 3:
            conv(shapes, f"down_blocks.{level}.downsamplers.0.conv", out, out, 3)
            skips.append(out)
    resnet(shapes, "mid_block.resnets.0", into, into, sizes.time)
    transformer(shapes, "mid_block.attentions.0", into, sizes.context)
    resnet(shapes, "mid_block.resnets.1", into, into, sizes.time)
    for level, out in enumerate(reversed(channels)):
        for layer in range(3):
            resnet(shapes, f"up_blocks.{level}.resnets.{layer}", into + skips.pop(), out, sizes.time)
            if level > 0:
                transformer(shapes, f"up_blocks.{level}.attentions.{layer}", out, sizes.context)
            into = out
        if level < 3:
            conv(shapes, f"up_blocks.{level}.upsamplers.0.conv", out, out, 3)
    norm(shapes, "conv_norm_out", into)
    conv(shapes, "conv_out", 4, into, 3)
    return shapes


def write_zeros(path, shapes):
    """A safetensors file of fp16 zeros that takes no space on disk."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)


def write_unet(folder, sizes=SD15):
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "_class_name": "UNet2DConditionModel", "act_fn": "silu", "attention_head_dim": 8,
        "block_out_channels": sizes.unet, "center_input_sample": False, "cross_attention_dim": sizes.context,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "downsample_padding": 1,
        "flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
        "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": sizes.norm_groups, "out_channels": 4,
        "sample_size": sizes.image // 8, "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    write_zeros(folder / "diffusion_pytorch_model.fp16.safetensors", unet(sizes))


if __name__ == "__main__":
    write_unet(pathlib.Path(sys.argv[1]))
