"""Makes a model folder that imageddpo reads from a Stable Diffusion 1.x or 2.x as people have it.

    python deploy/convert model.ckpt models/my-model           one file: .ckpt, .safetensors
    python deploy/convert folder/ models/my-model              a diffusers folder with .bin weights

README.md beside this file explains the options. Nothing is downloaded, and nothing in a pickle is run.
"""
import argparse
import os
import pathlib
import sys
import warnings


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python deploy/convert", description=__doc__.splitlines()[0])
    parser.add_argument("source", metavar="SOURCE", help="a .ckpt or .safetensors file, or a diffusers folder with .bin weights")
    parser.add_argument("out", metavar="OUT", help="the folder to make")
    parser.add_argument("--config", metavar="FOLDER", help="one file of another size: a diffusers folder whose configuration and tokenizer fit it")
    parser.add_argument("--original-config", metavar="FILE.yaml", help="the YAML file beside the checkpoint; says what the model predicts")
    parser.add_argument("--prediction-type", choices=("epsilon", "v_prediction"), help="what the model predicts; needed for Stable Diffusion 2.x")
    parser.add_argument("--tokenizer", metavar="FOLDER", help="a CLIP tokenizer's folder, instead of open_clip's files")
    parser.add_argument("--ema", action="store_true", help="take the UNet's running averages (model_ema.…) instead of its weights")
    parser.add_argument("--dtype", choices=("keep", "float32", "float16"), default="keep",
                        help="type of the written weights (default %(default)s: the file's)")
    options = parser.parse_args(arguments)
    source, out = pathlib.Path(options.source), pathlib.Path(options.out)
    if out.exists():
        raise SystemExit(f"{out} exists; remove it, or name another folder")
    if not source.exists():
        raise SystemExit(f"{source} does not exist")
    out.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.filterwarnings("ignore")
    if source.is_dir():
        if options.config or options.original_config or options.prediction_type or options.ema:
            raise SystemExit("--config, --original-config, --prediction-type and --ema are for checkpoints in one file")
        import folder
        folder.convert(options, source, out)
    else:
        import single_file
        single_file.convert(options, source, out)
    print(f"{out} is written. In a job file: model: {{path: {out}}}")


if __name__ == "__main__":
    try:
        main()
    except SystemExit as stop:
        if isinstance(stop.code, str):
            sys.exit(f"convert: {stop.code}")
        raise
