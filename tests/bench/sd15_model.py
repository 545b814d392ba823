#!/usr/bin/env python3
"""A model folder of Stable Diffusion 1.5's shape without its weights: sd15_model.py FOLDER

The parts that are not the UNet (sd15_unet.py) beside it, weights again sparse zeros in fp16; tokenizer and
scheduler are the demo's. For measuring what stages cost, which does not depend on the values.
"""
import json
import math
import pathlib
import shutil
import sys

import sd15_unet
from sd15_unet import SD15

DEMO = pathlib.Path(__file__).resolve().parents[2] / "deploy/demo/tiny-sd"


def vae_resnet(shapes, name, into, out):
    sd15_unet.norm(shapes, f"{name}.norm1", into)
    sd15_unet.conv(shapes, f"{name}.conv1", out, into, 3)
    sd15_unet.norm(shapes, f"{name}.norm2", out)
    sd15_unet.conv(shapes, f"{name}.conv2", out, out, 3)
    if into != out:
        sd15_unet.conv(shapes, f"{name}.conv_shortcut", out, into, 1)


def vae_mid(shapes, name, channels):
    vae_resnet(shapes, f"{name}.resnets.0", channels, channels)
    sd15_unet.norm(shapes, f"{name}.attentions.0.group_norm", channels)
    for layer in ("to_q", "to_k", "to_v", "to_out.0"):
        sd15_unet.linear(shapes, f"{name}.attentions.0.{layer}", channels, channels)
    vae_resnet(shapes, f"{name}.resnets.1", channels, channels)


def vae(sizes=SD15):
    shapes, channels = {}, sizes.vae
    sd15_unet.conv(shapes, "encoder.conv_in", channels[0], 3, 3)
    into = channels[0]
    for level, out in enumerate(channels):
        for layer in range(2):
            vae_resnet(shapes, f"encoder.down_blocks.{level}.resnets.{layer}", into, out)
            into = out
        if level < 3:
            sd15_unet.conv(shapes, f"encoder.down_blocks.{level}.downsamplers.0.conv", out, out, 3)
    vae_mid(shapes, "encoder.mid_block", into)
    sd15_unet.norm(shapes, "encoder.conv_norm_out", into)
    sd15_unet.conv(shapes, "encoder.conv_out", 8, into, 3)
    sd15_unet.conv(shapes, "quant_conv", 8, 8, 1)
    sd15_unet.conv(shapes, "post_quant_conv", 4, 4, 1)
    sd15_unet.conv(shapes, "decoder.conv_in", into, 4, 3)
    vae_mid(shapes, "decoder.mid_block", into)
    for level, out in enumerate(reversed(channels)):
        for layer in range(3):
            vae_resnet(shapes, f"decoder.up_blocks.{level}.resnets.{layer}", into, out)
            into = out
        if level < 3:
            sd15_unet.conv(shapes, f"decoder.up_blocks.{level}.upsamplers.0.conv", out, out, 3)
    sd15_unet.norm(shapes, "decoder.conv_norm_out", into)
    sd15_unet.conv(shapes, "decoder.conv_out", 3, into, 3)
    return shapes


def text_encoder(sizes=SD15):
    width = sizes.context
    shapes = {"text_model.embeddings.token_embedding.weight": [sizes.vocabulary, width],
              "text_model.embeddings.position_embedding.weight": [77, width]}
    for number in range(sizes.text_layers):
        layer = f"text_model.encoder.layers.{number}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            sd15_unet.linear(shapes, f"{layer}.self_attn.{name}", width, width)
        sd15_unet.linear(shapes, f"{layer}.mlp.fc1", 4 * width, width)
        sd15_unet.linear(shapes, f"{layer}.mlp.fc2", width, 4 * width)
        sd15_unet.norm(shapes, f"{layer}.layer_norm1", width)
        sd15_unet.norm(shapes, f"{layer}.layer_norm2", width)
    sd15_unet.norm(shapes, "text_model.final_layer_norm", width)
    return shapes


def write(folder, config, stem, shapes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    sd15_unet.write_zeros(folder / f"{stem}.fp16.safetensors", shapes)


def write_model(folder, sizes=SD15):
    sd15_unet.write_unet(folder / "unet", sizes)
    write(folder / "vae", {
        "_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": sizes.vae,
        "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4, "in_channels": 3,
        "out_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": sizes.norm_groups, "sample_size": sizes.image},
        "diffusion_pytorch_model", vae(sizes))
    write(folder / "text_encoder", {
        "model_type": "clip_text_model", "hidden_act": "quick_gelu", "hidden_size": sizes.context, "intermediate_size": 4 * sizes.context,
        "num_attention_heads": 12, "num_hidden_layers": sizes.text_layers, "max_position_embeddings": 77, "vocab_size": sizes.vocabulary},
        "model", text_encoder(sizes))
    for part in ("tokenizer", "scheduler"):
        shutil.copytree(DEMO / part, folder / part, dirs_exist_ok=True)


def main():
    folder = pathlib.Path(sys.argv[1])
    write_model(folder)
    print(f"{folder}: {sum(map(math.prod, sd15_unet.unet().values())):,} parameters in the UNet")


if __name__ == "__main__":
    main()
