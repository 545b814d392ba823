#!/usr/bin/env python3
"""Writes tests/data/corrupt/expected.safetensors: what the Python package imagecorruptions makes of small images.
Needs numpy, Pillow, scipy, scikit-image, opencv-python, safetensors and imagecorruptions (made with 1.1.2).

  python3 tests/data/make_corrupted.py

image.I                      uint8 [H, W, 3], 20 of them
corrupted.KIND.SEVERITY.I    the same, for the kinds without random numbers; image I with severity I % 5 + 1
zoomed.ZOOM, moved.ANGLE     float32 [H, W, 3]: image 0 / 255 in clipped_zoom and in _motion_blur (radius 10, sigma 3)
change.KIND                  float64 [5, 2]: for each severity mean and standard deviation, over 16 draws, of the mean
                             absolute difference that the kind makes to image 1, in levels of 255
"""
import pathlib
import sys
import types

import numpy as np

# What the package uses and today's libraries no longer have under these names.
np.float_ = np.float64
import scipy.ndimage
import skimage.filters

interpolation = types.ModuleType("scipy.ndimage.interpolation")
interpolation.map_coordinates = scipy.ndimage.map_coordinates
sys.modules["scipy.ndimage.interpolation"] = interpolation
original_gaussian = skimage.filters.gaussian


def gaussian(image, sigma=1, multichannel=False, **options):
    return original_gaussian(image, sigma=sigma, channel_axis=-1 if multichannel else None, **options)


skimage.filters.gaussian = gaussian
import imagecorruptions
from imagecorruptions import corruptions
from PIL import Image
from safetensors.numpy import save_file

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from make_images import smooth

SAME = ["defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"]
RANDOM = ["gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "fog", "elastic_transform"]
DRAWS = 16


def main():
    rng = np.random.default_rng(31)
    recorded, images = {}, []
    for i in range(20):
        height, width = 32 + int(rng.integers(0, 14)), 32 + int(rng.integers(0, 14))
        image = smooth(rng, height, width).astype(np.int64) + rng.integers(-12 * (i % 3), 12 * (i % 3) + 1, (height, width, 3))
        images.append(np.clip(image, 0, 255).astype(np.uint8))
        recorded[f"image.{i}"] = images[i]
        for kind in SAME:
            severity = i % 5 + 1
            recorded[f"corrupted.{kind}.{severity}.{i}"] = imagecorruptions.corrupt(images[i], severity, kind)
    for zoom in [1.05, 1.25, 2.5, 4.5]:
        recorded[f"zoomed.{zoom}"] = corruptions.clipped_zoom(images[0] / 255.0, zoom)[:images[0].shape[0], :images[0].shape[1]].astype(np.float32)
    for angle in [-120, -31, 0, 44.5]:
        recorded[f"moved.{angle}"] = corruptions._motion_blur(images[0] / 255.0, radius=10, sigma=3, angle=angle).astype(np.float32)
    np.random.seed(5)
    clean = images[1].astype(np.float64)
    for kind in RANDOM:
        rows = []
        for severity in range(1, 6):
            changes = [np.abs(imagecorruptions.corrupt(images[1], severity, kind) - clean).mean() for _ in range(DRAWS)]
            rows.append([np.mean(changes), np.std(changes)])
        recorded[f"change.{kind}"] = np.array(rows)
    folder = pathlib.Path(__file__).parent / "corrupt"
    folder.mkdir(exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in recorded.items()}, folder / "expected.safetensors")


if __name__ == "__main__":
    main()
