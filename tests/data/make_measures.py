#!/usr/bin/env python3
"""Writes tests/data/measures/expected.safetensors: small pictures, what scikit-image and numpy measure of them, and the
sizes of their JPEG files by Pillow. Needs numpy, Pillow, safetensors and scikit-image.

  python3 tests/data/make_measures.py
"""
import io
import pathlib

import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from skimage.color import rgb2hsv
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

FOLDER = pathlib.Path(__file__).parent / "measures"
QUALITIES = [1, 10, 50, 75, 90, 95, 100]


def pictures(rng):
    """Pairs of pictures [3,H,W] float32 in [0,1]: unlike, alike, equal, flat, black, and of the smallest size."""
    def smooth(height, width):
        coarse = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
        return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)) / 255

    photo = smooth(40, 33)
    noisy = np.clip(photo + rng.normal(0, 0.05, photo.shape), 0, 1)
    noise = rng.random((24, 19, 3))
    flat = np.full((16, 16, 3), (0.2, 0.5, 0.7))
    return {"unlike": (noise, rng.random(noise.shape)), "alike": (noisy, photo), "equal": (photo, photo),
            "flat": (flat, flat * 0.9), "black": (np.zeros((12, 15, 3)), smooth(12, 15)),
            "smallest": (smooth(11, 11), smooth(11, 11))}


def stats(image):
    """Of [H,W,3] in float64: the measures of rewards.type image_stat."""
    luma = image @ np.array([0.299, 0.587, 0.114])
    smooth, step = np.array([1, 2, 1]) / 4, np.array([-1, 0, 1]) / 2
    inside = np.lib.stride_tricks.sliding_window_view(luma, (3, 3))
    gx = np.einsum("yxij,i,j->yx", inside, smooth, step)
    gy = np.einsum("yxij,i,j->yx", inside, step, smooth)
    levels = np.minimum(np.floor(image * 8), 7).astype(int).reshape(-1, 3) @ np.array([64, 8, 1])
    shares = np.unique(levels, return_counts=True)[1] / len(levels)
    return {"brightness": luma.mean(), "contrast": luma.std(), "edge_energy": (gx**2 + gy**2).mean(),
            "saturation": rgb2hsv(image)[..., 1].mean(), "colour_entropy": -(shares * np.log2(shares)).sum()}


def main():
    FOLDER.mkdir(exist_ok=True)
    expected = {}
    for name, pair in pictures(np.random.default_rng(23)).items():
        a, b = (np.float32(image).transpose(2, 0, 1).copy() for image in pair)
        expected[f"{name}.a"], expected[f"{name}.b"] = a, b
        # From here on as the reward has them: the float32 values, in float64.
        a, b = (np.float64(image).transpose(1, 2, 0) for image in (a, b))
        measures = {"l1": np.abs(a - b).mean(), "l2": mean_squared_error(a, b),
                    "psnr": 100.0 if name == "equal" else peak_signal_noise_ratio(b, a, data_range=1),
                    "ssim": structural_similarity(a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                                                  channel_axis=2, data_range=1), **stats(a)}
        for measure, value in measures.items():
            expected[f"{name}.{measure}"] = np.array([value], np.float64)
        eight_bits = Image.fromarray((a * 255).round().astype(np.uint8))
        sizes = []
        for quality in QUALITIES:
            buffer = io.BytesIO()
            eight_bits.save(buffer, format="JPEG", quality=quality)
            sizes.append(buffer.tell())
        expected[f"{name}.jpeg"] = np.array(sizes, np.int64)
    save_file(expected, FOLDER / "expected.safetensors")


if __name__ == "__main__":
    main()
