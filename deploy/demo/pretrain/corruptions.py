"""The demo's images and the four ways in which they are damaged.

An image is a float tensor in [0, 1]. Batches carry their shape in the name: N images, H = W = 32.
"""

import gzip
import pathlib

import numpy as np
import torch

CLASS_NAMES = (
    "t-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)
CORRUPTION_NAMES = ("noisy", "blurry", "faded", "occluded")
IMAGE_SIZE = 32
BLUR_RADIUS = 6


def load_fashion_mnist(folder, split):
    """Reads one split as (images [N,1,32,32] uint8, zero-padded by 2 pixels a side; labels [N] int64)."""
    folder = pathlib.Path(folder)
    prefix = {"train": "train", "test": "t10k"}[split]
    with gzip.open(folder / f"{prefix}-images-idx3-ubyte.gz") as stream:
        pixels = np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(folder / f"{prefix}-labels-idx1-ubyte.gz") as stream:
        labels = np.frombuffer(stream.read(), np.uint8, offset=8)
    padded = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))
    return torch.from_numpy(padded)[:, None].contiguous(), torch.from_numpy(labels.astype(np.int64))


def blur(images_N1HW, sigma):
    """Separable Gaussian of radius 6 with zero padding; sigma in pixels, one number or one per image."""
    count = images_N1HW.shape[0]
    sigma_N11 = torch.as_tensor(sigma, dtype=torch.float32).expand(count).reshape(-1, 1, 1)
    index = torch.arange(IMAGE_SIZE)
    offset_HH = (index[:, None] - index[None, :]).float()
    weight_NHH = torch.exp(-0.5 * (offset_HH / sigma_N11) ** 2) * (offset_HH.abs() <= BLUR_RADIUS)
    tap = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1).float()
    weight_NHH = weight_NHH / torch.exp(-0.5 * (tap / sigma_N11) ** 2).sum(-1, keepdim=True)
    return (weight_NHH @ images_N1HW[:, 0] @ weight_NHH.transpose(1, 2))[:, None]


def to_8_bits(images):
    """Rounds to the nearest of 256 levels, as a PNG file would."""
    return (images * 255).round().clamp(0, 255) / 255


def _noisy(images, generator):
    scale = 0.1 + 0.3 * torch.rand(len(images), 1, 1, 1, generator=generator)
    return (images + scale * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def _blurry(images, generator):
    return blur(images, 0.8 + 1.2 * torch.rand(len(images), generator=generator))


def _faded(images, generator):
    contrast = 0.15 + 0.45 * torch.rand(len(images), 1, 1, 1, generator=generator)
    floor = (1 - contrast) * torch.rand(len(images), 1, 1, 1, generator=generator)
    return images * contrast + floor


def _occluded(images, generator):
    count = len(images)
    side = torch.randint(8, 17, (2, count), generator=generator)
    start = (torch.rand(2, count, generator=generator) * (IMAGE_SIZE - side + 1)).long()
    index = torch.arange(IMAGE_SIZE)
    inside = (index >= start[..., None]) & (index < (start + side)[..., None])  # [2, N, 32]
    box = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
    grey = torch.rand(count, 1, 1, 1, generator=generator)
    return torch.where(box, grey, images)


_CORRUPTIONS = (_noisy, _blurry, _faded, _occluded)


def corrupt(images_N1HW, kind_N, generator):
    """Damages image n in the way CORRUPTION_NAMES[kind_N[n]]; strengths are drawn from `generator`."""
    out = images_N1HW.clone()
    for kind, function in enumerate(_CORRUPTIONS):
        chosen = (kind_N == kind).nonzero()[:, 0]
        if len(chosen):
            out[chosen] = function(images_N1HW[chosen], generator)
    return out
