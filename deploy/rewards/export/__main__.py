"""Makes reward files for imageddpo: TorchScript that its service runs without Python.

    python deploy/rewards/export KIND … --out FILE.pt
    python deploy/rewards/export KIND --help

README.md beside this file has an example of each kind. Nothing is downloaded, except by torchvision where no file is named.
"""
import argparse
import sys
import warnings

import torch

import aesthetic
import clip_labels
import clip_similarity
import perceptual
import reward_file
import user_module


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python deploy/rewards/export", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for add in (clip_similarity.add_similarity, clip_labels.add, aesthetic.add, clip_similarity.add_pickscore, clip_similarity.add_hpsv2,
                perceptual.add, user_module.add_classifier, user_module.add_module):
        command, run = add(commands)
        command.add_argument("--out", metavar="FILE", required=True, help="the file to write; replaced only when every check has passed")
        command.set_defaults(run=run)
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    reward_file.write(options.run(options), options.out)


if __name__ == "__main__":
    try:
        main()
    except SystemExit as stop:
        if isinstance(stop.code, str):
            sys.exit(f"export: {stop.code}")
        raise
