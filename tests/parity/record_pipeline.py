"""Records whole rollouts and updates of the original Python implementation for pipeline_parity_test.cc, over the stored
models: rollouts and updates, guidance on and off, with and without clipping.

    python tests/parity/record_pipeline.py tests/data/parity/pipeline
"""
import json
import pathlib
import shutil
import string
import sys
import tempfile

from reference_pipeline import Reference, make_inputs  # First: sets up.

import torch
from safetensors.torch import load_file, save_file

MODELS = pathlib.Path(__file__).parent.parent / "data/parity/models"
NUM_STEPS, STRENGTH, BATCH = 6, 0.5, 4
CASES = {  # model, prompt, guidance, eta, guidance rescale of the rollout, norm that gradients are clipped to
    "sd1-plain": ("sd1", "", 1.0, 1.0, 0.0, 1.0),
    "sd1-guided": ("sd1", "a cat", 3.0, 0.5, 0.0, 0.01),
    "sd2-guided": ("sd2", "the cat", 7.5, 1.0, 0.0, 0.01),
    "sd2-rescaled": ("sd2", "the cat", 7.5, 1.0, 0.7, None),
}


def write_tokenizer(folder):
    """A tokenizer of 64 tokens: the letters, ten merges, begin and end."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = ["a t</w>", "t h", "th e</w>", "c at</w>", "i n</w>", "o n</w>", "a n</w>", "o f</w>", "p h", "t o</w>"]
    tokens = list(string.ascii_lowercase) + [c + "</w>" for c in string.ascii_lowercase]
    tokens += [merge.replace(" ", "") for merge in merges] + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(
        tokenizer_class="CLIPTokenizer", model_max_length=16, bos_token="<|startoftext|>", eos_token="<|endoftext|>",
        unk_token="<|endoftext|>", pad_token="<|endoftext|>")))


def write_scheduler(folder, prediction_type):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scheduler_config.json").write_text(json.dumps(dict(
        _class_name="DDIMScheduler", num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012,
        beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1,
        prediction_type=prediction_type)))


def assemble(model, stored, work):
    """A whole diffusers folder out of a stored model, the tokenizer and the scheduler."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel
    shutil.rmtree(work, ignore_errors=True)
    for part, kind in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL), ("text_encoder", CLIPTextModel)):
        source = shutil.copytree(MODELS / model / part, work / "stored" / part)
        variant = "fp16" if list(source.glob("*.fp16.*")) else None
        for path in source.glob("*.safetensors"):  # Older files have 1×1 convolutions for the VAE's attention.
            tensors = load_file(path)
            save_file({name: tensor.reshape(tensor.shape[:2]).contiguous() if "attentions" in name and tensor.ndim == 4 and part == "vae"
                       else tensor for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
        loaded = kind.from_pretrained(str(source), variant=variant)
        loaded.float().save_pretrained(str(work / part))
    shutil.copytree(stored / "tokenizer", work / "tokenizer")
    shutil.copytree(stored / f"scheduler-{model}", work / "scheduler")
    (work / "model_index.json").write_text(json.dumps(dict(
        _class_name="StableDiffusionPipeline", unet=["diffusers", "UNet2DConditionModel"], vae=["diffusers", "AutoencoderKL"],
        text_encoder=["transformers", "CLIPTextModel"], tokenizer=["transformers", "CLIPTokenizer"],
        scheduler=["diffusers", "DDIMScheduler"], safety_checker=[None, None], feature_extractor=[None, None],
        requires_safety_checker=False)))


def main():
    torch.set_num_threads(1)
    stored = pathlib.Path(sys.argv[1])
    write_tokenizer(stored / "tokenizer")
    write_scheduler(stored / "scheduler-sd1", "epsilon")
    write_scheduler(stored / "scheduler-sd2", "v_prediction")
    cases = {}
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for index, (name, (model, prompt, guidance, eta, rescale, max_norm)) in enumerate(CASES.items()):
            assemble(model, stored, scratch / "model")
            reference = Reference(scratch / "model", NUM_STEPS, scratch)
            inputs = make_inputs(scratch / "model", BATCH, 3, index)
            folder = stored / name
            folder.mkdir(exist_ok=True)
            reference.randomise_lora(index)
            reference.save_lora(folder / "lora.safetensors")
            save_file(inputs, folder / "inputs.safetensors")
            trajectory = reference.rollout(inputs, prompt, guidance, eta, STRENGTH, rescale)
            save_file(trajectory, folder / "trajectory.safetensors")
            cases[name] = dict(model=model, prompt=prompt, guidance_scale=guidance, eta=eta, guidance_rescale=rescale,
                               num_steps=NUM_STEPS, noise_strength=STRENGTH)
            if max_norm is None:  # The original's update forgets the rescale.
                continue
            update = reference.update(inputs, trajectory, guidance, eta, 2, 1, 2, max_norm)
            save_file(update, folder / "update.safetensors")
            reference.save_lora(folder / "lora-after.safetensors")
            cases[name].update(max_grad_norm=max_norm, train_batch_size=2, gradient_accumulation_steps=1, num_inner_epochs=2)
    (stored / "cases.json").write_text(json.dumps(cases, indent=1))


if __name__ == "__main__":
    main()
