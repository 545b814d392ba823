"""The demo's networks: Stable Diffusion's own architecture at 1.6 million parameters, and a small classifier."""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

MAX_TOKENS = 77


class Classifier(torch.nn.Module):
    """Images [N,3,32,32] in [0,1] to logits [N,10]; any N."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 16, 3, padding=1)
        self.norm1 = torch.nn.BatchNorm2d(16)
        self.conv2 = torch.nn.Conv2d(16, 32, 3, padding=1)
        self.norm2 = torch.nn.BatchNorm2d(32)
        self.conv3 = torch.nn.Conv2d(32, 64, 3, padding=1)
        self.norm3 = torch.nn.BatchNorm2d(64)
        self.hidden = torch.nn.Linear(64 * 4 * 4, 56)
        self.logits = torch.nn.Linear(56, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = 2 * images - 1
        x = torch.max_pool2d(torch.relu(self.norm1(self.conv1(x))), 2)
        x = torch.max_pool2d(torch.relu(self.norm2(self.conv2(x))), 2)
        x = torch.max_pool2d(torch.relu(self.norm3(self.conv3(x))), 2)
        return self.logits(torch.relu(self.hidden(torch.flatten(x, 1))))


def make_vae():
    return AutoencoderKL(
        block_out_channels=[16, 32, 64],
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
    )


def make_unet():
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=[32, 64],
        down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"],
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=4,  # diffusers reads this as the number of heads
        norm_num_groups=16,
    )


def make_text_encoder(vocabulary_size):
    config = CLIPTextConfig(
        vocab_size=vocabulary_size,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=64,
        hidden_act="quick_gelu",
        bos_token_id=vocabulary_size - 2,
        eos_token_id=vocabulary_size - 1,
        pad_token_id=vocabulary_size - 1,
    )
    return CLIPTextModel(config)


def make_scheduler():
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
        prediction_type="epsilon",
    )
