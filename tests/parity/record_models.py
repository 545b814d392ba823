"""Records what diffusers and transformers compute with small random models, for models_parity_test.cc.

  record_models.py stored DIR            the cases kept in tests/data/parity/models (deterministic)
  record_models.py fresh DIR --seed N    the same shapes with other weights and inputs
  record_models.py plain DIR --seed N    models only, as diffusers writes and reads them
  record_models.py folder MODEL DIR      one case around an existing diffusers folder, which is linked, not copied
  record_models.py sd15-lora FILE        the header of the file that diffusers writes for a rank 4 LoRA on SD 1.5's UNet

A case is a diffusers folder (unet/, vae/, text_encoder/), a LoRA as diffusers saves it (lora/), and
reference.safetensors with inputs and expected outputs. Stored weights are rounded to fp16. The spellings of
real files are spread over the cases.

Needs: torch, diffusers, transformers, peft, safetensors.
"""

import argparse
import copy
import json
import os
import shutil
import tempfile

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]

SD1 = dict(
    unet=dict(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
        norm_num_groups=4, cross_attention_dim=8, attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ),
    vae=dict(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(4, 8), layers_per_block=1,
        norm_num_groups=2, sample_size=16, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    ),
    text=dict(
        vocab_size=64, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, hidden_act="quick_gelu",
    ),
    lora=dict(r=4, lora_alpha=4),
    size=(8, 8),
    spelling="plain",
)


def variant(**parts):
    case = copy.deepcopy(SD1)
    for key, value in parts.items():
        case[key] = {**case[key], **value} if isinstance(value, dict) else value
    return case


CASES = {
    "sd1": SD1,
    "sd2": variant(
        unet=dict(attention_head_dim=[2, 4], use_linear_projection=True, upcast_attention=True),
        text=dict(hidden_act="gelu"),
        lora=dict(r=3, lora_alpha=6),
        spelling="old",
    ),
    # What the two above leave at its default; latents of a size that the levels do not divide.
    "unusual": variant(
        unet=dict(
            in_channels=5, layers_per_block=[2, 1], block_out_channels=(4, 8), norm_eps=1e-3, act_fn="gelu",
            attention_head_dim=[1, 3], transformer_layers_per_block=[2, 1], only_cross_attention=[True, False],
            flip_sin_to_cos=False, freq_shift=1, center_input_sample=True, downsample_padding=0,
            mid_block_scale_factor=1.5, time_embedding_dim=24,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        ),
        vae=dict(
            block_out_channels=(4, 4, 8), layers_per_block=2, act_fn="mish", use_quant_conv=False,
            use_post_quant_conv=False, mid_block_add_attention=False,
            down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        ),
        size=(6, 10),
        spelling="sharded",
    ),
}


def build(case):
    unet, vae = UNet2DConditionModel(**case["unet"]), AutoencoderKL(**case["vae"])
    text = CLIPTextModel(CLIPTextConfig(bos_token_id=62, eos_token_id=63, pad_token_id=1, **case["text"]))
    for model in (unet, vae, text):
        for name, parameter in model.named_parameters():
            if "norm" in name:  # Random norms too, so that a forgotten scale or shift shows.
                parameter.data += 0.2 * torch.randn_like(parameter)
        model.half().float().eval()
    return unet, vae, text


def rename(file, change):
    """Rewrites a safetensors file with `change(name, tensor)` -> (name, tensor)."""
    tensors = load_file(file)
    save_file(dict(change(k, v) for k, v in tensors.items()), file, metadata={"format": "pt"})


def old_vae(name, tensor):
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        if f"attentions.0.{new}." in name:
            name = name.replace(new, old)
            if name.endswith("weight"):
                tensor = tensor[:, :, None, None].contiguous()
    return name, tensor


def save_models(unet, vae, text, spelling, folder):
    """fp16 files; which of the ways that real folders are laid out depends on `spelling`."""
    kind = {"plain": dict(variant="fp16"), "old": {}, "sharded": dict(max_shard_size="30KB")}[spelling]
    for name, model in (("unet", unet), ("vae", vae), ("text_encoder", text)):
        path = f"{folder}/{name}"
        copy.deepcopy(model).half().save_pretrained(path, **(kind if name != "text_encoder" else {}))
        config = json.load(open(f"{path}/config.json"))
        for key in ("dtype", "torch_dtype"):
            config.pop(key, None)
        json.dump(config, open(f"{path}/config.json", "w"), indent=2)
    if spelling == "old":
        rename(f"{folder}/vae/diffusion_pytorch_model.safetensors", old_vae)
        file = f"{folder}/text_encoder/model.safetensors"
        rename(file, lambda k, v: (k if k.startswith("text_model.") else f"text_model.{k}", v))
        tensors = load_file(file)
        tensors["text_model.embeddings.position_ids"] = torch.arange(text.config.max_position_embeddings)[None]
        save_file(tensors, file, metadata={"format": "pt"})
    elif spelling == "plain":
        rename(f"{folder}/text_encoder/model.safetensors", lambda k, v: (k.removeprefix("text_model."), v))


def record_text(text):
    length = text.config.max_position_embeddings
    ids = torch.randint(0, text.config.vocab_size, (2, length))
    return {"text.ids": ids, "text.out": text(ids).last_hidden_state}


def record_vae(vae, size):
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    images = torch.rand(2, vae.config.in_channels, size[0] * factor, size[1] * factor) * 2 - 1
    posterior = vae.encode(images).latent_dist
    latents = torch.randn(2, vae.config.latent_channels, *size)
    return {"vae.images": images, "vae.mean": posterior.mean, "vae.std": posterior.std,
            "vae.latents": latents, "vae.decoded": vae.decode(latents).sample}


def record_unet(unet, text_length, size, lora, folder):
    c = unet.config
    width = c.cross_attention_dim if isinstance(c.cross_attention_dim, int) else c.cross_attention_dim[0]
    x = {"unet.latents": torch.randn(2, c.in_channels, *size), "unet.timesteps": torch.tensor([981, 1]),
         "unet.context": torch.randn(2, text_length, width), "unet.probe": torch.randn(2, c.out_channels, *size)}
    args = x["unet.latents"], x["unet.timesteps"], x["unet.context"]
    with torch.no_grad():
        x["unet.out"] = unet(*args).sample
    unet.requires_grad_(False)
    config = LoraConfig(init_lora_weights="gaussian", target_modules=TARGETS, **lora)
    unet.add_adapter(config)
    for name, parameter in unet.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter) * (0.25 if "lora_A" in name else 0.05)
    out = unet(*args).sample
    (out * x["unet.probe"]).sum().backward()
    x["unet.lora_out"] = out.detach()
    for name, parameter in unet.named_parameters():
        if parameter.grad is not None:
            name = name.replace(".default", "").replace(".lora_A.", ".lora.down.").replace(".lora_B.", ".lora.up.")
            x[f"unet.grad.unet.{name}"] = parameter.grad
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    metadata = None if lora["r"] == lora["lora_alpha"] else dict(
        r=lora["r"], lora_alpha=lora["lora_alpha"], target_modules=TARGETS, rank_pattern={}, alpha_pattern={})
    StableDiffusionPipeline.save_lora_weights(f"{folder}/lora", unet_lora_layers=layers, safe_serialization=True,
                                              unet_lora_adapter_metadata=metadata)
    return x


def record(unet, vae, text, size, lora, folder):
    with torch.no_grad():
        x = {**record_text(text), **record_vae(vae, size)}
    x.update(record_unet(unet, text.config.max_position_embeddings, size, lora, folder))
    save_file({k: v.detach().contiguous() for k, v in x.items()}, f"{folder}/reference.safetensors")


def record_cases(root, seed, plain=False):
    for i, (name, case) in enumerate(CASES.items()):
        torch.manual_seed(seed * 1000 + i)
        folder = f"{root}/{name}"
        shutil.rmtree(folder, ignore_errors=True)
        models = build(case)
        if plain:
            for part, model in zip(("unet", "vae", "text_encoder"), models):
                model.save_pretrained(f"{folder}/{part}")
            continue
        save_models(*models, case["spelling"], folder)
        record(*models, case["size"], case["lora"], folder)


def record_folder(model, folder):
    torch.manual_seed(0)
    os.makedirs(folder, exist_ok=True)
    for part in ("unet", "vae", "text_encoder"):
        if not os.path.lexists(f"{folder}/{part}"):
            os.symlink(os.path.abspath(f"{model}/{part}"), f"{folder}/{part}")
    unet = UNet2DConditionModel.from_pretrained(f"{model}/unet", torch_dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(f"{model}/vae", torch_dtype=torch.float32)
    text = CLIPTextModel.from_pretrained(f"{model}/text_encoder", torch_dtype=torch.float32)
    side = unet.config.sample_size
    record(unet.eval(), vae.eval(), text.eval(), (side, side), dict(r=4, lora_alpha=4), folder)


def record_sd15_lora(file):
    """Names, shapes and offsets of all tensors at true size, without their values: the safetensors header alone."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=64, block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768, attention_head_dim=8)
        unet.requires_grad_(False)
        unet.add_adapter(LoraConfig(r=4, lora_alpha=4, init_lora_weights="gaussian", target_modules=TARGETS))
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    with tempfile.TemporaryDirectory() as folder:
        StableDiffusionPipeline.save_lora_weights(
            folder, unet_lora_layers={name: torch.zeros(layer.shape) for name, layer in layers.items()})
        with open(f"{folder}/pytorch_lora_weights.safetensors", "rb") as written, open(file, "wb") as header:
            length = written.read(8)
            header.write(length + written.read(int.from_bytes(length, "little")))


if __name__ == "__main__":
    torch.set_num_threads(2)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("stored").add_argument("dir")
    for name in ("fresh", "plain"):
        command = commands.add_parser(name)
        command.add_argument("dir")
        command.add_argument("--seed", type=int, default=1)
    folder = commands.add_parser("folder")
    folder.add_argument("model")
    folder.add_argument("dir")
    commands.add_parser("sd15-lora").add_argument("file")
    args = parser.parse_args()
    if args.command == "folder":
        record_folder(args.model, args.dir)
    elif args.command == "sd15-lora":
        record_sd15_lora(args.file)
    else:
        record_cases(args.dir, 0 if args.command == "stored" else args.seed, plain=args.command == "plain")
