"""A reward as a TorchScript file: compiled, written, and held against its Python original before it gets its name.

What the service reads (docs/formats.md, "rewards"): forward() with the arguments that imageddpo.json inside the
archive lists, and one value, or a tuple of named values, for each image.
Shapes: N images, H × W pixels.
"""
import dataclasses
import json
import os
import pathlib
import typing
import warnings

import torch
from torch import nn

import tokenizer_files

IMAGES = ("generated", "input", "target")
INPUTS = IMAGES + ("prompt_tokens", "label")
SIZES = ((64, 64), (96, 80), (224, 224), (200, 300))  # Heights and widths that a file is checked at.
BOUND = 1e-4  # Of the larger of 1 and the largest value: differing order of float32 sums, nothing more.
PIXEL_BOUND = 2.5 / 255  # preprocess.py says why it is not 0.
BATCH = 5


@dataclasses.dataclass
class Reward:
    module: nn.Module
    inputs: typing.Sequence[str]       # forward's arguments, of INPUTS
    original: typing.Callable          # dict of inputs → list of [N] tensors, one for each output: the Python package's
    outputs: typing.Sequence[str] = ()  # names of the values; none: forward returns one
    value: typing.Optional[str] = None  # the output that is the reward; by default the first
    tokenizer: typing.Optional[tokenizer_files.Tokenizer] = None
    num_labels: int = 10               # labels of the checks are below it
    sizes: typing.Sequence[tuple] = SIZES
    prompts: typing.Optional[typing.Callable] = None  # texts → [N,length] tokens, as the package tokenizes
    # Where the package has a preprocessing of its own: ours (a Preprocess), and its, list of PIL images → [N,3,h,w].
    pixels: typing.Optional[typing.Tuple[nn.Module, typing.Callable]] = None
    classifier: bool = False  # a file of the reward type "classifier": [N,3,H,W] → logits [N,classes], no imageddpo.json

    def description(self):
        """The content of imageddpo.json."""
        content = {"format": 1, "inputs": list(self.inputs)}
        if self.outputs:
            content.update(outputs=list(self.outputs), value=self.value or self.outputs[0])
        if self.tokenizer:
            content["tokenizer"] = self.tokenizer.description()
        return content


class Refused(SystemExit):
    """Why no file was written."""


def trace(module, example):
    """TorchScript of what the module does with `example`, a tensor or a tuple of them."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module.eval().requires_grad_(False), example, check_trace=False)


def compile_module(module, example):
    """TorchScript of a module in eval mode without gradients: compiled, or traced with `example` where it cannot be."""
    module = module.eval().requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.jit.script(module)
        except Exception as error:  # pylint: disable=broad-except  # whatever the compiler does not understand
            lines = [line for line in str(error).splitlines() if line.strip()]
            print(f"{type(module).__name__} cannot be compiled, so it is traced: {lines[0].strip() if lines else type(error).__name__}", flush=True)
    return trace(module, example)


def images(seed, count, height, width):
    """[count,3,height,width]: smooth colours with a little noise, in whole levels of 255, away from black and white."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 7, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)
    noise = torch.rand(count, 3, height, width, generator=generator)
    return ((0.15 + 0.6 * smooth + 0.1 * noise) * 255).round() / 255


PROMPTS = ("", "a photo of a dog", "Two red apples, 1 pear & 'some' café!", "an oil painting of a lighthouse at night",
           "very " * 90 + "long")


def example_inputs(reward, seed, count, height, width):
    """name → tensor, for each of the reward's inputs."""
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for name in reward.inputs:
        if name in IMAGES:
            result[name] = images(seed + 1 + IMAGES.index(name), count, height, width)
        elif name == "prompt_tokens":
            result[name] = reward.prompts([PROMPTS[(seed + i) % len(PROMPTS)] for i in range(count)]).to(torch.int64)
        else:
            result[name] = torch.randint(reward.num_labels, (count,), generator=generator)
    return result


def _values(reward, returned, count, at):
    """forward's result as [N,outputs], checked against what the file promises."""
    many = isinstance(returned, (tuple, list))
    if many != bool(reward.outputs):
        raise Refused(f"{at}: forward returns {type(returned).__name__}, while {len(reward.outputs)} outputs are named")
    columns = list(returned) if many else [returned]
    if many and len(columns) != len(reward.outputs):
        raise Refused(f"{at}: forward returns {len(columns)} values for the outputs {', '.join(reward.outputs)}")
    for index, column in enumerate(columns):
        name = reward.outputs[index] if many else "the value"
        shapes = [(count,)] if many else [(count,), (count, 1)]
        if reward.classifier:
            shapes = [(count, column.shape[-1])] if column.dim() == 2 and column.shape[-1] > 1 else []
        if tuple(column.shape) not in shapes or column.dtype != torch.float32:
            raise Refused(f"{at}: {name} has shape {list(column.shape)} and type {column.dtype}; "
                          f"{'float32 logits [N, classes >= 2]' if reward.classifier else 'float32 [N]'} is needed, N = {count}")
        if not column.isfinite().all():
            raise Refused(f"{at}: {name} is not finite")
    return torch.cat([column.reshape(count, -1) for column in columns], dim=1)


def _difference(found, expected):
    """Largest difference, relative to the larger of 1 and the largest expected value."""
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1)).item()


def _check_size(reward, loaded, seed, height, width):
    at = f"{height}x{width}"
    inputs = example_inputs(reward, seed, BATCH, height, width)
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    batch = _values(reward, loaded(*inputs.values()), BATCH, at)
    changed = [name for name in inputs if not torch.equal(inputs[name], before[name])]
    if changed:
        raise Refused(f"{at}: forward changes its argument {changed[0]}, which other rewards read, too; work on a copy (x - mean, not x.sub_(mean))")
    expected = torch.cat([column.reshape(BATCH, -1).float() for column in reward.original(inputs)], dim=1)
    original = _difference(batch, expected)
    alone = torch.cat([_values(reward, loaded(*(tensor[i:i + 1] for tensor in inputs.values())), 1, at) for i in range(BATCH)])
    batching = _difference(alone, batch)
    again = torch.equal(batch, _values(reward, loaded(*inputs.values()), BATCH, at))
    print(f"  {at:>9}: against the original {original:.1e}, alone and in a batch {batching:.1e}, "
          f"values {batch.min().item():.4g} to {batch.max().item():.4g}", flush=True)
    if not original <= BOUND:
        raise Refused(f"{at}: the file differs from its Python original by {original:.1e}, more than {BOUND:.0e}")
    if not batching <= BOUND:
        raise Refused(f"{at}: an image scores differently alone and in a batch, by {batching:.1e}; does the module normalise over the batch?")
    if not again:
        raise Refused(f"{at}: the same images score differently twice; does the module draw random numbers, or is dropout on?")


def _check_pixels(reward):
    from PIL import Image
    ours, theirs = reward.pixels
    worst = 0.0
    for seed, (height, width) in enumerate(reward.sizes):
        batch = images(seed, 2, height, width)
        pictures = [Image.fromarray((image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()) for image in batch]
        found, expected = ours(batch), theirs(pictures)
        if found.shape != expected.shape:
            raise Refused(f"{height}x{width}: the file makes {list(found.shape)} of it, the package's preprocessing {list(expected.shape)}")
        worst = max(worst, ((found - expected).abs() * ours.std_3.view(1, 3, 1, 1)).max().item())
    print(f"  preprocessing: {worst * 255:.2f} levels of 255 from the package's, which rounds to whole levels")
    if not worst <= PIXEL_BOUND:
        raise Refused(f"pixels differ from the package's preprocessing by {worst * 255:.1f} levels, more than {PIXEL_BOUND * 255}")


def _check_device(loaded):
    """Refuses a file with a tensor that stays where it is when the file is moved to a GPU.

    Parameters and buffers move. Constants of a trace, tensors that a module holds without registering them, and
    devices that are written out do not; a constant single number goes with every device.
    """
    graph = loaded.inlined_graph
    torch._C._jit_pass_dce(graph)  # pylint: disable=protected-access
    own = {name.rpartition(".")[2] for name, _ in (*loaded.named_parameters(), *loaded.named_buffers())}
    bound = None
    for node in graph.findAllNodes("prim::Constant", True):
        kind, value = node.output().type().kind(), node.output().toIValue()
        if kind == "TensorType" and value is not None and value.dim() > 0:
            bound = f"a constant tensor of shape {list(value.shape)}"
        elif kind == "DeviceObjType" and value is not None:
            bound = f"an operation on the device \"{value}\""
    for node in graph.findAllNodes("prim::GetAttr", True):
        if node.output().type().kind() == "TensorType" and node.s("name") not in own:
            bound = f"the tensor {node.s('name')}, which is no buffer"
    if bound:
        raise Refused(f"the file has {bound}; it stays on the CPU when the file is moved to a GPU. Make it a buffer of the module "
                      "(register_buffer), or create it with device=x.device in a module that TorchScript can compile")
    print("  no tensor is bound to a device")


def write(reward, path):
    """Writes the reward to `path`; nothing is left there, and SystemExit says why, where a check fails."""
    path = pathlib.Path(path)
    unknown = [name for name in reward.inputs if name not in INPUTS]
    if unknown:
        raise Refused(f"{unknown[0]!r} is no input of a reward; there are {', '.join(INPUTS)}")
    if "prompt_tokens" in reward.inputs and not reward.tokenizer:
        raise Refused("prompt_tokens need a tokenizer: --tokenizer FOLDER")
    height, width = reward.sizes[0]
    example = tuple(example_inputs(reward, 0, 2, height, width).values())
    script = compile_module(reward.module, example)
    extra = {}
    if not reward.classifier:
        extra["imageddpo.json"] = json.dumps(reward.description(), indent=1)
    if reward.tokenizer:
        extra.update(reward.tokenizer.files())
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.jit.save(script, str(partial), _extra_files=extra)
            del script  # Large models are held twice as it is: ours and the package's.
            print(f"{path}:", flush=True)
            loaded = torch.jit.load(str(partial), map_location="cpu").eval()
            for seed, (height, width) in enumerate(reward.sizes):
                _check_size(reward, loaded, seed, height, width)
            if reward.pixels:
                _check_pixels(reward)
            _check_device(loaded)
        os.replace(partial, path)
    except Refused as refused:
        raise Refused(f"{path} is not written. {refused}") from None
    finally:
        partial.unlink(missing_ok=True)
    names = f", values {', '.join(reward.outputs)}" if reward.outputs else ""
    kind = "classifier" if reward.classifier else "torchscript"
    print(f"written, {path.stat().st_size / 1e6:.1f} MB; a reward of type {kind}; takes {', '.join(reward.inputs)}{names}")
