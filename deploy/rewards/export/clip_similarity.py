"""How well a picture shows its prompt: CLIP's cosine, PickScore and HPS v2, which are CLIP models trained on choices."""
import torch
from torch import nn

import clip_model
import clip_source
import preprocess
import reward_file


class Similarity(nn.Module):
    """Cosine of image and prompt, times `scale`."""

    def __init__(self, source, scale: float):
        super().__init__()
        self.preprocess, self.image_tower, self.text_tower = source.preprocess, source.image_tower, source.text_tower
        self.scale = scale

    def forward(self, generated: torch.Tensor, prompt_tokens: torch.Tensor) -> torch.Tensor:
        image_NE = clip_model.unit(self.image_tower(self.preprocess(generated)))
        text_NE = clip_model.unit(self.text_tower(prompt_tokens))
        return self.scale * (image_NE * text_NE).sum(dim=1)


def make(source, scale):
    """scale: factor of the cosine."""

    def original(inputs):
        image = nn.functional.normalize(source.original_image(source.preprocess(inputs["generated"])), dim=-1)
        text = nn.functional.normalize(source.original_text(inputs["prompt_tokens"]), dim=-1)
        return [scale * torch.diagonal(image @ text.T)]

    return reward_file.Reward(
        Similarity(source, scale), ("generated", "prompt_tokens"), original, tokenizer=source.tokenizer, prompts=source.tokenize,
        pixels=source.pixels())


def add_similarity(commands):
    parser = commands.add_parser("clip-similarity", help="cosine of picture and prompt by any CLIP with a ViT")
    clip_source.add_arguments(parser)
    parser.add_argument("--logit-scale", action="store_true", help="multiply by the model's logit scale (about 100); otherwise -1 to 1")

    def run(options):
        source = clip_source.load(options)
        return make(source, source.logit_scale if options.logit_scale else 1.0)

    return parser, run


def add_pickscore(commands):
    parser = commands.add_parser("pickscore", help="PickScore: a CLIP ViT-H in transformers' format, cosine times its logit scale")
    parser.add_argument("--transformers", metavar="FOLDER", required=True, help="PickScore's model folder")
    parser.add_argument("--tokenizer", metavar="FOLDER", help="folder of the CLIP ViT-H tokenizer, where the model's has none")

    def run(options):
        source = clip_source.from_transformers(options.transformers, options.tokenizer)
        return make(source, source.logit_scale)

    return parser, run


def add_hpsv2(commands):
    parser = commands.add_parser("hpsv2", help="HPS v2 and v2.1: an open_clip ViT-H-14, the plain cosine")
    parser.add_argument("--weights", metavar="FILE", required=True, help="HPS_v2_compressed.pt or HPS_v2.1_compressed.pt")
    parser.add_argument("--open-clip", metavar="NAME", default="ViT-H-14", help="architecture (default %(default)s)")

    def run(options):
        source = clip_source.from_open_clip(options.open_clip, options.weights)
        theirs = source.preprocess
        # HPS resizes the tensor, not the picture: nothing is rounded or clipped, and what is not square gets borders.
        source.preprocess = preprocess.Preprocess(
            theirs.resize, 0, theirs.mean_3.tolist(), theirs.std_3.tolist(), fit="longer", clip=False)
        source.original_pixels = None  # open_clip's, which is another one.
        return make(source, 1.0)

    return parser, run
