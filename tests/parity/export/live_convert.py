"""deploy/convert on checkpoints made of the demo's model: every tensor comes back, and what cannot be converted is refused by name.

    python tests/parity/export/live_convert.py     needs torch, diffusers, transformers, accelerate, open_clip_torch, safetensors
"""
import contextlib
import io
import json
import os
import pathlib
import runpy
import shutil
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
sys.dont_write_bytecode = True
os.environ["HF_HUB_OFFLINE"] = "1"
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import ldm_names  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]
TINY = ROOT / "deploy/demo/tiny-sd"
CONVERT = ROOT / "deploy/convert"
PARTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
sys.path.insert(0, str(CONVERT))
import families  # noqa: E402


def convert(*arguments):
    """Runs the command line; returns its message, empty where it succeeded, and what it printed."""
    printed, before = io.StringIO(), sys.argv
    sys.argv = ["convert", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            runpy.run_path(str(CONVERT), run_name="__main__")
    except SystemExit as stop:
        return str(stop.code or ""), printed.getvalue()
    finally:
        sys.argv = before
    return "", printed.getvalue()


def tiny(part):
    return load_file(str(TINY / part / f"{PARTS[part]}.safetensors"))


def config(part):
    return json.loads((TINY / part / "config.json").read_text())


def expect_tiny(what, folder, expected=None):
    """The folder's tensors are the demo's, bit for bit."""
    for part, name in PARTS.items():
        found, wanted = load_file(str(folder / part / f"{name}.safetensors")), (expected or {}).get(part) or tiny(part)
        if set(found) != set(wanted):
            sys.exit(f"{what}: {part} differs in {sorted(set(found) ^ set(wanted))[:4]}")
        for key, value in wanted.items():
            if not torch.equal(found[key], value):
                sys.exit(f"{what}: {part}: {key} has other values")
    for file in ("scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt", "unet/config.json"):
        if not (folder / file).exists():
            sys.exit(f"{what}: {file} is missing")
    print(f"    {what}: every tensor")


class Callback:
    """Something of a trainer, as Stable Diffusion 1.4's checkpoint has it."""

    def __init__(self):
        self.best = {"path": pathlib.PurePosixPath("/x")}


class Harm:
    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.mkdir, (str(self._path),)


def check_single_files(scratch):
    tensors = ldm_names.checkpoint(tiny("unet"), tiny("vae"), tiny("text_encoder"), config("unet"), config("vae"))
    save_file({name: value.contiguous() for name, value in tensors.items()}, str(scratch / "tiny.safetensors"))
    done = convert(scratch / "tiny.safetensors", scratch / "from-safetensors", "--config", TINY)
    assert done[0] == "", done
    expect_tiny("a .safetensors file", scratch / "from-safetensors")

    harmed = scratch / "harmed"
    torch.save({"state_dict": tensors, "callbacks": {Callback: Callback()}, "epoch": 3, "harm": Harm(harmed)}, scratch / "tiny.ckpt")
    said, printed = convert(scratch / "tiny.ckpt", scratch / "from-ckpt", "--config", TINY)
    assert said == "", said
    assert "Callback" in printed and "ignored" in printed, printed
    assert not harmed.exists(), "a pickle was allowed to run mkdir"
    expect_tiny("a .ckpt file with foreign objects", scratch / "from-ckpt")
    torch.save(tensors, scratch / "old.ckpt", _use_new_zipfile_serialization=False)
    assert convert(scratch / "old.ckpt", scratch / "from-old", "--config", TINY)[0] == ""
    expect_tiny("a .ckpt file in torch's old format", scratch / "from-old")

    averages = {f"model_ema.{name[len('model.'):].replace('.', '')}": value + 1 for name, value in tensors.items()
                if name.startswith("model.diffusion_model.")}
    torch.save({"state_dict": {**tensors, **averages}}, scratch / "ema.ckpt")
    assert convert(scratch / "ema.ckpt", scratch / "plain", "--config", TINY)[0] == ""
    expect_tiny("a file with running averages, without --ema", scratch / "plain")
    assert convert(scratch / "ema.ckpt", scratch / "ema", "--config", TINY, "--ema")[0] == ""
    expect_tiny("the running averages", scratch / "ema", {"unet": {name: value + 1 for name, value in tiny("unet").items()}})

    half = {name: value.half() for name, value in tensors.items()}
    save_file({name: value.contiguous() for name, value in half.items()}, str(scratch / "half.safetensors"))
    assert convert(scratch / "half.safetensors", scratch / "half", "--config", TINY)[0] == ""
    expect_tiny("a file of fp16", scratch / "half", {part: {name: value.half() for name, value in tiny(part).items()} for part in PARTS})
    said, _ = convert(scratch / "tiny.safetensors", scratch / "v", "--config", TINY, "--prediction-type", "v_prediction")
    assert said == "" and json.loads((scratch / "v/scheduler/scheduler_config.json").read_text())["prediction_type"] == "v_prediction", said
    return tensors


def check_refusals(scratch, tensors):
    def without(prefix):
        return {name: value for name, value in tensors.items() if not name.startswith(prefix)}

    first = "model.diffusion_model.input_blocks.0.0.weight"
    whole = (scratch / "tiny.ckpt").read_bytes()
    (scratch / "pointer.ckpt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (scratch / "cut.ckpt").write_bytes(whole[:len(whole) // 2])
    (scratch / "cut.safetensors").write_bytes((scratch / "tiny.safetensors").read_bytes()[:5000])
    (scratch / "text.ckpt").write_text("not a checkpoint\n" * 100)
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(scratch / "program.ckpt"))
    content = {
        "sdxl": {**tensors, "conditioner.embedders.0.transformer.x": torch.zeros(1)},
        "flux": {"double_blocks.0.img_attn.qkv.weight": torch.zeros(1)},
        "lora": {"lora_unet_down_blocks_0.lora_up.weight": torch.zeros(1)},
        "inpainting": {**tensors, first: torch.zeros(32, 9, 3, 3)},
        "no-vae": without("first_stage_model."),
        "no-text": without("cond_stage_model."),
        "more": {**tensors, "model.diffusion_model.label_emb.0.0.weight": torch.zeros(1)},
        "other": {"weight": torch.zeros(1)}}
    for name, value in content.items():
        torch.save(value, scratch / f"{name}.ckpt")
    cases = (
        ("sdxl.ckpt", "is an SDXL checkpoint"), ("flux.ckpt", "is a FLUX checkpoint"), ("lora.ckpt", "lora.init_from"),
        ("inpainting.ckpt", "an inpainting model"), ("no-vae.ckpt", "has no VAE"), ("no-text.ckpt", "has no text encoder"),
        ("more.ckpt", "tensors of the UNet2DConditionModel"), ("other.ckpt", "is no Stable Diffusion checkpoint"),
        ("pointer.ckpt", "git lfs pull"), ("cut.ckpt", "cut off"), ("cut.safetensors", "cut off"), ("text.ckpt", "no file of tensors"),
        ("program.ckpt", "TorchScript"), ("none.ckpt", "does not exist"))
    for name, expected in cases:
        said, _ = convert(scratch / name, scratch / "out", "--config", TINY)
        assert expected in said and "\n" not in said, (name, said)
        assert not (scratch / "out").exists() and not list(scratch.glob(".out.tmp-*")), f"{name} leaves something behind"
        print(f"    {name:20} {said.replace(str(scratch), '…')[:120]}")
    for arguments, expected in ((("tiny.ckpt", "half"), "exists"), (("tiny.ckpt", "new"), "give --config"),
                                (("tiny.ckpt", "new", "--config", str(scratch)), "has no model_index.json")):
        said, _ = convert(scratch / arguments[0], scratch / arguments[1], *arguments[2:])
        assert expected in said, (arguments, said)


def check_folder(scratch):
    """A folder as older packages wrote it: pickles, a VAE's attention under its old names, position_ids, one part in shards."""
    source = scratch / "bins"
    shutil.copytree(TINY, source)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    parts = {part: tiny(part) for part in PARTS}
    for name in list(parts["vae"]):
        for new, former in old.items():
            if f"mid_block.attentions.0.{new}." in name:
                parts["vae"][name.replace(f".{new}.", f".{former}.")] = parts["vae"].pop(name)
    parts["text_encoder"]["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    for part, name in PARTS.items():
        (source / part / f"{name}.safetensors").unlink()
    torch.save(parts["vae"], source / "vae/diffusion_pytorch_model.bin")
    torch.save(parts["text_encoder"], source / "text_encoder/pytorch_model.bin")
    names = sorted(parts["unet"])
    shards = {f"diffusion_pytorch_model-0000{i + 1}-of-00002.bin": names[i::2] for i in range(2)}
    for file, of_shard in shards.items():
        torch.save({name: parts["unet"][name] for name in of_shard}, source / "unet" / file)
    index = {"weight_map": {name: file for file, of_shard in shards.items() for name in of_shard}}
    (source / "unet/diffusion_pytorch_model.bin.index.json").write_text(json.dumps(index))
    said, _ = convert(source, scratch / "from-bins")
    assert said == "", said
    expect_tiny("a folder of .bin files", scratch / "from-bins")

    broken = dict(parts["vae"])
    del broken["quant_conv.weight"]
    torch.save(broken, source / "vae/diffusion_pytorch_model.bin")
    said, _ = convert(source, scratch / "broken")
    assert "vae: 1 missing" in said and "quant_conv.weight" in said, said
    (source / "vae/diffusion_pytorch_model.bin").unlink()
    said, _ = convert(source, scratch / "broken")
    assert "has no weights" in said and not (scratch / "broken").exists(), said


def check_families(scratch):
    """The built-in configurations describe networks of the published sizes, and the tokenizer is CLIP's."""
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
    sizes = {768: (859_520_964, 83_653_863, 123_060_480), 1024: (865_910_724, 83_653_863, 340_387_840)}
    for width, expected in sizes.items():
        folder = scratch / f"family-{width}"
        families.write_configs(folder, width, "v_prediction")
        with init_empty_weights():
            models = (UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet")),
                      AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae")),
                      CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder")))
        found = tuple(sum(parameter.numel() for parameter in model.parameters()) for model in models)
        assert found == expected, (width, found, expected)
        assert json.loads((folder / "scheduler/scheduler_config.json").read_text())["prediction_type"] == "v_prediction"
        pad = families.FAMILIES[width]["pad"]
        (folder / "tokenizer").mkdir()
        families.write_tokenizer(folder / "tokenizer", pad)
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        ids = tokenizer("a photo of a cat", padding="max_length", max_length=77).input_ids
        rest = 0 if width == 1024 else 49407
        assert ids == [49406, 320, 1125, 539, 320, 2368, 49407] + [rest] * 70, ids
    yaml = scratch / "v2-inference-v.yaml"
    yaml.write_text('model:\n  params:\n    parameterization: "v"\n')
    assert families.original_prediction_type(yaml) == "v_prediction"
    print("    Stable Diffusion 1.x and 2.x: parameters and tokens as published")


def main():
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        check_families(scratch)
        check_folder(scratch)
        check_refusals(scratch, check_single_files(scratch))
    print("live_convert: passed")


if __name__ == "__main__":
    main()
