"""From [N,3,H,W] in [0,1] to what a network takes, in torch alone, so that it can be part of the reward file.

The packages resize with Pillow, in 8 bits: Pillow rounds to whole levels after the horizontal pass and again after
the vertical one, and clips both times. Here nothing is rounded. The filter is the same (antialiased, bicubic with
a = -0.5), so that a pixel differs by at most about 1.2 levels of 255. An image that already has the network's size is
not changed by either.
"""
import typing

import torch
from torch import nn

# What CLIP's packages call OPENAI_CLIP_MEAN and OPENAI_CLIP_STD; torchvision's ImageNet ones come with its weights.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


NO_MEAN, NO_STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def centre(room: int, half_down: bool) -> int:
    """Where a crop begins that leaves `room` pixels: half of them, an odd one as floor() or as Python's round()."""
    half = room // 2
    if room % 2 == 1 and not half_down and half % 2 == 1:
        half += 1
    return half


class Preprocess(nn.Module):
    """Resizes, takes the centre, normalises.

    resize         the side that `fit` speaks of, in pixels; 0: images stay as they are
    fit            "shorter": that side becomes `resize`, the other follows (rounded down); "longer": likewise, then
                   black borders make a square; "stretch": both sides become `resize`
    crop           side of the square taken from the centre; 0: none
    interpolation  "bicubic" or "bilinear"
    antialias      the filter widens with the factor of a reduction, as Pillow's does
    clip           bicubic overshoot is clipped to [0,1], as Pillow does
    crop_half_down the crop's first pixel is rounded down (transformers), not to the even one (torchvision)
    """

    mean_3: torch.Tensor
    std_3: torch.Tensor

    def __init__(self, resize: int, crop: int = 0, mean: typing.Sequence[float] = CLIP_MEAN, std: typing.Sequence[float] = CLIP_STD,
                 interpolation: str = "bicubic", fit: str = "shorter", antialias: bool = True,
                 clip: bool = True, crop_half_down: bool = False):
        super().__init__()
        if fit not in ("shorter", "longer", "stretch"):
            raise SystemExit(f"fit {fit!r} is none of shorter, longer, stretch")
        if interpolation not in ("bicubic", "bilinear"):
            raise SystemExit(f"interpolation {interpolation!r} is not supported; bicubic and bilinear are")
        self.resize, self.crop, self.fit, self.interpolation = resize, crop, fit, interpolation
        self.antialias, self.clip, self.crop_half_down = antialias, clip, crop_half_down
        self.register_buffer("mean_3", torch.tensor(mean, dtype=torch.float32), persistent=True)
        self.register_buffer("std_3", torch.tensor(std, dtype=torch.float32), persistent=True)

    def new_size(self, height: int, width: int) -> typing.List[int]:
        if self.fit == "stretch":
            return [self.resize, self.resize]
        if self.fit == "longer":
            scale = self.resize / float(max(height, width))
            return [int(round(height * scale)), int(round(width * scale))]
        if height <= width:
            return [self.resize, int(self.resize * width / height)]
        return [int(self.resize * height / width), self.resize]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.resize > 0:
            size = self.new_size(images.size(2), images.size(3))
            if size[0] != images.size(2) or size[1] != images.size(3):
                images = nn.functional.interpolate(images, size=size, mode=self.interpolation, align_corners=False,
                                                   antialias=self.antialias)
                if self.clip:
                    images = images.clamp(0.0, 1.0)
        if self.fit == "longer":
            down, right = self.resize - images.size(2), self.resize - images.size(3)
            images = nn.functional.pad(images, [right // 2, right - right // 2, down // 2, down - down // 2])
        if self.crop > 0:
            top = centre(images.size(2) - self.crop, self.crop_half_down)
            left = centre(images.size(3) - self.crop, self.crop_half_down)
            images = images[:, :, top:top + self.crop, left:left + self.crop]
        return (images - self.mean_3.view(1, 3, 1, 1)) / self.std_3.view(1, 3, 1, 1)
