"""Records reward files with what their Python originals return, for exported_rewards_test.cc.

    python tests/parity/export/record_rewards.py tests/data/parity/rewards [NAME…]

Each folder has reward.pt, as deploy/rewards/export writes it but for debugging records, and reference.safetensors: for each case c the inputs
"c.<name>" (images as whole levels of 255) and the values "c.value.<output>" of the package (transformers, open_clip,
or the module itself). prompts.txt, where there are prompts, has the texts of the first case's tokens, one a line.
Needs: torch, transformers, open_clip_torch, safetensors, Pillow.
"""
import argparse
import pathlib
import shutil
import tempfile
import warnings
import zipfile

import torch
from safetensors.torch import save_file

import small_models  # First: it puts deploy/rewards/export on the path.
import aesthetic
import clip_labels
import clip_similarity
import clip_source
import reward_file
import user_module
import weights

CASES = ((20, 24), (44, 36))  # Heights and widths.
COUNT = 2
FIRST_SEED = 102  # Chooses the prompts, too: the third one and those after it.
CLASSES = ("ankle boot", "bag", "coat", "dress")


def similarity(scratch):
    source = clip_source.from_transformers(small_models.write_transformers(scratch / "similarity", 1, width=8))
    return clip_similarity.make(source, source.logit_scale)


def labels(scratch):
    source = clip_source.from_open_clip(f"local-dir:{small_models.write_open_clip(scratch / 'labels', 3)}", None)
    return clip_labels.make(source, clip_labels.class_texts(CLASSES, ["a photo of a {label}", "an image of {label}"]), "logit_max_margin")


def aesthetic_head(scratch):
    source = clip_source.from_transformers(small_models.write_transformers(scratch / "aesthetic", 2, quick_gelu=False))
    head = small_models.write_head(scratch / "head.pth", 4)
    return aesthetic.make(source, weights.read(head), head)


def module(_):
    return user_module.make_module(small_models.likeness(), ("generated", "target", "label"), ("likeness", "apart"), "apart")


REWARDS = {"similarity": similarity, "labels": labels, "aesthetic": aesthetic_head, "module": module}


def strip(path):
    """Leaves out the compiler's notes on source lines, half of so small a file."""
    with zipfile.ZipFile(path) as archive:
        content = [(info, archive.read(info)) for info in archive.infolist() if not info.filename.endswith(".debug_pkl")]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for info, data in content:
            archive.writestr(zipfile.ZipInfo(info.filename), data, info.compress_type)


def record(reward, folder):
    folder.mkdir(parents=True)
    reward_file.write(reward, folder / "reward.pt")
    strip(folder / "reward.pt")
    stored = {}
    for case, (height, width) in enumerate(CASES):
        inputs = reward_file.example_inputs(reward, FIRST_SEED + case, COUNT, height, width)
        for name, tensor in inputs.items():
            stored[f"{case}.{name}"] = (tensor * 255).round().to(torch.uint8) if name in reward_file.IMAGES else tensor
        for name, column in zip(reward.outputs or ["value"], reward.original(inputs), strict=True):
            stored[f"{case}.value.{name}"] = column.float().contiguous()
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, str(folder / "reference.safetensors"))
    if "prompt_tokens" in reward.inputs:
        prompts = [reward_file.PROMPTS[(FIRST_SEED + i) % len(reward_file.PROMPTS)] for i in range(COUNT)]
        (folder / "prompts.txt").write_text("".join(f"{prompt}\n" for prompt in prompts), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(REWARDS)}; all where none is given")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.names or REWARDS:
            shutil.rmtree(options.out / name, ignore_errors=True)
            record(REWARDS[name](pathlib.Path(scratch)), options.out / name)


if __name__ == "__main__":
    main()
