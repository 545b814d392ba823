"""A model folder of Stable Diffusion 1.5's size with random weights in fp16: random_model.py FOLDER

The shapes are tests/bench/sd15_model.py's; its zeros are overwritten, as zeros and random numbers do not take
the same power on a GPU. The text encoder stays zero: it takes no part in what is measured.
"""
import math
import pathlib
import sys

import torch

import tensor_files

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/bench"))
import sd15_model  # noqa: E402


def fill(path, seed):
    """Weights that keep the size of what passes through them; norms and biases around 1 and 0."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(seed)
    for name, tensor in tensor_files.views(path, writable=True).items():
        values = torch.randn(tensor.shape, generator=generator, device=device)
        if "norm" in name:
            values = 0.2 * values + (1.0 if name.endswith("weight") else 0.0)
        else:
            values *= 0.02 if tensor.dim() == 1 else 1 / math.sqrt(tensor[0].numel())
        tensor.copy_(values)


def main():
    folder = pathlib.Path(sys.argv[1])
    sd15_model.write_model(folder)
    for seed, part in enumerate(("unet", "vae")):
        path, = (folder / part).glob("*.safetensors")
        fill(path, seed)


if __name__ == "__main__":
    main()
