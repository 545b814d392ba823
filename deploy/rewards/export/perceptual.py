"""LPIPS (Zhang et al., arXiv:1801.03924): how far two pictures are apart, 0 for equal ones. As a reward its weight is negative."""
import torch
from torch import nn

import preprocess
import reward_file
import weights

BACKBONES = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
SMALLEST = {"alex": 32, "vgg": 16, "squeeze": 32}  # Below it, the last layer has no pixel left.


class Pair(nn.Module):
    """The package's network on pictures in [0,1]."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, generated, other):
        return self.network(generated, other, normalize=True).flatten()


class Distance(nn.Module):
    def __init__(self, resize: preprocess.Preprocess, pair):
        super().__init__()
        self.resize, self.pair = resize, pair

    def forward(self, generated: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return self.pair(self.resize(generated), self.resize(other))


def load_network(net, backbone=None):
    """lpips.LPIPS with its trained heads; its backbone from torchvision's weights in `backbone`, or from the package."""
    try:
        import lpips
    except ImportError as error:
        raise SystemExit(f"lpips is needed: pip install lpips ({error})") from None
    if backbone is None:
        try:
            return lpips.LPIPS(net=net, verbose=False)
        except Exception as error:
            raise SystemExit(f"torchvision could not get the weights of {BACKBONES[net]} ({str(error).splitlines()[0]}); download them and "
                             f"name the file with --backbone") from None
    network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    state = {name[len("features."):]: value for name, value in weights.read(backbone).items() if name.startswith("features.")}
    # The package cuts torchvision's `features` into slices and keeps the layers' numbers: slice2.3.weight.
    own = {}
    for name in network.net.state_dict():
        layer = name.split(".", 1)[1]
        if layer not in state:
            raise SystemExit(f"{backbone} has no features.{layer}; --backbone takes torchvision's {BACKBONES[net]} weights")
        own[name] = state[layer]
    weights.load_into(network.net, own, backbone)
    return network.eval()


def make(network, net, to, size=0):
    """to: "input" or "target"; size: side in pixels to which both are stretched first, 0: as they are."""
    resize = preprocess.Preprocess(size, mean=preprocess.NO_MEAN, std=preprocess.NO_STD, interpolation="bilinear", fit="stretch")
    network = network.eval().requires_grad_(False)
    example = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    pair = reward_file.trace(Pair(network), example)  # Convolutions only: a trace holds for every size.

    def original(inputs):
        return [network(2 * resize(inputs["generated"]) - 1, 2 * resize(inputs[to]) - 1).flatten()]

    sizes = [(max(h, SMALLEST[net]), max(w, SMALLEST[net])) for h, w in ((32, 32), (64, 64), (96, 80), (130, 200))]
    return reward_file.Reward(Distance(resize, pair), ("generated", to), original, sizes=sizes)


def add(commands):
    parser = commands.add_parser("lpips", help="LPIPS distance to the input or to the target; give it a negative weight")
    parser.add_argument("--net", choices=sorted(BACKBONES), default="alex", help="backbone (default %(default)s)")
    parser.add_argument("--backbone", metavar="FILE", help="torchvision's ImageNet weights of it (.pth); otherwise lpips lets torchvision get them")
    parser.add_argument("--to", choices=("input", "target"), default="input", help="what the generated image is compared with (default %(default)s)")
    parser.add_argument("--size", type=int, default=0, metavar="PIXELS", help="stretch both to a square of this side first; 0: as they are")

    def run(options):
        if options.size and options.size < SMALLEST[options.net]:
            raise SystemExit(f"--size {options.size}: {options.net} needs at least {SMALLEST[options.net]}")
        return make(load_network(options.net, options.backbone), options.net, options.to, options.size)

    return parser, run
