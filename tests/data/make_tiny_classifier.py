#!/usr/bin/env python3
"""Writes tests/data/classifiers: a tiny TorchScript classifier with images and the logits that it must
give, files that the classifier reward must refuse, and one that crashes its process. Needs torch and safetensors.

  python3 tests/data/make_tiny_classifier.py
"""
import pathlib

import torch
from safetensors.torch import save_file
from torch import nn

FOLDER = pathlib.Path(__file__).parent / "classifiers"


class TinyClassifier(nn.Module):
    """[N,3,H,W] in [0,1] to logits of 4 classes. Batch norm and dropout, so that it matters that the
    reward scores in eval mode: the file is saved in training mode."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        return 4.0 * self.head(self.dropout(x.amax(dim=(2, 3))))


class ReturnsTuple(nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3)), x


class OneColumn(nn.Module):
    def forward(self, x):
        return x.mean(dim=(1, 2, 3)).unsqueeze(1)


class OnlyFourPixels(nn.Module):
    """Takes 2×2 images and no others."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        return self.head(x.flatten(1))


class Crashes(nn.Module):
    """Ten classes. Fine for one image; for more, it takes its process with it: the interpreter divides whole numbers
    by zero without a look."""

    def forward(self, x: torch.Tensor):
        divisor = 1 if x.size(0) == 1 else 0
        return x.flatten(1)[:, :10] * float(1 + x.size(0) % divisor)


def save(module, name):
    torch.jit.script(module).save(str(FOLDER / name))


def main():
    FOLDER.mkdir(exist_ok=True)
    torch.manual_seed(5)
    model = TinyClassifier()
    model.norm.running_mean.normal_(0, 0.3)
    model.norm.running_var.uniform_(0.5, 2)
    save(model.train(), "tiny.pt")
    save(ReturnsTuple(), "returns_tuple.pt")
    save(OneColumn(), "one_column.pt")
    save(OnlyFourPixels(), "only_2x2.pt")
    save(Crashes(), "crashes.pt")
    torch.save(model.state_dict(), FOLDER / "state_dict.pt")

    generated = torch.rand(6, 3, 12, 10)
    inputs = torch.rand(6, 3, 12, 10)
    model.eval()
    with torch.no_grad():
        tensors = {"generated": generated, "inputs": inputs,
                   "generated_logits": model(generated), "input_logits": model(inputs)}
    save_file(tensors, FOLDER / "expected.safetensors")


if __name__ == "__main__":
    main()
