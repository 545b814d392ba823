"""The reward of the original's application in numpy: a label's logit change by CLIP, within ±10, minus 1.8 · LPIPS to the input.

    application_reward.py LABELS_FILE ADDRESS

LABELS_FILE is what `deploy/rewards/export clip-labels` has made; its weights are read from the archive. The distance has
LPIPS's form over two small convolutions, whose weights follow from sines; application.py has the same as TorchScript.
"""
import sys
import zipfile

import numpy as np
from imageddpo_client import serve

SIDE, PATCH, HEADS, EPSILON = 32, 8, 2, 1e-5


class Labels:
    """Logits of clip_labels.Labels in an archive of that network's size, for images that need no resizing."""

    def __init__(self, path):
        with zipfile.ZipFile(path) as archive:
            folder = archive.namelist()[0].split("/")[0]
            self.floats = [np.frombuffer(archive.read(f"{folder}/data/{i}"), "<f4") for i in range(35)]
        # In the order in which the modules have them; a norm, a linear layer: weight, bias.
        self.texts, self.mean, self.std, self.class_embedding, self.positions, self.conv = self.floats[:6]
        self.width = len(self.class_embedding)
        self.ln_pre, self.ln_post = self.floats[6:8], self.floats[8:10]
        self.blocks, self.projection = (self.floats[10:22], self.floats[22:34]), self.floats[34]

    def norm(self, x, weights):
        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON) * weights[0] + weights[1]

    def linear(self, x, weight, bias):
        return x @ weight.reshape(len(bias), -1).T + bias

    def attention(self, x, weights):
        count, length, width = x.shape
        q, k, v = self.linear(x, *weights[:2]).reshape(count, length, 3, HEADS, width // HEADS).transpose(2, 0, 3, 1, 4)
        scores = q @ k.swapaxes(-1, -2) / np.sqrt(width // HEADS)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        out = shares / shares.sum(axis=-1, keepdims=True) @ v
        return self.linear(out.transpose(0, 2, 1, 3).reshape(count, length, width), *weights[2:])

    def block(self, x, weights):
        x = x + self.attention(self.norm(x, weights[:2]), weights[4:8])
        hidden = self.linear(self.norm(x, weights[2:4]), *weights[8:10])
        return x + self.linear(gelu(hidden), *weights[10:12])

    def logits(self, images):
        """[N,3,32,32] in [0,1] → [N,classes]"""
        assert images.shape[1:] == (3, SIDE, SIDE), images.shape
        pixels = (images.astype(np.float64) - self.mean.reshape(3, 1, 1)) / self.std.reshape(3, 1, 1)
        count, side = len(images), SIDE // PATCH
        patches = pixels.reshape(count, 3, side, PATCH, side, PATCH).transpose(0, 2, 4, 1, 3, 5).reshape(count, side * side, -1)
        first = np.broadcast_to(self.class_embedding, (count, 1, self.width))
        x = np.concatenate([first, patches @ self.conv.reshape(self.width, -1).T], axis=1)
        x = self.norm(x + self.positions.reshape(-1, self.width), self.ln_pre)
        for weights in self.blocks:
            x = self.block(x, weights)
        embedded = self.norm(x[:, 0], self.ln_post) @ self.projection.reshape(-1, self.width).T
        embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
        return embedded @ self.texts.reshape(-1, embedded.shape[1]).T


def gelu(x):
    """By the error function, which numpy lacks: Abramowitz and Stegun 7.1.26, exact within 1.5e-7."""
    z = np.abs(x) / np.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return x * (1 + np.sign(x) * (1 - series * np.exp(-z * z))) / 2


def features(x, count, step):
    """A layer of the distance: 3×3, stride 2, then ReLU."""
    weight = np.sin(np.arange(count * x.shape[1] * 9) * step).reshape(count, -1, 3, 3) / 5
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), axis=(2, 3))
    return np.maximum(np.einsum("nchwij,ocij->nohw", windows[:, :, ::2, ::2], weight), 0)


def distance(generated, other):
    """[N]: over both layers, the squared distance of the pixels' features of length 1."""
    pair, apart = [2 * images.astype(np.float64) - 1 for images in (generated, other)], 0
    for count, step in ((8, 1.7), (16, 2.3)):
        pair = [features(x, count, step) for x in pair]
        a, b = (x / np.sqrt((x * x).sum(axis=1, keepdims=True) + 1e-3) for x in pair)
        apart = apart + ((a - b)**2).sum(axis=1).mean(axis=(1, 2))
    return apart


def main():
    labels = Labels(sys.argv[1])

    def application(images, prompts, metadata):
        inputs, rows = np.stack([entry["input_image"] for entry in metadata]), np.arange(len(images))
        label = [entry["label"] for entry in metadata]
        change = np.clip(labels.logits(images)[rows, label] - labels.logits(inputs)[rows, label], -10, 10)
        apart = distance(images, inputs)
        return change - 1.8 * apart, {"logit_change": change, "lpips": apart}

    serve(application, sys.argv[2], pixels="float32", inputs=True)


if __name__ == "__main__":
    main()
