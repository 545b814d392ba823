"""What deploy/rewards/export refuses: each file that would fail or mislead in the service is not written, and says why.

    python tests/parity/export/live_refusals.py        needs torch, numpy, Pillow
"""
import contextlib
import io
import pathlib
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
sys.dont_write_bytecode = True
import torch  # noqa: E402
from torch import nn  # noqa: E402

import small_models  # noqa: E402, F401  # It puts deploy/rewards/export on the path.
import aesthetic  # noqa: E402
import clip_labels  # noqa: E402
import preprocess  # noqa: E402
import reward_file  # noqa: E402
import user_module  # noqa: E402
import weights  # noqa: E402

SIZES = ((32, 32), (48, 40))


class Score(nn.Module):
    """A linear score; subclasses break one promise each."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, generated):
        return self.conv(generated).mean(dim=[1, 2, 3])


class OverTheBatch(Score):
    def forward(self, generated):
        score = self.conv(generated).mean(dim=[1, 2, 3])
        return score - score.mean()


class Random(Score):
    def forward(self, generated):
        return self.conv(generated).mean(dim=[1, 2, 3]) + torch.rand(generated.size(0))


class InPlace(Score):
    def forward(self, generated):
        return self.conv(generated.sub_(0.5)).mean(dim=[1, 2, 3])


class Logits(Score):
    def forward(self, generated):
        return self.conv(generated).mean(dim=[2, 3])


class Infinite(Score):
    def forward(self, generated):
        return self.conv(generated).mean(dim=[1, 2, 3]) / 0


class Half(Score):
    def forward(self, generated):
        return self.conv(generated).mean(dim=[1, 2, 3]).double()


class OnTheCpu(Score):
    """numpy cannot be compiled, so it is traced, and the constant stays where it was."""

    def forward(self, generated):
        weight = torch.from_numpy(torch.ones(4).numpy() * 2)
        return (self.conv(generated) * weight.view(1, 4, 1, 1)).mean(dim=[1, 2, 3])


class NoBuffer(Score):
    def __init__(self):
        super().__init__()
        self.by_channel = torch.ones(4)

    def forward(self, generated):
        return (self.conv(generated) * self.by_channel.view(1, 4, 1, 1)).mean(dim=[1, 2, 3])


class WrittenOut(Score):
    def forward(self, generated):
        return self.conv(generated).mean(dim=[1, 2, 3]) + torch.zeros(1, device="cpu")


class OneSize(Score):
    """Traced, so that its branch is the one that the first size took."""

    def forward(self, generated):
        if int(generated.numpy().shape[2]) == 32:
            generated = generated * 2
        return self.conv(generated).mean(dim=[1, 2, 3])


def refused(what, expected, action):
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        out = pathlib.Path(folder) / "reward.pt"
        try:
            action(out)
        except SystemExit as stop:
            message = str(stop.code)
        else:
            sys.exit(f"live_refusals: {what} was not refused")
        left = sorted(path.name for path in pathlib.Path(folder).iterdir())
    if expected not in message:
        sys.exit(f"live_refusals: {what} says\n  {message}\nwithout\n  {expected}")
    if left:
        sys.exit(f"live_refusals: {what} leaves {left} behind")
    print(f"    {what:28} {message[:110]}")


def module(kind, **options):
    return lambda out: reward_file.write(user_module.make_module(kind().eval(), ("generated",), sizes=SIZES, **options), out)


def check_modules():
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as printed:
        module(Score)(pathlib.Path(folder) / "reward.pt")  # What all of them are but for one thing.
    assert "no tensor is bound to a device" in printed.getvalue(), printed.getvalue()
    refused("a mean over the batch", "alone and in a batch", module(OverTheBatch))
    refused("random numbers", "differs from its Python original", module(Random))
    refused("a change in place", "changes its argument generated", module(InPlace))
    refused("logits as a value", "has shape [5, 4]", module(Logits))
    refused("an infinite value", "not finite", module(Infinite))
    refused("another type", "float64", module(Half))
    refused("a constant of a trace", "a constant tensor of shape [4]", module(OnTheCpu))
    refused("a tensor that is no buffer", "the tensor by_channel", module(NoBuffer))
    refused("a device written out", 'the device "cpu"', module(WrittenOut))
    refused("a branch on the size", "differs from its Python original", module(OneSize))
    refused("names for one value", "2 outputs are named", module(Score, outputs=("a", "b")))
    refused("an unknown input", "'image' is no input", lambda out: reward_file.write(user_module.make_module(Score(), ("image",)), out))
    refused("prompts, no tokenizer", "need a tokenizer",
            lambda out: reward_file.write(user_module.make_module(Score(), ("generated", "prompt_tokens")), out))
    plain = preprocess.Preprocess(0, mean=preprocess.NO_MEAN, std=preprocess.NO_STD)
    refused("a classifier of one value", "classes >= 2", lambda out: reward_file.write(user_module.make_classifier(Score(), plain, SIZES), out))


class WrongCrop(preprocess.Preprocess):
    def forward(self, images):
        return super().forward(images.flip(3))


def check_pixels():
    """A preprocessing that differs from the package's is noticed, though both score the same pixels alike."""
    import numpy

    def theirs(pictures):
        return torch.stack([torch.from_numpy(numpy.array(picture)).permute(2, 0, 1).float() / 255 for picture in pictures])

    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    plain = WrongCrop(0, mean=preprocess.NO_MEAN, std=preprocess.NO_STD)
    refused("another preprocessing", "pixels differ from the package's",
            lambda out: reward_file.write(user_module.make_classifier(network, plain, SIZES, theirs), out))


def check_files():
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)

        def text(name, content):
            (scratch / name).write_text(content)
            return scratch / name

        torch.save({"layers.0.weight": torch.zeros(2, 3), "layers.0.bias": torch.zeros(2)}, scratch / "wide.pth")
        torch.save([1, 2], scratch / "list.pth")
        for what, expected, action in (
                ("no classes", "at least two", lambda: clip_labels.read_classes(text("one.txt", "dog\n"))),
                ("an empty class", "line 2 is empty", lambda: clip_labels.read_classes(text("gap.txt", "dog\n\ncat\n"))),
                ("a template without label", "has no {label}", lambda: clip_labels.class_texts(["dog"], ["a photo"])),
                ("a head of two values", "ends in 2 values", lambda: aesthetic.head(weights.read(scratch / "wide.pth"), "wide.pth")),
                ("weights that are a list", "something else than named tensors", lambda: weights.read(scratch / "list.pth")),
                ("weights that are text", "is not a file of tensors", lambda: weights.read(text("text.pth", "hello"))),
                ("no such weights", "does not exist", lambda: weights.read(scratch / "none.pth")),
                ("a factory without function", "is not FILE.py:FUNCTION", lambda: user_module.load_factory("reward.py")),
                ("a factory of a number", "returns a int", lambda: user_module.load_factory(f"{text('f.py', 'def make(): return 1')}:make"))):
            refused(what, expected, lambda out, act=action: act())


def main():
    torch.set_grad_enabled(False)
    check_modules()
    check_pixels()
    check_files()
    print("live_refusals: passed")


if __name__ == "__main__":
    main()
