"""LAION's aesthetic predictors: a small network on CLIP's image embedding of length 1, trained on people's marks (1 to 10).

The published heads are chains of linear layers, named by their place in a Sequential: layers.0, layers.2, … with
dropout in between (sac+logos+ava1-l14-linearMSE), layers.0, layers.3, … with ReLU and dropout (ava+logos-l14-reluMSE),
or a single layer (sa_0_4_vit_l_14_linear). Which one a file has follows from the names.
"""
import re

import torch
from torch import nn

import clip_model
import clip_source
import reward_file
import weights


def head(state, path):
    """The head as a Sequential, from its weights."""
    layers = {}
    for name, value in state.items():
        match = re.fullmatch(r"(?:layers\.)?(?:(\d+)\.)?(weight|bias)", name)
        if not match:
            raise SystemExit(f"{path}: {name} is no part of an aesthetic head, whose tensors are layers.0.weight, layers.0.bias, …")
        layers.setdefault(int(match.group(1) or 0), {})[match.group(2)] = value.float()
    modules, last = [], None
    for index in sorted(layers):
        layer = layers[index]
        if set(layer) != {"weight", "bias"} or layer["weight"].dim() != 2 or layer["bias"].shape != layer["weight"].shape[:1]:
            raise SystemExit(f"{path}: layer {index} is not a linear layer with weight [out, in] and bias [out]")
        if last is not None:
            if layer["weight"].shape[1] != last[1] or index - last[0] not in (1, 2, 3):
                raise SystemExit(f"{path}: layer {index} does not follow layer {last[0]} as in LAION's heads")
            if index - last[0] == 3:  # The two in between: ReLU and dropout. A single one: dropout.
                modules.append(nn.ReLU())
        linear = nn.Linear(layer["weight"].shape[1], layer["weight"].shape[0])
        linear.load_state_dict(layer)
        modules.append(linear)
        last = (index, linear.out_features)
    if last is None or last[1] != 1:
        raise SystemExit(f"{path}: the head ends in {last and last[1]} values, not in one")
    return nn.Sequential(*modules)


class Aesthetic(nn.Module):
    def __init__(self, source, layers: nn.Sequential):
        super().__init__()
        self.preprocess, self.image_tower, self.layers = source.preprocess, source.image_tower, layers

    def forward(self, generated: torch.Tensor) -> torch.Tensor:
        return self.layers(clip_model.unit(self.image_tower(self.preprocess(generated)))).squeeze(1)


def make(source, state, path):
    """state: the head's weights, from `path`."""
    layers = head(state, path)
    width = source.image_tower.proj.out_features
    if layers[0].in_features != width:
        raise SystemExit(f"{path} takes embeddings of {layers[0].in_features}, the CLIP model has {width}; LAION's heads go with ViT-L/14")

    def original(inputs):
        features = source.original_image(source.preprocess(inputs["generated"])).double()
        x = features / features.norm(dim=-1, keepdim=True)
        for module in layers:
            x = torch.relu(x) if isinstance(module, nn.ReLU) else x @ module.weight.double().T + module.bias.double()
        return [x.flatten()]

    return reward_file.Reward(Aesthetic(source, layers), ("generated",), original, pixels=source.pixels())


def add(commands):
    parser = commands.add_parser("aesthetic", help="LAION's aesthetic head on CLIP ViT-L/14")
    clip_source.add_arguments(parser)
    parser.add_argument("--head", metavar="FILE", required=True, help="the head's weights (.pth, .safetensors)")

    def run(options):
        return make(clip_source.load(options), weights.read(options.head), options.head)

    return parser, run
