"""Any nn.Module: a classifier of torchvision or of one's own, and scorers with any of a reward's inputs."""
import importlib.util
import pathlib

import torch
from torch import nn

import clip_source
import preprocess
import reward_file
import tokenizer_files
import weights


def load_factory(text):
    """FILE.py:FUNCTION → what the function returns, an nn.Module in eval mode."""
    path, _, name = text.rpartition(":")
    if not path.endswith(".py") or not name:
        raise SystemExit(f"{text!r} is not FILE.py:FUNCTION")
    if not pathlib.Path(path).exists():
        raise SystemExit(f"{path} does not exist")
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    file = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(file)
    if not callable(getattr(file, name, None)):
        raise SystemExit(f"{path} has no function {name}")
    module = getattr(file, name)()
    if not isinstance(module, nn.Module):
        raise SystemExit(f"{text} returns a {type(module).__name__}, not an nn.Module")
    return module.eval().requires_grad_(False)


def parse_sizes(texts):
    """["512x512", "64x96"], height × width → [(512, 512), (64, 96)]."""
    try:
        return [tuple(int(part) for part in text.split("x", 1)) for text in texts] if texts else list(reward_file.SIZES)
    except ValueError:
        raise SystemExit(f"--sizes {' '.join(texts)}: each one is HEIGHTxWIDTH") from None


# classifier


class Classifier(nn.Module):
    def __init__(self, resize: preprocess.Preprocess, network):
        super().__init__()
        self.resize, self.network = resize, network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(self.resize(images))


def make_classifier(network, resize, sizes=reward_file.SIZES, pixels=None):
    """network: normalised pixels → logits; resize: its Preprocess; pixels: the package's, of PIL images, if there is one."""
    script = reward_file.compile_module(network, resize(torch.rand(2, 3, 64, 64)))
    return reward_file.Reward(Classifier(resize, script), ("generated",), lambda inputs: [network(resize(inputs["generated"]))],
                              classifier=True, sizes=sizes, pixels=pixels and (resize, pixels))


def _torchvision(options):
    try:
        import torchvision
    except ImportError as error:
        raise SystemExit(f"torchvision is needed: pip install torchvision ({error})") from None
    try:
        preset = torchvision.models.get_model_weights(options.torchvision)
        chosen = preset[options.preset] if options.preset else preset.DEFAULT
    except (ValueError, KeyError) as error:
        raise SystemExit(f"torchvision: {error}") from None
    transform = chosen.transforms()
    if options.weights:
        state = weights.read(options.weights)
        final = [value for value in state.values() if value.dim() == 1][-1]
        network = torchvision.models.get_model(options.torchvision, weights=None, num_classes=final.shape[0])
        weights.load_into(network, state, options.weights)
    else:
        try:
            network = torchvision.models.get_model(options.torchvision, weights=chosen)
        except OSError as error:
            raise SystemExit(f"torchvision could not get the weights ({error}); download them and name the file with --weights") from None
    interpolation = transform.interpolation.value
    resize = preprocess.Preprocess(options.resize or transform.resize_size[0], options.crop or transform.crop_size[0], transform.mean,
                                   transform.std, interpolation)
    own = options.resize or options.crop
    pixels = None if own else lambda pictures: torch.stack([transform(picture) for picture in pictures])
    return network.eval().requires_grad_(False), resize, pixels


def add_classifier(commands):
    parser = commands.add_parser("classifier", help="a file of the reward type classifier, from torchvision or a module of one's own")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--torchvision", metavar="NAME", help="a classification model of torchvision, such as resnet50")
    source.add_argument("--factory", metavar="FILE.py:FUNCTION", help="returns an nn.Module, normalised [N,3,h,w] to logits [N,classes]")
    parser.add_argument("--weights", metavar="FILE", help="with --torchvision: weights (.pth, .safetensors); otherwise torchvision gets them")
    parser.add_argument("--preset", metavar="NAME", help="with --torchvision: whose preprocessing, such as IMAGENET1K_V1 (default: its best weights')")
    parser.add_argument("--resize", type=int, default=0, metavar="PIXELS", help="shorter side after resizing (with --factory: 0, as they are)")
    parser.add_argument("--crop", type=int, default=0, metavar="PIXELS", help="side of the square from the centre")
    parser.add_argument("--interpolation", choices=("bicubic", "bilinear"), default="bilinear", help="with --factory (default %(default)s)")
    parser.add_argument("--mean", type=float, nargs=3, default=preprocess.NO_MEAN, help="with --factory: subtracted from red, green, blue")
    parser.add_argument("--std", type=float, nargs=3, default=preprocess.NO_STD, help="with --factory: then divided by")
    parser.add_argument("--sizes", nargs="+", metavar="HxW", help="sizes to check the file at")

    def run(options):
        sizes = parse_sizes(options.sizes)
        if options.torchvision:
            network, resize, pixels = _torchvision(options)
            return make_classifier(network, resize, sizes, pixels)
        resize = preprocess.Preprocess(options.resize, options.crop, options.mean, options.std, options.interpolation)
        return make_classifier(load_factory(options.factory), resize, sizes)

    return parser, run


# module


def make_module(module, inputs, outputs=(), value=None, tokenizer=None, tokenize=None, sizes=reward_file.SIZES, num_labels=10):
    """module: forward with the arguments `inputs`, to one tensor [N] or a tuple of them, `outputs`."""

    def original(tensors):
        returned = module(*tensors.values())
        return list(returned) if isinstance(returned, (tuple, list)) else [returned]

    return reward_file.Reward(module, inputs, original, outputs=outputs, value=value, tokenizer=tokenizer, prompts=tokenize, sizes=sizes,
                              num_labels=num_labels)


def add_module(commands):
    parser = commands.add_parser("module", help="any nn.Module, by a function that returns it")
    parser.add_argument("--factory", metavar="FILE.py:FUNCTION", required=True, help="returns the module, with its weights")
    parser.add_argument("--inputs", nargs="+", metavar="NAME", default=["generated"],
                        help=f"forward's arguments in order, of {', '.join(reward_file.INPUTS)}")
    parser.add_argument("--outputs", nargs="+", metavar="NAME", default=[], help="names of the values in the tuple that forward returns")
    parser.add_argument("--value", metavar="NAME", help="the output that is the reward (default: the first)")
    parser.add_argument("--tokenizer", metavar="FOLDER", help="for prompt_tokens: a CLIP tokenizer's folder")
    parser.add_argument("--length", type=int, default=77, help="tokens of a prompt (default %(default)s)")
    parser.add_argument("--labels", type=int, default=10, help="labels to check with: 0 to this - 1 (default %(default)s)")
    parser.add_argument("--sizes", nargs="+", metavar="HxW", help="sizes to check the file at; where it can be only traced, the job's")

    def run(options):
        if options.value and options.value not in options.outputs:
            raise SystemExit(f"--value {options.value} is not among --outputs")
        words, tokenize = None, None
        if options.tokenizer:
            words = tokenizer_files.read_folder(options.tokenizer, options.length)
            tokenize = clip_source.transformers_tokenize(options.tokenizer, options.length)
        return make_module(load_factory(options.factory), options.inputs, options.outputs, options.value, words, tokenize,
                           parse_sizes(options.sizes), options.labels)

    return parser, run
