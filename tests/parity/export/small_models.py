"""Small random models in the packages' own formats, for recordings and live comparisons of deploy/rewards/export."""
import json
import pathlib
import shutil
import sys

import torch

ROOT = pathlib.Path(__file__).resolve().parents[3]
EXPORT = ROOT / "deploy/rewards/export"
TOKENIZER = ROOT / "deploy/demo/tiny-sd/tokenizer"
sys.path.insert(0, str(EXPORT))

SIDE, EMBEDDING = 32, 12


def randomise(model, seed):
    """Every parameter away from what layers begin with, so that a forgotten one shows."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() and "logit_scale" not in name:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.requires_grad_(False).eval()


def write_transformers(folder, seed, width=16, quick_gelu=True, processor=True):
    """A CLIP model's folder as transformers saves it, with the demo's tokenizer (577 tokens)."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel
    common = dict(hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=2,
                  hidden_act="quick_gelu" if quick_gelu else "gelu")
    torch.manual_seed(seed)
    model = randomise(CLIPModel(CLIPConfig(
        text_config=dict(vocab_size=577, max_position_embeddings=77, bos_token_id=575, eos_token_id=576, pad_token_id=576, **common),
        vision_config=dict(image_size=SIDE, patch_size=8, **common), projection_dim=EMBEDDING)), seed)
    model.save_pretrained(folder)
    for file in TOKENIZER.iterdir():
        shutil.copy(file, folder)
    if processor:
        CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def write_open_clip(folder, seed, width=16):
    """A folder for open_clip's local-dir: with its own vocabulary of 49,408 tokens."""
    import open_clip
    from safetensors.torch import save_file
    config = {
        "embed_dim": EMBEDDING,
        "vision_cfg": {"image_size": SIDE, "layers": 2, "width": width, "head_width": width // 2, "patch_size": 8, "mlp_ratio": 2.0},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": width, "heads": 2, "layers": 2, "mlp_ratio": 2.0}}
    torch.manual_seed(seed)
    model = randomise(open_clip.CLIP(EMBEDDING, config["vision_cfg"], config["text_cfg"]), seed)
    folder.mkdir(parents=True)
    preprocess = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    save_file(model.state_dict(), str(folder / "open_clip_model.safetensors"))
    return folder


def write_head(path, seed, relu=False):
    """An aesthetic head's weights, named as LAION's."""
    torch.manual_seed(seed)
    places = (0, 3, 6, 9, 10) if relu else (0, 2, 4, 6, 7)
    widths, state = (EMBEDDING, 16, 12, 8, 4, 1), {}
    for place, wide, narrow in zip(places, widths, widths[1:]):
        state[f"layers.{place}.weight"], state[f"layers.{place}.bias"] = torch.randn(narrow, wide) / wide**0.5, torch.randn(narrow)
    torch.save(state, path)
    return path


class Likeness(torch.nn.Module):
    """A scorer with every other input: likeness to the target, weighted by the label. Its branch cannot be traced."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, stride=2)
        self.by_label = torch.nn.Embedding(10, 4)

    def forward(self, generated: torch.Tensor, target: torch.Tensor, label: torch.Tensor):
        if generated.size(2) > 40:
            generated, target = generated[:, :, ::2], target[:, :, ::2]
        apart = (self.conv(generated) - self.conv(target)).square().mean(dim=[2, 3])
        return -(apart * self.by_label(label).exp()).sum(dim=1), apart.mean(dim=1)


def likeness():
    torch.manual_seed(3)
    return Likeness()
