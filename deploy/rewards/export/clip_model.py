"""CLIP's two towers (Radford et al., arXiv:2103.00020, with a ViT), as modules that TorchScript can compile.

The packages' own modules cannot be compiled, and a trace of them fixes devices. These compute the same from the same
weights; clip_source.py copies the weights and holds both against each other. Parameters are named as open_clip names
them where there is a choice.
Shapes: N images or texts, L tokens or patches + 1, D width, E width of the embedding.
"""
import typing

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.in_proj = nn.Linear(width, 3 * width)  # q, k, v
        self.out_proj = nn.Linear(width, width)

    def forward(self, x_NLD: torch.Tensor, causal: bool) -> torch.Tensor:
        batch, length, width = x_NLD.size(0), x_NLD.size(1), x_NLD.size(2)
        qkv = self.in_proj(x_NLD).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        out = nn.functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=causal)
        return self.out_proj(out.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, inner: int, quick_gelu: bool, eps: float):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads)
        self.c_fc, self.c_proj = nn.Linear(width, inner), nn.Linear(inner, width)
        self.quick_gelu = quick_gelu

    def forward(self, x_NLD: torch.Tensor, causal: bool) -> torch.Tensor:
        x_NLD = x_NLD + self.attn(self.ln_1(x_NLD), causal)
        hidden = self.c_fc(self.ln_2(x_NLD))
        if self.quick_gelu:
            hidden = hidden * torch.sigmoid(1.702 * hidden)
        else:
            hidden = nn.functional.gelu(hidden)
        return x_NLD + self.c_proj(hidden)


class Sizes(typing.NamedTuple):
    """One tower."""
    width: int
    layers: int
    heads: int
    inner: int        # width of the MLP
    quick_gelu: bool  # OpenAI's approximation; else GELU
    eps: float        # of the layer norms


def blocks(sizes: Sizes) -> nn.ModuleList:
    return nn.ModuleList(
        Block(sizes.width, sizes.heads, sizes.inner, sizes.quick_gelu, sizes.eps) for _ in range(sizes.layers))


class ImageTower(nn.Module):
    """[N,3,S,S] normalised pixels → [N,E], not normalised."""

    def __init__(self, sizes: Sizes, image_size: int, patch: int, embedding: int):
        super().__init__()
        tokens = (image_size // patch)**2 + 1
        self.conv1 = nn.Conv2d(3, sizes.width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(sizes.width))
        self.positional_embedding = nn.Parameter(torch.zeros(tokens, sizes.width))
        self.ln_pre, self.ln_post = nn.LayerNorm(sizes.width, eps=sizes.eps), nn.LayerNorm(sizes.width, eps=sizes.eps)
        self.blocks = blocks(sizes)
        self.proj = nn.Linear(sizes.width, embedding, bias=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.view(1, 1, -1).expand(patches.size(0), 1, -1)
        x_NLD = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
        for block in self.blocks:
            x_NLD = block(x_NLD, False)
        return self.proj(self.ln_post(x_NLD[:, 0]))


class TextTower(nn.Module):
    """[N,L] int64 token ids → [N,E], not normalised: the embedding at the first end of text."""

    def __init__(self, sizes: Sizes, vocabulary: int, length: int, embedding: int, eos_id: int):
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, sizes.width)
        self.positional_embedding = nn.Parameter(torch.zeros(length, sizes.width))
        self.blocks = blocks(sizes)
        self.ln_final = nn.LayerNorm(sizes.width, eps=sizes.eps)
        self.text_projection = nn.Linear(sizes.width, embedding, bias=False)
        self.eos_id = eos_id

    def forward(self, tokens_NL: torch.Tensor) -> torch.Tensor:
        x_NLD = self.token_embedding(tokens_NL) + self.positional_embedding[:tokens_NL.size(1)]
        for block in self.blocks:
            x_NLD = block(x_NLD, True)
        # argmax: the first one where several are equal, since padding may be the end of text, too.
        end_N = (tokens_NL == self.eos_id).to(torch.int64).argmax(dim=1)
        rows = torch.arange(tokens_NL.size(0), device=tokens_NL.device)
        return self.text_projection(self.ln_final(x_NLD[rows, end_N]))


def unit(x_NE: torch.Tensor) -> torch.Tensor:
    """Rows of length 1."""
    return x_NE / x_NE.norm(p=2, dim=-1, keepdim=True)
