"""A checkpoint in one file (.ckpt, .safetensors) becomes a folder of diffusers' layout."""
import json
import pathlib
import shutil
import tempfile

import checkpoint
import families
import folder


def with_ema(tensors, path):
    """The UNet's running averages in place of its weights: model_ema.diffusion_modelinput_blocks00weight and so on."""
    result, replaced = dict(tensors), 0
    for name in tensors:
        if name.startswith(families.UNET_PREFIX):
            average = families.EMA_PREFIX + name[len("model."):].replace(".", "")
            if average in tensors:
                result[name] = tensors[average]
                replaced += 1
    if not replaced:
        raise SystemExit(f"{path} has no running averages (model_ema.…); leave --ema out")
    print(f"{replaced} tensors of the UNet are taken from its running averages")
    return result


def _check_config(source):
    for name in ("model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json"):
        if not (source / name).is_file():
            raise SystemExit(f"{source} has no {name}; --config takes a model's folder in diffusers' layout (its weights are not needed)")


def _prediction_type(options, width, path):
    if options.prediction_type:
        return options.prediction_type
    if options.original_config:
        return families.original_prediction_type(options.original_config)
    if width == 1024:
        raise SystemExit(f"{path} is a Stable Diffusion 2.x, whose file does not say what it predicts. Give --prediction-type v_prediction "
                         "for those made at 768 pixels, epsilon for the -base ones at 512, or --original-config with its YAML file")
    return "epsilon"


def _prepare_config(options, tensors, path, into):
    """Fills `into` with what from_single_file takes as `config`."""
    width = families.check(tensors, path)
    if options.config:
        source = pathlib.Path(options.config)
        _check_config(source)
        for name in ("unet", "vae", "text_encoder", "scheduler"):
            (into / name).mkdir()
            for file in (source / name).glob("*.json"):
                if not file.name.endswith(".index.json"):
                    shutil.copy(file, into / name)
        index = json.loads((source / "model_index.json").read_text(encoding="utf-8"))
        index.update(safety_checker=[None, None], feature_extractor=[None, None], image_encoder=[None, None], requires_safety_checker=False)
        (into / "model_index.json").write_text(json.dumps(index))
        if options.prediction_type or options.original_config:
            scheduler = into / "scheduler/scheduler_config.json"
            scheduler.write_text(json.dumps({**json.loads(scheduler.read_text()), "prediction_type": _prediction_type(options, width, path)}))
        tokenizer, pad = source / "tokenizer", None
    else:
        if width not in families.FAMILIES or tensors[f"{families.UNET_PREFIX}input_blocks.0.0.weight"].shape[0] != 320:
            raise SystemExit(f"{path} has neither the size of Stable Diffusion 1.x nor of 2.x; give --config with the folder of a model "
                             "of the same size")
        family = families.write_configs(into, width, _prediction_type(options, width, path))
        print(f"{path}: {family['name']}")
        tokenizer, pad = None, family["pad"]
    if options.tokenizer:
        tokenizer = pathlib.Path(options.tokenizer)
    if tokenizer:
        if not ((tokenizer / "vocab.json").exists() and (tokenizer / "merges.txt").exists()) and not (tokenizer / "tokenizer.json").exists():
            raise SystemExit(f"{tokenizer} has no vocab.json with merges.txt, and no tokenizer.json")
        shutil.copytree(tokenizer, into / "tokenizer")
    else:
        (into / "tokenizer").mkdir()
        families.write_tokenizer(into / "tokenizer", pad)


def _count(pipeline, tensors, path):
    """diffusers leaves out what it has no place for without a word; UNet and VAE have a tensor for each of the file's."""
    for prefix, part in ((families.UNET_PREFIX, pipeline.unet), (families.VAE_PREFIX, pipeline.vae)):
        in_file = [name for name in tensors if name.startswith(prefix) and not name.startswith((f"{prefix}loss.", f"{prefix}model_ema."))]
        if len(in_file) != len(part.state_dict()):
            raise SystemExit(f"{path} has {len(in_file)} tensors of the {type(part).__name__}, the configuration describes "
                             f"{len(part.state_dict())}; give --config with the folder of a model of the same structure")


def convert(options, path, out):
    """Writes the model of `path` into the new folder `out`."""
    import torch
    tensors = checkpoint.read(path)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.tmp-") as scratch:
        scratch = pathlib.Path(scratch)
        config = scratch / "config"
        config.mkdir()
        _prepare_config(options, tensors, path, config)
        if options.ema:
            tensors = with_ema(tensors, path)
        safe = pathlib.Path(path)
        if options.ema or safe.suffix != ".safetensors":
            safe = scratch / "checkpoint.safetensors"
            checkpoint.write({name: value for name, value in tensors.items() if not name.startswith(families.EMA_PREFIX)}, safe)
        kept = tensors[f"{families.UNET_PREFIX}input_blocks.0.0.weight"].dtype
        dtype = {"keep": kept, "float32": torch.float32, "float16": torch.float16}[options.dtype]
        from diffusers import StableDiffusionPipeline
        try:
            pipeline = StableDiffusionPipeline.from_single_file(
                str(safe), config=str(config), local_files_only=True, torch_dtype=dtype, safety_checker=None, feature_extractor=None)
            _count(pipeline, tensors, path)
            pipeline.save_pretrained(str(scratch / "model"), safe_serialization=True)
            # transformers from 5.6 on saves this one without the prefix text_model, which every reader of such folders expects.
            text = scratch / "model/text_encoder" / f"{folder.PARTS['text_encoder']}.safetensors"
            checkpoint.write(folder.renamed("text_encoder", checkpoint.read(text)), text)
        except SystemExit:
            raise
        except Exception as error:
            said = str(error).strip().splitlines()
            raise SystemExit(f"diffusers cannot convert {path}: {said[0] if said else type(error).__name__}") from error
        (scratch / "model").rename(out)
