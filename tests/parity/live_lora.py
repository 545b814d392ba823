"""Our LoRA files in diffusers: load_lora_weights must read them, bind every module and give our outputs.

  live_lora.py MODEL PARITY_LIVE_LORA     a diffusers folder and the program built from live_lora.cc

PEFT alone must make the same of the configuration in their headers. Tries alpha = rank, alpha != rank, and LoRAs that diffusers and kohya's scripts would write, through ours and back.
"""

import json
import os
import subprocess
import sys
import tempfile

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import load_file, save_file

TOLERANCE = 2e-5


def pipeline(model):
    return StableDiffusionPipeline(
        unet=UNet2DConditionModel.from_pretrained(f"{model}/unet", torch_dtype=torch.float32),
        vae=AutoencoderKL.from_pretrained(f"{model}/vae", torch_dtype=torch.float32),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False), text_encoder=None, tokenizer=None, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False)


def outputs(pipe, x):
    with torch.no_grad():
        noise = pipe.unet(x["latents"], x["timesteps"], x["context"]).sample
        image = pipe.vae.decode((x["latents"] - noise) / pipe.vae.config.scaling_factor).sample
    return {"noise": noise, "image": image}


def in_peft(model, file):
    """A pipeline with the LoRA as PEFT reads file and header."""
    with safe_open(file, "pt") as opened:
        header = json.loads(opened.metadata()["lora_adapter_metadata"])
    pipe = pipeline(model)
    wrapped = get_peft_model(pipe.unet, LoraConfig(**{key.removeprefix("unet."): value for key, value in header.items()}))
    state = {"base_model.model." + key.removeprefix("unet.").replace(".lora.down.", ".lora_A.").replace(".lora.up.", ".lora_B."): value
             for key, value in load_file(file).items()}
    assert not set_peft_model_state_dict(wrapped, state).unexpected_keys
    return pipe


def check(name, model, program, inputs, folder, args):
    subprocess.run([program, model, inputs, folder, *args], check=True)
    x, ours = load_file(inputs), load_file(f"{folder}/ours/outputs.safetensors")
    pipe = pipeline(model)
    base = outputs(pipe, x)
    pipe.load_lora_weights(folder, weight_name="pytorch_lora_weights.safetensors")
    bound = sum(isinstance(m, LoraLayer) for m in pipe.unet.modules())
    file_modules = len(load_file(f"{folder}/pytorch_lora_weights.safetensors")) // 2
    theirs, in_pefts = outputs(pipe, x), outputs(in_peft(model, f"{folder}/pytorch_lora_weights.safetensors"), x)
    for key in ("noise", "image"):
        error = (theirs[key] - ours[key]).abs().max().item()
        effect = (theirs[key] - base[key]).abs().max().item()
        print(f"{name}: {key} max error {error:.2e}, the LoRA's effect {effect:.2e}, {bound} of {file_modules} modules")
        assert error < TOLERANCE and effect > 100 * TOLERANCE and bound == file_modules, name
        assert (theirs[key] - in_pefts[key]).abs().max().item() < TOLERANCE, f"{name}: PEFT reads it otherwise than diffusers"


def kohya(source, target, alpha):
    """The same LoRA with the names of kohya's training scripts."""
    out = {}
    for key, tensor in load_file(source).items():
        path, _, part = key.removeprefix("unet.").rpartition(".lora.")
        flat = "lora_unet_" + path.replace(".", "_")
        out[f"{flat}.lora_{part}"] = tensor.half()
        out[f"{flat}.alpha"] = torch.tensor(float(alpha))
    save_file(out, target)


def mixed(source, target):
    """A LoRA whose modules differ in rank and alpha, with PEFT's names."""
    out = {}
    for i, (key, tensor) in enumerate(sorted(load_file(source).items())):
        path, _, part = key.removeprefix("unet.").rpartition(".lora.")
        rank = 1 + (i // 2) % 3
        out[f"{path}.{'lora_A' if part == 'down.weight' else 'lora_B'}.weight"] = (
            tensor[:rank] if part == "down.weight" else tensor[:, :rank]).contiguous()
        out[f"{path}.alpha"] = torch.tensor(0.5 * (1 + (i // 2) % 4))
    save_file(out, target)


def main(model, program):
    torch.manual_seed(0)
    torch.set_num_threads(2)
    c = UNet2DConditionModel.load_config(f"{model}/unet")
    with tempfile.TemporaryDirectory() as tmp:
        inputs = f"{tmp}/inputs.safetensors"
        save_file({"latents": torch.randn(2, c["in_channels"], c["sample_size"], c["sample_size"]),
                   "timesteps": torch.tensor([601, 21]), "context": torch.randn(2, 16, c["cross_attention_dim"])}, inputs)
        for rank, alpha in ((4, 4), (4, 8), (3, 0.75)):
            check(f"rank {rank} alpha {alpha}", model, program, inputs, f"{tmp}/{rank}-{alpha}", [str(rank), str(alpha)])
        kohya(f"{tmp}/4-4/pytorch_lora_weights.safetensors", f"{tmp}/kohya.safetensors", 2)
        check("kohya, alpha 2", model, program, inputs, f"{tmp}/from-kohya", [f"{tmp}/kohya.safetensors"])
        mixed(f"{tmp}/4-4/pytorch_lora_weights.safetensors", f"{tmp}/mixed.safetensors")
        check("mixed ranks and alphas", model, program, inputs, f"{tmp}/from-mixed", [f"{tmp}/mixed.safetensors"])
        pipe = pipeline(model)
        pipe.load_lora_weights(f"{tmp}/kohya.safetensors")
        theirs = outputs(pipe, load_file(inputs))["noise"]
        error = (theirs - load_file(f"{tmp}/from-kohya/ours/outputs.safetensors")["noise"]).abs().max().item()
        print(f"kohya's file in diffusers and in ours: {error:.2e}")
        assert error < TOLERANCE


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    main(*sys.argv[1:])
