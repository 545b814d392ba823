"""Records LoRA files as people have them, and what diffusers and PEFT compute with each, for lora_files_parity_test.cc.

  record_lora_files.py MODEL DIR [--seed N]    MODEL: a diffusers folder (unet/, vae/), as in tests/data/parity/models

A case is a folder of DIR: the file or folder that `lora.init_from` names, case.json (that name, and whether modules
that are not trained have to be skipped) and expected.safetensors with inputs, the UNet's output and the VAE's image.

Needs: torch, diffusers, peft, safetensors.
"""

import argparse
import json
import os
import pathlib
import re

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_kohya
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
# What kohya's scripts train in the UNet: all linear layers of the transformers, and their 1×1 convolutions.
TRANSFORMER = ATTENTION + ["ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
RESNETS = ["time_emb_proj", "conv_shortcut"]
# What the sites that share these files show of their headers.
CIVITAI = {
    "ss_network_module": "networks.lora", "ss_network_dim": "4", "ss_network_alpha": "2.0", "ss_base_model_version": "sd_v1", "ss_epoch": "10",
    "ss_sd_model_name": "model.safetensors", "ss_tag_frequency": '{"10_cat": {"a cat": 12}}', "ss_network_args": "{}", "sshs_model_hash": "0" * 64,
    "sshs_legacy_hash": "0" * 8, "modelspec.architecture": "stable-diffusion-v1/lora", "modelspec.title": "a cat", "format": "pt"}


class Recorder:
    def __init__(self, model, directory, seed):
        self.model, self.directory = pathlib.Path(model), pathlib.Path(directory)
        generator = torch.Generator().manual_seed(seed)
        config = UNet2DConditionModel.load_config(self.model / "unet")
        size = config["sample_size"]
        self.inputs = {"latents": torch.randn(2, config["in_channels"], size, size, generator=generator), "timesteps": torch.tensor([601, 21]),
                       "context": torch.randn(2, 7, config["cross_attention_dim"], generator=generator)}
        self.vae = self.load(AutoencoderKL, "vae")

    def load(self, kind, part):
        variant = "fp16" if list((self.model / part).glob("*.fp16.safetensors")) else None
        return kind.from_pretrained(self.model / part, variant=variant, torch_dtype=torch.float32)

    def unet(self):
        return self.load(UNet2DConditionModel, "unet")

    def outputs(self, unet):
        with torch.no_grad():
            noise = unet(self.inputs["latents"], self.inputs["timesteps"], self.inputs["context"]).sample
            image = self.vae.decode((self.inputs["latents"] - noise) / self.vae.config.scaling_factor).sample
        return {"noise": noise.contiguous(), "image": image.contiguous()}

    def folder(self, name):
        folder = self.directory / name
        folder.mkdir(parents=True)
        return folder

    def finish(self, folder, unet, init_from, skip=False):
        found, base = self.outputs(unet), self.outputs(self.unet())
        effect = (found["image"] - base["image"]).abs().max().item()
        print(f"{folder.name}: the LoRA changes the image by up to {effect:.2e}")
        assert effect > 2e-3, "hardly any effect: the comparison would say nothing"
        save_file(dict(self.inputs, **found), folder / "expected.safetensors")
        (folder / "case.json").write_text(json.dumps(dict(init_from=init_from, skip=skip)) + "\n")

    def in_diffusers(self, folder, init_from, skip=False):
        """What diffusers' load_lora_weights makes of a file for the UNet."""
        unet = self.unet()
        state_dict, alphas, metadata = StableDiffusionPipeline.lora_state_dict(
            str(folder / init_from), unet_config=unet.config, return_lora_metadata=True)
        StableDiffusionPipeline.load_lora_into_unet(state_dict, network_alphas=alphas, unet=unet, metadata=metadata)
        self.finish(folder, unet, init_from, skip)


def adapter(unet, seed, **config):
    """A random LoRA on the UNet, wrapped by PEFT."""
    torch.manual_seed(seed)
    return get_peft_model(unet, LoraConfig(**dict(dict(r=4, lora_alpha=16, target_modules=ATTENTION, init_lora_weights=False), **config)))


def pairs(model):
    """path: (down, up, alpha) of each module."""
    return {name: (m.lora_A["default"].weight.data, m.lora_B["default"].weight.data, m.lora_alpha["default"])
            for name, m in model.base_model.model.named_modules() if hasattr(m, "lora_A")}


def kohya(model, name_of=lambda path: path, alpha=lambda value: torch.tensor(float(value)), dtype=torch.float16):
    out = {}
    for path, (down, up, value) in pairs(model).items():
        flat = "lora_unet_" + name_of(path).replace(".", "_")
        out.update({f"{flat}.lora_down.weight": down.to(dtype).contiguous(), f"{flat}.lora_up.weight": up.to(dtype).contiguous(),
                    f"{flat}.alpha": alpha(value)})
    return out


def original_name(path, layers):
    """A block's name in the original Stable Diffusion, for a UNet with so many layers in each down block."""
    inner = {"time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}
    match = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*)", path)
    if match:
        side, block, kind, layer, rest = match.groups()
        number = int(block) * (layers + 1) + int(layer) + (1 if side == "down" else 0)
        return f"{'input' if side == 'down' else 'output'}_blocks.{number}.{int(kind == 'attentions')}.{inner.get(rest, rest)}"
    match = re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", path)
    kind, layer, rest = match.groups()
    return f"middle_block.{2 * int(layer) + int(kind == 'attentions')}.{inner.get(rest, rest)}"


def text_encoder_keys(dtype):
    out = {}
    for prefix, layer in (("lora_te", "self_attn_q_proj"), ("lora_te", "mlp_fc1")):
        flat = f"{prefix}_text_model_encoder_layers_0_{layer}"
        out.update({f"{flat}.lora_down.weight": torch.randn(4, 8, dtype=dtype), f"{flat}.lora_up.weight": torch.randn(8, 4, dtype=dtype),
                    f"{flat}.alpha": torch.tensor(2.0, dtype=dtype)})
    return out


def record_kohya(recorder):
    def case(name, tensors, metadata=None, skip=False):
        folder = recorder.folder(name)
        save_file(tensors, folder / "lora.safetensors", metadata=metadata)
        recorder.in_diffusers(folder, "lora.safetensors", skip)

    half = lambda value: torch.tensor(float(value), dtype=torch.float16)
    model = adapter(recorder.unet(), 1, lora_alpha=2, target_modules=TRANSFORMER)
    case("kohya-text-encoder", {**kohya(model, alpha=half), **text_encoder_keys(torch.float16)}, CIVITAI, skip=True)
    case("kohya-bfloat16", kohya(adapter(recorder.unet(), 2, lora_alpha=1), alpha=lambda v: torch.tensor([v], dtype=torch.bfloat16),
                                 dtype=torch.bfloat16), {"ss_network_alpha": "1"})
    state = {}
    for path, (down, up, _) in pairs(adapter(recorder.unet(), 3)).items():
        state.update({f"unet.{path}.lora_A.weight": down, f"unet.{path}.lora_B.weight": up})
    case("kohya-by-diffusers", {key: value.contiguous() for key, value in convert_state_dict_to_kohya(state).items()})
    layers = recorder.unet().config.layers_per_block
    model = adapter(recorder.unet(), 4, lora_alpha=2, target_modules=TRANSFORMER + RESNETS)
    case("kohya-original-names", kohya(model, lambda path: original_name(path, layers)))


def record_peft(recorder):
    for name, config in {
        "peft-folder": {},
        "peft-rank-stabilised": dict(use_rslora=True, lora_alpha=2, target_modules=TRANSFORMER),
        "peft-patterns": dict(rank_pattern={"attn1.to_q": 2, r".*attn2\.to_(k|v)": 3}, alpha_pattern={"to_k": 5, "^mid_block.*": 12, r"attn\d\.to_q": 7}),
    }.items():
        folder = recorder.folder(name)
        adapter(recorder.unet(), 5, **config).save_pretrained(folder / "adapter")
        (folder / "adapter" / "README.md").unlink(missing_ok=True)
        recorder.finish(folder, PeftModel.from_pretrained(recorder.unet(), folder / "adapter"), "adapter")


def record_diffusers(recorder):
    def adapted(seed):
        torch.manual_seed(seed)
        unet = recorder.unet()
        unet.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=TRANSFORMER, init_lora_weights=False))
        return unet

    folder = recorder.folder("diffusers-save-adapter")
    adapted(6).save_lora_adapter(folder, weight_name="adapter.safetensors")
    unet = recorder.unet()
    unet.load_lora_adapter(str(folder), weight_name="adapter.safetensors", prefix=None)  # A path to the file would lose the header.
    recorder.finish(folder, unet, "adapter.safetensors")

    folder = recorder.folder("diffusers-attention-processors")  # As before diffusers 0.21.
    tensors = {}
    for path, (down, up, _) in pairs(adapter(recorder.unet(), 7)).items():
        attention, _, layer = path.removesuffix(".0").rpartition(".")
        tensors.update({f"unet.{attention}.processor.{layer}_lora.down.weight": down, f"unet.{attention}.processor.{layer}_lora.up.weight": up})
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "pytorch_lora_weights.safetensors")
    recorder.in_diffusers(folder, "pytorch_lora_weights.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("directory")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recorder = Recorder(options.model, options.directory, options.seed)
    record_kohya(recorder)
    record_peft(recorder)
    record_diffusers(recorder)


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    main()
