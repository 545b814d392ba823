"""A folder of diffusers' layout whose weights are pickles (.bin) becomes the same folder with safetensors."""
import json
import pathlib
import re
import shutil
import tempfile

import checkpoint

# Part → name of its weights, without the ending.
PARTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
_BIN_NAMES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "pytorch_model"}

# Attention of a VAE as diffusers named it before 0.17.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def read_part(folder, part):
    """name → tensor of a part, whichever of the files that people have it is in."""
    places = [folder / part / f"{name}{ending}" for name, ending in (
        (PARTS[part], ".safetensors"), (PARTS[part], ".fp16.safetensors"), (_BIN_NAMES[part], ".bin"), (_BIN_NAMES[part], ".fp16.bin"))]
    for place in places:
        index = place.with_name(place.name + ".index.json")
        if place.exists():
            return checkpoint.read(place)
        if index.exists():
            try:
                files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            except (ValueError, KeyError, AttributeError):
                raise SystemExit(f"{index} is no index of weights: it has no weight_map") from None
            tensors = {}
            for file in files:
                tensors.update(checkpoint.read(index.parent / pathlib.PurePath(file).name))
            return tensors
    raise SystemExit(f"{folder / part} has no weights: none of {', '.join(place.name for place in places)}")


def renamed(part, tensors):
    """Names as diffusers and transformers write them today."""
    result = {}
    for name, value in tensors.items():
        if name.endswith("position_ids"):  # A constant that older transformers stored.
            continue
        if part == "vae":
            match = re.fullmatch(r"(.*mid_block\.attentions\.0\.)(query|key|value|proj_attn)(\.\w+)", name)
            name = match.group(1) + _OLD_ATTENTION[match.group(2)] + match.group(3) if match else name
        elif part == "text_encoder" and not name.startswith("text_model.") and name.startswith(("embeddings.", "encoder.", "final_layer_norm.")):
            name = f"text_model.{name}"
        result[name] = value
    return result


def _check(part, folder):
    """Loads the part as its package does, strictly; a config that does not fit is seen here and not by the service."""
    if part == "text_encoder":
        from transformers import CLIPTextModel as Model
    elif part == "unet":
        from diffusers import UNet2DConditionModel as Model
    else:
        from diffusers import AutoencoderKL as Model
    try:
        # With its usual way to save memory, diffusers before 0.33 ends at missing tensors instead of reporting them.
        options = {"ignore_mismatched_sizes": True} if part == "text_encoder" else {"low_cpu_mem_usage": False}
        _, report = Model.from_pretrained(folder / part, local_files_only=True, use_safetensors=True, output_loading_info=True, **options)
    except Exception as error:
        said = str(error).strip().splitlines()
        raise SystemExit(f"{part} does not load: {said[0] if said else type(error).__name__}") from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(str(name) for name in report.get(kind, ()) if not str(name).endswith("position_ids"))
        if names:
            raise SystemExit(f"{part}: {len(names)} {kind.replace('_keys', '')} tensors, such as {names[0]}; "
                             "its weights and its config.json do not belong together")


def convert(options, source, out):
    """Writes the folder `source` with safetensors into the new folder `out`."""
    import torch
    for name in [f"{part}/config.json" for part in PARTS] + ["scheduler/scheduler_config.json"]:
        if not (source / name).is_file():
            raise SystemExit(f"{source} has no {name}; a model's folder in diffusers' layout is needed")
    if not (source / "tokenizer").is_dir() and not options.tokenizer:
        raise SystemExit(f"{source} has no tokenizer folder; name one with --tokenizer")
    dtype = {"keep": None, "float32": torch.float32, "float16": torch.float16}[options.dtype]
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.tmp-") as scratch:
        scratch = pathlib.Path(scratch) / "model"
        for part, weights in PARTS.items():
            (scratch / part).mkdir(parents=True)
            shutil.copy(source / part / "config.json", scratch / part)
            tensors = renamed(part, read_part(source, part))
            if dtype:
                tensors = {name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()}
            checkpoint.write(tensors, scratch / part / f"{weights}.safetensors")
            _check(part, scratch)
            print(f"{part}: {len(tensors)} tensors")
        shutil.copytree(options.tokenizer or source / "tokenizer", scratch / "tokenizer")
        shutil.copytree(source / "scheduler", scratch / "scheduler")
        if (source / "model_index.json").exists():
            shutil.copy(source / "model_index.json", scratch)
        scratch.rename(out)
